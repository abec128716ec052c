"""Where in a picture an encoder looks: CLIP's attention from CLS to the patches, and stripe occlusion for a text.

Both work with any CLIP and any E2. E2's own selection maps come out of its forward pass and need neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
#: Bands that are embedded at once.
BAND_BATCH = 128


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
    with eager_attention(model):
        output = model.vision_model(pixel_values=pixel_values, output_attentions=True)
    others = 1 + getattr(model.vision_model, "token_count", 0)
    layers = [number for number, layer in enumerate(output.attentions or (), 1) if layer.shape[-1] > others]
    if not layers:
        raise E2FashionError(
            f"{type(model).__name__} yields no attention from CLS to patches: give a CLIP or an E2 whose image tower "
            "Transformers can run with eager attention"
        )
    weights = output.attentions[layers[-1] - 1]
    patches = weights.shape[-1] - others
    return reduce(weights[:, :, 0, 1 : 1 + patches].float(), "b heads p -> b p", "mean"), layers[-1]


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


def heat_of_patches(heat: Tensor, side: int) -> Tensor:
    """Mean heat of every patch: (..., H, W) to (..., P), P = side * side."""
    return reduce(heat, "... (rows h) (columns w) -> ... (rows columns)", "mean", rows=side, columns=side)
