"""Where in an image an encoder looks: E2's selection tokens, CLS's attention, its rollout, stripe occlusion for a text.

:data:`SCORERS` holds them by name. All but the tokens work with any CLIP and any E2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange, reduce, repeat
from torch import Tensor
from transformers import CLIPModel

from e2fashion.data.transforms import normalize
from e2fashion.encoder import Encoder
from e2fashion.tasks.localization.config import Bands
from e2fashion.types import E2FashionError, Entity


@dataclass(frozen=True)
class Attribution:
    """Where a scorer looks in B images: ``maps`` (B, E, M), higher is better, of M = n * n cells of the square.

    E is 1 where the map is the same for every entity or text. ``selected`` holds each entity's patches (B, k) int64,
    -1 for the null patch; None: the k highest of its map. ``layer`` counts the finished layers after which it looks, 0
    for the whole encoder.
    """

    layer: int
    maps: Tensor
    selected: tuple[Tensor, ...] | None = None


Queries = Callable[[], Tensor]
"""The texts that a scorer is asked about, (B, E, C); computed only where it reads them."""


@dataclass(frozen=True)
class Scorer:
    """A way to attribute an encoder's features to patches.

    ``attribute`` takes the encoder, normalized images (B, 3, S, S), the text embeddings of the entities, the entities
    and the settings of occlusion. ``subject`` says what the maps are about: each text, each entity, or the image as a
    whole. ``heading`` titles a figure, with ``{layer}`` where one is meant. ``reads_cls``: of a CLIP or an E2 with CLS.
    """

    attribute: Callable[[Encoder, Tensor, Queries, Sequence[Entity], Bands], list[Attribution]]
    subject: Literal["text", "entity", "image"]
    heading: str
    reads_cls: bool = False


def selects(encoder: Encoder) -> bool:
    """Whether an encoder has selection tokens and fusion blocks in which they select."""
    return bool(encoder.fusion_layers)


def token_slices(entities: Sequence[Entity]) -> dict[str, slice]:
    """The selection tokens of each entity, as a slice of the tokens of all ``entities``."""
    ends = accumulate(entity.tokens for entity in entities)
    return {entity.name: slice(end - entity.tokens, end) for entity, end in zip(entities, ends, strict=True)}


def _tokens(
    encoder: Encoder, pixels: Tensor, queries: Queries, entities: Sequence[Entity], bands: Bands
) -> list[Attribution]:
    """What the entities' selection tokens read, per fusion block; an entity's map is the mean over its tokens."""
    output: Any = encoder.model.get_image_features(pixels, output_selection_maps=True)
    slices = token_slices(encoder.entities)
    tokens = [slices[entity.name] for entity in entities]
    return [
        Attribution(
            layer,
            torch.stack([output.selection_maps[:, block, part].float().mean(1) for part in tokens], 1),
            tuple(output.selected_patches[:, block, part].flatten(1) for part in tokens),
        )
        for block, layer in enumerate(encoder.fusion_layers)
    ]


def _attention(
    encoder: Encoder, pixels: Tensor, queries: Queries, entities: Sequence[Entity], bands: Bands
) -> list[Attribution]:
    heat, layer = attention_map(encoder.model, pixels)
    return [Attribution(layer, heat[:, None])]


def _rollout(
    encoder: Encoder, pixels: Tensor, queries: Queries, entities: Sequence[Entity], bands: Bands
) -> list[Attribution]:
    heat, layer = attention_rollout(encoder.model, pixels)
    return [Attribution(layer, heat[:, None])]


def _occlusion(
    encoder: Encoder, pixels: Tensor, queries: Queries, entities: Sequence[Entity], bands: Bands
) -> list[Attribution]:
    heat = stripe_occlusion(encoder.image_features, pixels, queries(), bands)
    return [Attribution(0, rearrange(heat, "b e h w -> b e (h w)"))]


SCORERS: dict[str, Scorer] = {
    "tokens": Scorer(_tokens, "entity", "selection tokens"),
    "attention": Scorer(_attention, "image", "attention, layer {layer}", reads_cls=True),
    "rollout": Scorer(_rollout, "image", "rollout, layers 1 to {layer}", reads_cls=True),
    "occlusion": Scorer(_occlusion, "text", "stripe occlusion"),
}
"""By name, as in ``selection=tokens,attention`` and ``methods=occlusion``."""


def attributions(
    encoder: Encoder,
    squares: Tensor,
    queries: Queries,
    entities: Sequence[Entity],
    methods: Sequence[str],
) -> Iterator[tuple[str, Attribution]]:
    """What every method attributes to the patches of ``squares`` (B, 3, H, W), uint8, with its name, per block."""
    transform = encoder.transform
    pixels = normalize(squares.to(encoder.model.device), transform.mean, transform.std)
    for method in methods:
        for attribution in SCORERS[method].attribute(encoder, pixels, queries, entities, Bands()):
            yield method, attribution


def check_methods(methods: Sequence[str], key: str, encoder: Encoder) -> None:
    """Raise an E2FashionError, which names the ``key``, for a scorer that does not exist or needs another encoder."""
    if unknown := [method for method in methods if method not in SCORERS]:
        raise E2FashionError(f"{key} is '{unknown[0]}'; choose among {', '.join(SCORERS)}.")
    if encoder.backbone == "siglip" and (by_cls := [method for method in methods if SCORERS[method].reads_cls]):
        raise E2FashionError(
            f"{key} is '{by_cls[0]}', but '{encoder.name}' is a SigLIP, which has no CLS whose attention could be "
            "shown: choose occlusion, or tokens for an E2."
        )


@contextmanager
def eager_attention(model: CLIPModel) -> Iterator[None]:
    """The image tower with eager attention, the only one that returns its weights; restored at the end."""
    tower: Any = model.vision_model
    before = tower.config._attn_implementation
    tower.set_attn_implementation("eager")
    try:
        yield
    finally:
        tower.set_attn_implementation(before)


def attention_map(model: CLIPModel, pixel_values: Tensor) -> tuple[Tensor, int]:
    """How much CLS attends to each patch of images (B, 3, H, W), mean over heads: (B, P), and in which layer.

    It is the last layer that sees patches: CLIP's last one, in an E2 the one before its last fusion block. Attention
    to CLS itself and to selection tokens is left out, so that rows sum to less than one.

    Raises:
        E2FashionError: the model yields no attention, or has no CLS.
    """
    layers, patches = _attention_to_patches(model, pixel_values)
    return reduce(layers[-1][:, :, 0, 1 : 1 + patches], "b heads p -> b p", "mean"), len(layers)


def attention_rollout(model: CLIPModel, pixel_values: Tensor) -> tuple[Tensor, int]:
    """How much of each patch of images (B, 3, H, W) arrives at CLS if attention mixes them: (B, P), and in which layer.

    Attention rollout (Abnar and Zuidema, ACL 2020): every layer's mean over heads, half of it and half the token
    itself for the residual, multiplied from the first layer to the last that sees patches. What an E2's fusion blocks
    carry from patches to selection tokens is not included.

    Raises:
        E2FashionError: the model yields no attention, or has no CLS.
    """
    layers, patches = _attention_to_patches(model, pixel_values)
    size = layers[0].shape[-1]
    identity = torch.eye(size, device=pixel_values.device)
    arrived = identity[None, 0].expand(len(pixel_values), 1, size)  # from CLS backwards: a row, not a square
    for layer in reversed(layers):
        arrived = arrived @ (0.5 * reduce(layer, "b heads q k -> b q k", "mean") + 0.5 * identity)
    return arrived[:, 0, 1 : 1 + patches], len(layers)


def _attention_to_patches(model: CLIPModel, pixel_values: Tensor) -> tuple[list[Tensor], int]:
    """Attention (B, heads, T, T) fp32 of the layers that see patches, from the first on, and the number of patches."""
    if not getattr(model.vision_model, "leading", 1):
        raise E2FashionError(
            "a SigLIP has no CLS whose attention could be shown: choose the method occlusion, or tokens for an E2"
        )
    with eager_attention(model):
        output = model.vision_model(pixel_values=pixel_values, output_attentions=True)
    others = 1 + getattr(model.vision_model, "token_count", 0)
    layers = [layer.float() for layer in output.attentions or () if layer.shape[-1] > others]
    if not layers:
        raise E2FashionError(
            f"{type(model).__name__} yields no attention from CLS to patches: give a CLIP or an E2 whose image tower "
            "Transformers can run with eager attention"
        )
    return layers, layers[0].shape[-1] - others


def bands(grid: int, length: int) -> Tensor:
    """Every stretch between two lines of a grid but the whole: (M, length) bool, M = grid (grid + 1) / 2 - 1.

    Raises:
        E2FashionError: ``grid`` is below 2 or above ``length``.
    """
    if not 2 <= grid <= length:
        raise E2FashionError(f"the grid of bands is {grid}; give 2 or more, and at most the {length} pixels of a side")
    lines = [round(line * length / grid) for line in range(grid + 1)]
    masks = torch.zeros(grid * (grid + 1) // 2 - 1, length, dtype=torch.bool)
    stretches = [(i, j) for i in range(grid) for j in range(i + 1, grid + 1) if j - i < grid]
    for mask, (i, j) in zip(masks, stretches, strict=True):
        mask[lines[i] : lines[j]] = True
    return masks


@torch.inference_mode()
def stripe_occlusion(
    embed: Callable[[Tensor], Tensor], pixel_values: Tensor, text_embeds: Tensor, settings: Bands | None = None
) -> Tensor:
    """Heat (B, E, H, W) in [0, 1] of E texts per image, by keeping one horizontal or vertical band at a time.

    A band's gain is its cosine to the text less that of the whole image, if positive; a pixel's heat is the mean gain
    over all bands, each counting only where it is; then the mean is subtracted, what is below is cut off, and the
    rest scaled to one (FashionCLIP's method). A text that no band serves better than the whole has heat 0 everywhere.

    Args:
        embed: images (n, 3, H, W) to features (n, C), normalized or not.
        pixel_values: normalized images (B, 3, H, W); outside a band they become 0, CLIP's mean color, a gray.
        text_embeds: (B, E, C), normalized or not.
        settings: grid of the bands, and how many are embedded at once (on a CPU larger batches leave its cache).
    """
    settings = settings or Bands()
    height, width = pixel_values.shape[-2:]
    across, down = bands(settings.grid, height), bands(settings.grid, width)
    keep = torch.cat([repeat(across, "m h -> m 1 h w", w=width), repeat(down, "m w -> m 1 h w", h=height)])
    keep = keep.to(pixel_values.device)
    heats = []
    for image, texts in zip(pixel_values, F.normalize(text_embeds.float(), dim=-1), strict=True):
        parts = [embed(image[None]), *(embed(image * part) for part in keep.split(settings.batch_size))]
        scores = F.normalize(torch.cat(parts).float(), dim=-1) @ texts.T.to(image.device)  # (1 + M, E)
        gains = (scores[1:] - scores[0]).clamp(min=0).T.cpu()
        heat = rearrange(gains[:, : len(across)] @ across.float(), "e h -> e h 1")
        heat = heat + rearrange(gains[:, len(across) :] @ down.float(), "e w -> e 1 w")
        heats.append(heat / gains.shape[1])
    return _stretched(torch.stack(heats))


def _stretched(heat: Tensor) -> Tensor:
    """Centered, cut at zero, and scaled to [0, 1] per map (..., H, W); a flat one becomes 0."""
    above = (heat - heat.mean((-2, -1), keepdim=True)).clamp(min=0)
    low, high = above.amin((-2, -1), keepdim=True), above.amax((-2, -1), keepdim=True)
    # Rounding makes a flat map not quite flat; it must not be scaled up.
    flat = high - low <= 1e-6 * heat.abs().amax((-2, -1), keepdim=True).clamp(min=1e-12)
    return torch.where(flat, torch.zeros_like(above), (above - low) / (high - low).clamp(min=1e-12))


def gray_square(image: Tensor, gray: Sequence[float]) -> Tensor:
    """An image uint8 (3, H, W) in the middle of a square of its longer side, (3, N, N), as FashionCLIP explains it.

    ``gray`` (3,) are levels from 0 to 1: an encoder's mean color, so that the padding is to the encoder what is
    masked.
    """
    height, width = image.shape[-2:]
    side = max(height, width)
    levels = torch.tensor([round(255 * level) for level in gray], dtype=image.dtype)
    square = repeat(levels, "c -> c h w", h=side, w=side).clone()
    top, left = (side - height) // 2, (side - width) // 2
    square[:, top : top + height, left : left + width] = image
    return square


def heat_of_patches(heat: Tensor, side: int) -> Tensor:
    """Mean heat of every patch: (..., H, W) to (..., P), P = side * side."""
    return reduce(heat, "... (rows h) (columns w) -> ... (rows columns)", "mean", rows=side, columns=side)
