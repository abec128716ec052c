"""A logo of SynthFashion on a photo, at a place that is recorded: a real background with a known truth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from e2fashion.data.synthfashion.drawing import eroded
from e2fashion.data.synthfashion.logos import build_logo
from e2fashion.types import Box

_CELLS = 96
"""Longer side of the copy on which the garment is looked for, in pixels."""
_CONTRAST = 24
"""Gray levels by which a garment's pixel differs from the photo's border, in the channel that differs most."""
_TURN = 9.0
"""Degrees by which a logo is turned at most, as in SynthFashion."""


def draw_logo(photo: Image.Image, brand: str, size: float, random: np.random.Generator) -> tuple[Image.Image, Box]:
    """A copy of ``photo`` (RGB) with the logo of ``brand``, and the box that the logo covers.

    The logo's side is the share ``size`` of the photo's shorter side. It is drawn on the garment: where the photo
    differs from its border, with some room around it if there is any.
    """
    side = max(4, round(size * min(photo.size)))
    middle_x, middle_y = _place(photo, side, random)
    left, top = middle_x - side // 2, middle_y - side // 2
    ground = photo.crop((left, top, left + side, top + side)).convert("L")
    dark = float(np.asarray(ground, dtype=np.float64).mean()) < 128
    turned = build_logo(brand, 4 * side, dark).rotate(float(random.uniform(-_TURN, _TURN)), Image.Resampling.BICUBIC)
    # With colors multiplied by opacity, as interpolation needs them, and back once the logo is small.
    logo = turned.convert("RGBa").reduce(4).convert("RGBA")
    result = photo.copy()
    result.paste(logo, (left, top), mask=logo)
    seen = logo.getchannel("A").point([0] * 32 + [255] * 224).getbbox() or (0, 0, side, side)
    width, height = photo.size
    box = Box(
        max(0.0, (left + seen[0]) / width),
        max(0.0, (top + seen[1]) / height),
        min(1.0, (left + seen[2]) / width),
        min(1.0, (top + seen[3]) / height),
    )
    return result, box


def _place(photo: Image.Image, side: int, random: np.random.Generator) -> tuple[int, int]:
    """The middle of a square of ``side`` pixels on the garment, inside the photo."""
    scale = min(1.0, _CELLS / max(photo.size))
    small = photo.resize((max(1, round(photo.width * scale)), max(1, round(photo.height * scale))))
    garment = _garment(np.asarray(small, dtype=np.int16))
    half = side / 2
    down, across = ((np.arange(count) + 0.5) / scale for count in garment.shape)
    fits_down = (down >= half) & (down <= photo.height - half)
    fits_across = (across >= half) & (across <= photo.width - half)
    inside = np.outer(fits_down, fits_across)
    free = inside if inside.any() else np.ones_like(inside)
    for reach in range(round(half * scale) + 1, -1, -1):
        if (on_garment := np.logical_and(eroded(garment, reach), inside)).any():
            free = on_garment
            break
    candidates = np.flatnonzero(free)
    row, column = divmod(int(candidates[int(random.integers(len(candidates)))]), free.shape[1])
    low, high_x, high_y = side // 2, photo.width - (side - side // 2), photo.height - (side - side // 2)
    return min(max(int(across[column]), low), max(low, high_x)), min(max(int(down[row]), low), max(low, high_y))


def _garment(pixels: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Where (H, W, 3) differs from the median of its border: (H, W)."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return np.asarray(np.abs(pixels - np.median(border, axis=0)).max(axis=-1) > _CONTRAST)
