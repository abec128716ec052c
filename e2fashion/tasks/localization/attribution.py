"""Where in a picture an encoder looks: attention from CLS to the patches, its rollout, stripe occlusion for a text.

All work with any CLIP and any E2. E2's own selection maps come out of its forward pass and need none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, reduce, repeat
from torch import Tensor
from transformers import CLIPModel

from e2fashion.types import E2FashionError

#: Rows and columns of the grid on which bands begin and end (ours).
BAND_GRID = 8
#: Bands that are embedded at once: on a CPU larger batches leave its cache (ours).
BAND_BATCH = 24


@contextmanager
def eager_attention(model: CLIPModel) -> Iterator[None]:
    """The image tower with eager attention, the only kind that hands its weights out; as before when it ends."""
    tower: Any = model.vision_model
    before = tower.config._attn_implementation
    tower.set_attn_implementation("eager")
    try:
        yield
    finally:
        tower.set_attn_implementation(before)


def attention_map(model: CLIPModel, pixel_values: Tensor) -> tuple[Tensor, int]:
    """How much CLS attends to each patch of images (B, 3, H, W), mean over heads: (B, P), and in which layer.

    It is the last layer that sees patches: CLIP's last one, in an E2 the one before its last fusion block. What CLS
    attends to besides (itself, selection tokens) is left out, so that rows sum to less than one.

    Raises:
        E2FashionError: the model yields no attention.
    """
    layers, patches = _attention_to_patches(model, pixel_values)
    return reduce(layers[-1][:, :, 0, 1 : 1 + patches], "b heads p -> b p", "mean"), len(layers)


def attention_rollout(model: CLIPModel, pixel_values: Tensor) -> tuple[Tensor, int]:
    """How much of each patch of images (B, 3, H, W) arrives at CLS if attention mixes them: (B, P), and in which layer.

    Attention rollout (Abnar and Zuidema, ACL 2020): every layer's mean over heads, half of it and half the token
    itself for the residual, multiplied from the first layer to the last that sees patches. What an E2's fusion blocks
    carry from patches to selection tokens besides has no part in it.

    Raises:
        E2FashionError: the model yields no attention.
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
    """Every stretch between two lines of a grid but the whole: (M, length) bool, M = grid (grid + 1) / 2 - 1."""
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
    embed: Callable[[Tensor], Tensor],
    pixel_values: Tensor,
    text_embeds: Tensor,
    grid: int = BAND_GRID,
    batch_size: int = BAND_BATCH,
) -> Tensor:
    """Heat (B, E, H, W) in [0, 1] of E texts per image, by keeping one horizontal or vertical band at a time.

    A band's gain is its cosine to the text less that of the whole image, if positive; a pixel's heat is the mean gain
    over all bands, each counting only where it is; then the mean is subtracted, what is below is cut off, and the
    rest scaled to one (FashionCLIP's method). A text that no band serves better than the whole has heat 0 everywhere.

    Args:
        embed: images (n, 3, H, W) to features (n, C), normalised or not.
        pixel_values: normalised images (B, 3, H, W); outside a band they become 0, CLIP's mean colour, a grey.
        text_embeds: (B, E, C), normalised or not.
        grid: lines on which bands begin and end, per side.
        batch_size: bands that are embedded at once.
    """
    height, width = pixel_values.shape[-2:]
    across, down = bands(grid, height), bands(grid, width)
    keep = torch.cat([repeat(across, "m h -> m 1 h w", w=width), repeat(down, "m w -> m 1 h w", h=height)])
    keep = keep.to(pixel_values.device)
    heats = []
    for image, texts in zip(pixel_values, F.normalize(text_embeds.float(), dim=-1), strict=True):
        parts = [embed(image[None]), *(embed(image * part) for part in keep.split(batch_size))]
        scores = F.normalize(torch.cat(parts).float(), dim=-1) @ texts.T.to(image.device)  # (1 + M, E)
        gains = (scores[1:] - scores[0]).clamp(min=0).T.cpu()
        heat = rearrange(gains[:, : len(across)] @ across.float(), "e h -> e h 1")
        heat = heat + rearrange(gains[:, len(across) :] @ down.float(), "e w -> e 1 w")
        heats.append(heat / gains.shape[1])
    return _stretched(torch.stack(heats))


def _stretched(heat: Tensor) -> Tensor:
    """Centred, cut at zero, and scaled to [0, 1] per map (..., H, W); a flat one becomes 0."""
    above = (heat - heat.mean((-2, -1), keepdim=True)).clamp(min=0)
    low, high = above.amin((-2, -1), keepdim=True), above.amax((-2, -1), keepdim=True)
    # Rounding makes a flat map not quite flat; it must not be blown up into a picture.
    flat = high - low <= 1e-6 * heat.abs().amax((-2, -1), keepdim=True).clamp(min=1e-12)
    return torch.where(flat, torch.zeros_like(above), (above - low) / (high - low).clamp(min=1e-12))


def grey_square(picture: Tensor, grey: Sequence[float]) -> Tensor:
    """A picture uint8 (3, H, W) in the middle of a square of its longer side, (3, N, N), as FashionCLIP explains it.

    ``grey`` (3,) are levels from 0 to 1: an encoder's mean colour, so that what is beside the picture is to the encoder
    what is masked.
    """
    height, width = picture.shape[-2:]
    side = max(height, width)
    levels = torch.tensor([round(255 * level) for level in grey], dtype=picture.dtype)
    square = repeat(levels, "c -> c h w", h=side, w=side).clone()
    top, left = (side - height) // 2, (side - width) // 2
    square[:, top : top + height, left : left + width] = picture
    return square


def heat_of_patches(heat: Tensor, side: int) -> Tensor:
    """Mean heat of every patch: (..., H, W) to (..., P), P = side * side."""
    return reduce(heat, "... (rows h) (columns w) -> ... (rows columns)", "mean", rows=side, columns=side)
