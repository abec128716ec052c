"""Fictional brands: each has a small logo, a glyph on a badge in two colors of its own; also drawn on photos."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from e2fashion.data.synthfashion.drawing import INK, WHITE, Color, eroded
from e2fashion.types import Box

Stroke = tuple[str, tuple[float, ...]]
"""A piece of a glyph in a square from -1 to 1: ``fill``, ``cut`` (polygons), ``disc``, ``hole`` (x, y, radius) or
``line`` (points, then width)."""

RED: Color = (206, 32, 44)
BLUE: Color = (28, 70, 190)
YELLOW: Color = (255, 214, 30)
GREEN: Color = (20, 134, 66)
ORANGE: Color = (255, 122, 20)
PURPLE: Color = (112, 44, 156)
PINK: Color = (255, 96, 166)
CYAN: Color = (40, 196, 224)


@dataclass(frozen=True)
class Brand:
    """The logo of a label: a glyph on a badge."""

    badge: str
    ground: Color
    ink: Color
    glyph: tuple[Stroke, ...]


def _star(points: int, outer: float, inner: float) -> tuple[float, ...]:
    """Corners (x, y, x, y ...) of a star that stands on its middle, or of a polygon of twice as many ``points``."""
    corners: list[float] = []
    for corner in range(2 * points):
        radius = inner if corner % 2 else outer
        angle = 2 * pi * (corner / (2 * points) - 0.25)
        corners += [radius * cos(angle), radius * sin(angle)]
    return tuple(corners)


BRANDS: dict[str, Brand] = {
    "Auvenne": Brand("disc", RED, WHITE, (("fill", _star(5, 0.80, 0.34)),)),
    "Brackenfold": Brand("square", GREEN, WHITE, (
        ("fill", (0, -0.85, 0.6, -0.1, 0.25, -0.1, 0.7, 0.5, -0.7, 0.5, -0.25, -0.1, -0.6, -0.1)),
        ("fill", (-0.14, 0.5, 0.14, 0.5, 0.14, 0.85, -0.14, 0.85)))),
    "Calderwick": Brand("shield", BLUE, YELLOW, (
        ("fill", (-0.7, -0.5, 0, -0.05, 0.7, -0.5, 0.7, -0.12, 0, 0.33, -0.7, -0.12)),
        ("fill", (-0.7, 0.08, 0, 0.53, 0.7, 0.08, 0.55, 0.42, 0, 0.85, -0.55, 0.42)))),
    "Dovetide": Brand("disc", CYAN, INK, (
        ("line", (-0.7, -0.2, -0.35, -0.5, 0, -0.2, 0.35, -0.5, 0.7, -0.2, 0.22)),
        ("line", (-0.7, 0.35, -0.35, 0.05, 0, 0.35, 0.35, 0.05, 0.7, 0.35, 0.22)))),
    "Emberlyn": Brand("diamond", ORANGE, INK, (
        ("fill", (0, -0.62, 0.34, -0.1, 0.36, 0.28, 0, 0.55, -0.36, 0.28, -0.3, -0.02, -0.1, 0.1)),)),
    "Fjordane": Brand("square", INK, CYAN, (
        ("fill", (-0.85, 0.65, -0.25, -0.55, 0.1, 0.1, 0.35, -0.25, 0.85, 0.65)),)),
    "Galewright": Brand("none", INK, YELLOW, (
        ("fill", (0.35, -0.98, -0.62, 0.16, -0.06, 0.16, -0.3, 0.98, 0.66, -0.22, 0.1, -0.22)),)),
    "Hexmoor": Brand("hexagon", PURPLE, WHITE, (("disc", (0, 0, 0.52)), ("hole", (0, 0, 0.25)))),
    "Ilvarra": Brand("disc", INK, YELLOW, (("disc", (-0.08, 0, 0.66)), ("hole", (0.24, -0.1, 0.54)))),
    "Jasperine": Brand("square", PINK, WHITE, (
        ("disc", (-0.33, -0.25, 0.36)), ("disc", (0.33, -0.25, 0.36)),
        ("fill", (-0.67, -0.12, 0.67, -0.12, 0, 0.76)))),
    "Kestrelle": Brand("shield", WHITE, RED, (
        ("fill", (-0.2, -0.72, 0.2, -0.72, 0.2, -0.3, 0.62, -0.3, 0.62, 0.08, 0.2, 0.08, 0.2, 0.7, -0.2, 0.7, -0.2,
                  0.08, -0.62, 0.08, -0.62, -0.3, -0.2, -0.3)),)),
    "Lumenwear": Brand("disc", YELLOW, ORANGE, (("fill", _star(8, 0.90, 0.42)), ("disc", (0, 0, 0.34)))),
    "Marrowick": Brand("square", YELLOW, INK, (
        ("fill", (-0.78, 0.7, -0.78, -0.7, -0.5, -0.7, 0, -0.05, 0.5, -0.7, 0.78, -0.7, 0.78, 0.7, 0.44, 0.7, 0.44,
                  -0.1, 0, 0.45, -0.44, -0.1, -0.44, 0.7)),)),
    "Noctuelle": Brand("disc", PURPLE, YELLOW, (
        ("disc", (-0.34, -0.1, 0.32)), ("disc", (0.34, -0.1, 0.32)), ("hole", (-0.34, -0.1, 0.14)),
        ("hole", (0.34, -0.1, 0.14)), ("fill", (-0.16, 0.28, 0.16, 0.28, 0, 0.62)))),
    "Orinsette": Brand("none", RED, WHITE, (("disc", (0, 0, 0.94)), ("hole", (0, 0, 0.60)), ("disc", (0, 0, 0.30)))),
    "Pellworth": Brand("diamond", BLUE, WHITE, (
        ("fill", (-0.42, -0.26, 0.42, -0.26, 0.42, -0.02, -0.42, -0.02)),
        ("fill", (-0.42, 0.12, 0.42, 0.12, 0.42, 0.36, -0.42, 0.36)))),
    "Quillon": Brand("square", WHITE, BLUE, (
        ("fill", (-0.2, -0.85, 0.85, 0, -0.2, 0.85, -0.2, 0.32, -0.85, 0.32, -0.85, -0.32, -0.2, -0.32)),)),
    "Rivenhall": Brand("square", RED, INK, (("line", (-0.66, -0.66, 0.66, 0.66, 0.34)),
                                            ("line", (-0.66, 0.66, 0.66, -0.66, 0.34)))),
    "Solvane": Brand("banner", ORANGE, WHITE, (
        ("disc", (0, 0.34, 0.48)), ("hole", (0, 0.34, 0.22)),
        ("line", (-0.72, 0.3, -0.95, 0.22, 0.16)), ("line", (0.72, 0.3, 0.95, 0.22, 0.16)),
        ("line", (0, -0.3, 0, -0.55, 0.16)), ("line", (-0.5, -0.15, -0.68, -0.36, 0.16)),
        ("line", (0.5, -0.15, 0.68, -0.36, 0.16)))),
    "Tarnbrook": Brand("disc", WHITE, GREEN, (
        ("fill", (-0.68, 0.2, -0.30, -0.32, 0.22, -0.36, 0.5, 0.0, 0.8, -0.32, 0.8, 0.42, 0.5, 0.1, 0.15, 0.42,
                  -0.35, 0.42)),)),
    "Umbrelle": Brand("none", BLUE, WHITE, (
        ("fill", (-0.96, 0.1, -0.8, -0.45, -0.3, -0.8, 0.3, -0.8, 0.8, -0.45, 0.96, 0.1)),
        ("line", (0, 0, 0, 0.8, 0.3, 0.92, 0.42, 0.66, 0.2)))),
    "Vesperly": Brand("hexagon", PINK, INK, (
        ("fill", (-0.62, -0.46, -0.26, -0.46, 0, 0.2, 0.26, -0.46, 0.62, -0.46, 0.18, 0.62, -0.18, 0.62)),)),
    "Wrenfield": Brand("banner", GREEN, YELLOW, (
        ("fill", (-0.95, 0.62, -0.95, -0.55, -0.45, 0.05, 0, -0.75, 0.45, 0.05, 0.95, -0.55, 0.95, 0.62)),)),
    "Yarrowby": Brand("square", CYAN, WHITE, (
        ("disc", (0, -0.44, 0.34)), ("disc", (0, 0.44, 0.34)), ("disc", (-0.44, 0, 0.34)), ("disc", (0.44, 0, 0.34)),
        ("hole", (0, 0, 0.2)))),
}  # fmt: skip

_BADGES: dict[str, tuple[float, ...]] = {
    "disc": _star(20, 0.98, 0.98),
    "square": (-0.90, -0.80, -0.80, -0.90, 0.80, -0.90, 0.90, -0.80, 0.90, 0.80, 0.80, 0.90, -0.80, 0.90, -0.90, 0.80),
    "hexagon": _star(3, 1.0, 1.0),
    "diamond": _star(2, 1.0, 1.0),
    "shield": (-0.88, -0.88, 0.88, -0.88, 0.88, 0.2, 0.6, 0.66, 0, 1.0, -0.6, 0.66, -0.88, 0.2),
    "banner": (-1.0, -0.68, 1.0, -0.68, 1.0, 0.68, -1.0, 0.68),
}
_SQUASH = {"banner": 0.62}
_SHRINK = {"disc": 0.86, "square": 0.84, "hexagon": 0.90, "diamond": 0.98, "shield": 0.84, "banner": 0.84}


def _stroke(image: ImageDraw.ImageDraw, stroke: Stroke, colors: tuple[Color, Color | None], center: float,
            scale: tuple[float, float], grow: float) -> None:  # fmt: skip
    """Draw one piece of a glyph; ``grow`` (pixels) thickens it, for the rim around logos without a badge."""
    kind, numbers = stroke
    ink, ground = colors
    if kind in ("disc", "hole"):
        x, y, radius = numbers
        if kind == "hole" and grow:
            return
        fill = ink if kind == "disc" else ground
        reach_x, reach_y = radius * scale[0] + grow, radius * scale[1] + grow
        x, y = center + x * scale[0], center + y * scale[1]
        image.ellipse([x - reach_x, y - reach_y, x + reach_x, y + reach_y], fill=fill or (0, 0, 0, 0))
        return
    width = numbers[-1] if kind == "line" else 0.0
    flat = numbers[:-1] if kind == "line" else numbers
    points = [(center + x * scale[0], center + y * scale[1]) for x, y in zip(flat[::2], flat[1::2], strict=True)]
    if kind == "line":
        image.line(points, fill=ink, width=round(width * scale[0] + 2 * grow), joint="curve")
    else:
        image.polygon(points, fill=ink)
        if grow:
            image.line([*points, points[0], points[1]], fill=ink, width=round(2 * grow), joint="curve")


@lru_cache(maxsize=256)
def build_logo(name: str, size: int, dark_ground: bool) -> Image.Image:
    """The logo of a brand: RGBA, (size, size), with a rim that stands out from a dark or a light ground (cached)."""
    brand = BRANDS[name]
    fine = 8 * size
    mid = fine / 2
    rim = WHITE if dark_ground else INK
    image = Image.new("RGBA", (fine, fine), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    edge = fine * 0.055
    if brand.badge == "none":
        scale = (mid - edge, mid - edge)
        for stroke in brand.glyph:
            _stroke(draw, stroke, (rim, None), mid, scale, edge * 0.9)
        for stroke in brand.glyph:
            _stroke(draw, stroke, (brand.ground if brand.ground != INK else brand.ink, rim), mid, scale, 0)
    else:
        outer, inner = mid, mid - edge
        corners = _BADGES[brand.badge]
        for reach, color in ((outer, rim), (inner, brand.ground)):
            points = [(mid + x * reach, mid + y * reach) for x, y in zip(corners[::2], corners[1::2], strict=True)]
            draw.polygon(points, fill=color)
        shrink = inner * _SHRINK[brand.badge]
        scale = (shrink, shrink * _SQUASH.get(brand.badge, 1.0))
        for stroke in brand.glyph:
            _stroke(draw, stroke, (brand.ink, brand.ground), mid, scale, 0)
    return image.reduce(8)


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
