"""A product as an image: its layout in paint, its placement in a view, and the rendered pixels with true regions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from math import cos, radians, sin

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from e2fashion.data.synthfashion.drawing import (
    COLORS,
    INK,
    WHITE,
    Color,
    dimmed,
    eroded,
    luminance,
    mixed,
    most_contrasting,
    ramp,
    rectangles,
)
from e2fashion.data.synthfashion.fabrics import FABRICS, MARGIN, texture
from e2fashion.data.synthfashion.garments import SEASONS, Trim, build_garment, build_trim, extremes
from e2fashion.data.synthfashion.logos import build_logo
from e2fashion.data.synthfashion.products import Attributes
from e2fashion.types import Box

GROUNDS: tuple[Color, ...] = (
    *((244, 243, 240), (228, 231, 235), (236, 228, 216), (214, 219, 214)),
    *((222, 212, 216), (200, 205, 212), (246, 240, 228), (190, 186, 180)),
)


@dataclass(frozen=True)
class View:
    """An image's geometry and light. ``turn`` is in degrees, ``shift`` in shares of the image.

    ``crease`` is the share of the logo that a fold swallows (0: none), from its left or right side.
    """

    scale: float
    turn: float
    shift: tuple[float, float]
    mirror: bool
    ground: Color
    light: float
    crease: float
    crease_left: bool


def build_view(index: int, view: int, seed: int) -> View:
    """The view of (seed, index, view). The first is frontal and unmirrored, the others vary freely."""
    random = np.random.default_rng([seed, index, view + 1])
    spread = 1.0 if view else 0.6
    scale, turn, right, down, light = random.uniform(-1, 1, size=5) * spread
    ground = GROUNDS[int(random.integers(len(GROUNDS)))]
    mirror, creased, crease, left = random.random(4)
    return View(
        scale=0.94 + 0.11 * float(scale),
        turn=9.0 * float(turn),
        shift=(0.06 * float(right), 0.05 * float(down)),
        mirror=bool(view and mirror < 0.5),
        ground=ground,
        light=1.0 + 0.12 * float(light),
        crease=0.3 + 0.2 * float(crease) if view and creased < 0.25 else 0.0,
        crease_left=bool(left < 0.5),
    )


@dataclass(frozen=True)
class Placement:
    """The map ``matrix @ p + offset`` from the garment's canvas to the image, both in pixels of ``size``."""

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]
    size: int

    @classmethod
    def of(cls, view: View, center: tuple[float, float], size: int) -> Placement:
        """Scale, mirror and turn around ``center`` (canvas pixels), which comes to the image's middle plus shift."""
        c, s = cos(radians(view.turn)) * view.scale, sin(radians(view.turn)) * view.scale
        sign = -1.0 if view.mirror else 1.0
        matrix = np.array([[c * sign, -s], [s * sign, c]])
        middle = np.array([size * (0.5 + view.shift[0]), size * (0.5 + view.shift[1])])
        return cls(matrix, middle - matrix @ np.array(center), size)

    def inverse(self) -> tuple[float, float, float, float, float, float]:
        """The six numbers that ``Image.transform`` wants: image to canvas."""
        back = np.linalg.inv(self.matrix)
        shift = -back @ self.offset
        return tuple(float(v) for v in (*back[0], shift[0], *back[1], shift[1]))  # type: ignore[return-value]

    def box(self, outline: NDArray[np.float64]) -> Box | None:
        """Smallest box of whole image pixels (two canvas pixels each) around mapped points (n, 2); None if outside.

        The half pixel of interpolation is included.
        """
        mapped = outline @ self.matrix.T + self.offset
        low = np.floor((mapped.min(axis=0) - 0.5) / 2).clip(0, self.size / 2)
        high = np.ceil((mapped.max(axis=0) + 0.5) / 2).clip(0, self.size / 2)
        if (high <= low).any():
            return None
        left, top, right, bottom = (float(v) for v in (*low / (self.size / 2), *high / (self.size / 2)))
        return Box(left, top, right, bottom)


LOGO_SHARE = 0.145
"""Side of a logo's square as a share of the canvas: turned and enlarged it covers at most two 16-px patches of 128."""

GRID = 32
"""Cells per side of the image in which the fabric's boxes are looked for."""

SHADOW = (24, 22, 26)


@dataclass(frozen=True)
class Layout:
    """Where things are on a garment with its trim, in canvas pixels.

    ``outline`` (n, 2) holds extreme points of the whole; ``high`` and ``low`` (n, 2) the free cells for a logo's
    middle, the upper and the lower ones; ``fabric`` (size, size) bool where a cell of ``GRID`` shows only fabric.
    """

    outline: NDArray[np.float64]
    high: NDArray[np.int16]
    low: NDArray[np.int16]
    fabric: NDArray[np.bool_]

    @property
    def middle(self) -> tuple[float, float]:
        """Middle of the garment's bounding box."""
        x, y = (self.outline.min(axis=0) + self.outline.max(axis=0)) / 2
        return float(x), float(y)


def logo_side(detail_scale: float, size: int) -> int:
    """Side of a logo's square in pixels of a canvas of ``size``; at least 2."""
    return max(2, round(LOGO_SHARE * detail_scale * size))


@lru_cache(maxsize=512)
def build_layout(
    season: str, silhouette: str, details: tuple[str, str], size: int, detail_scale: float = 1.0
) -> Layout:
    """Lay out a garment with its season's trim, for a logo of its scale (cached)."""
    garment = build_garment(silhouette, details, size)
    free = garment.fabric & (np.asarray(build_trim(season, silhouette, details, size, detail_scale).mask) == 0)
    outline = extremes(np.asarray(garment.whole) > 0)
    # Two pixels of fabric around the logo where there is room for them.
    reach = logo_side(detail_scale, size) // 2 + 2
    rows, columns = np.nonzero(eroded(free, reach))
    while not rows.size:
        reach -= 1
        rows, columns = np.nonzero(eroded(free, reach))
    cells = np.stack([columns, rows], axis=1).astype(np.int16)
    middle = (rows[0] + rows[-1]) / 2
    high, low = cells[rows < middle], cells[rows >= middle]
    # Half a cell, turned by 9 degrees (cos + sin = 1.14) and seen at the smallest scale (0.83).
    reach = int(np.ceil(size / GRID / 2 * 1.14 / 0.83))
    return Layout(outline, high if len(high) else cells, low if len(low) else cells, eroded(free, reach))


def layout_of(attributes: Attributes, size: int) -> Layout:
    """The layout of a product's garment on a canvas of ``size`` pixels."""
    return build_layout(attributes.season, attributes.sub_category, attributes.details, size, attributes.detail_scale)


def trim_of(attributes: Attributes, size: int) -> Trim:
    """The trim of a product's season on a canvas of ``size`` pixels."""
    return build_trim(attributes.season, attributes.sub_category, attributes.details, size, attributes.detail_scale)


def paint(attributes: Attributes, size: int, omit: Collection[str] = ()) -> Image.Image:
    """Paint a garment without its logo: RGBA (size, size), with its shadow, on transparent ground.

    ``omit`` names tag columns whose element is left out (tests compare images with and without it).
    """
    garment = build_garment(attributes.sub_category, attributes.details, size)
    color, fabric = COLORS[attributes.color], FABRICS[attributes.fabric]
    room = round(MARGIN * size) - size
    left, top = (round(shift * room) for shift in attributes.texture_place)
    weave = texture(attributes.fabric, size).crop((left, top, left + size, top + size))
    weave.putpalette(ramp(fabric.stops(color)))
    surface = weave.convert("RGB")
    darker = surface.point(dimmed(0.74))
    pale = luminance(color) > 170
    cords = mixed(INK, color, 0.30) if pale else mixed(WHITE, color, 0.08)
    masks = garment.masks
    canvas = Image.new("RGB", (size, size), mixed(color, INK, 0.62))
    canvas.paste(surface, mask=masks["body"])
    canvas.paste(darker, mask=masks["rib"])
    canvas.paste(cords, mask=masks["solid"])
    canvas.paste(fabric.seam or mixed(color, INK, 0.72), mask=masks["line"])
    canvas.paste(most_contrasting(((232, 226, 210), (54, 46, 40)), color), mask=masks["metal"])
    if "season" not in omit:
        season = SEASONS[attributes.season]
        trim = trim_of(attributes, size)
        canvas.paste(most_contrasting(season.accents, color), mask=trim.mask)
    canvas = ImageChops.multiply(canvas, garment.shade)
    result = Image.new("RGB", (size, size), SHADOW)
    alpha = garment.shadow
    if "sub_category" not in omit:
        result.paste(canvas, mask=garment.whole)
        alpha = ImageChops.lighter(alpha, garment.whole)
    result.putalpha(alpha)
    return result


@dataclass(frozen=True)
class Rendering:
    """A rendered view: RGB (size, size), and the boxes of every tag's element that is seen, by tag column."""

    image: Image.Image
    regions: dict[str, tuple[Box, ...]]


@dataclass(frozen=True)
class _Logo:
    """The visible part of a logo (RGBA), its corner on the canvas, and the column of the fold next to it."""

    image: Image.Image
    corner: tuple[int, int]
    fold: int | None

    @property
    def outline(self) -> NDArray[np.float64]:
        """Extreme points (n, 2) of what is seen, in canvas pixels."""
        return extremes(np.asarray(self.image.getchannel("A")) > 0) + np.array(self.corner)


def _logo(attributes: Attributes, view: View, size: int) -> _Logo:
    side = logo_side(attributes.detail_scale, size)
    image = build_logo(attributes.brand, side, luminance(COLORS[attributes.color]) < 128)
    layout = layout_of(attributes, size)
    free = layout.low if attributes.logo_low else layout.high
    x, y = free[int(attributes.logo_place * len(free))]
    fold = None
    if view.crease:
        hidden = round(view.crease * side)
        fold = hidden if view.crease_left else side - hidden
        image = image.copy()
        image.paste((0, 0, 0, 0), (0, 0, fold, side) if view.crease_left else (fold, 0, side, side))
    return _Logo(image, (int(x) - side // 2, int(y) - side // 2), fold)


@lru_cache(maxsize=64)
def _backdrop(color: Color, size: int) -> Image.Image:
    """A ground that darkens downwards: RGB (size, size)."""
    pale, deep = (Image.new("RGB", (size, size), mixed(color, *end)) for end in ((WHITE, 0.35), (INK, 0.12)))
    return Image.composite(deep, pale, Image.linear_gradient("L").resize((size, size)))


def _fabric_boxes(attributes: Attributes, logo: _Logo, placement: Placement, size: int) -> tuple[Box, ...]:
    """Up to four boxes that show fabric and nothing else."""
    reach = int(np.ceil(size / GRID * 0.65)) + 1
    free = layout_of(attributes, size).fabric.copy()
    (left, top), side = logo.corner, logo.image.width
    free[max(0, top - reach) : top + side + reach, max(0, left - reach) : left + side + reach] = False
    middles = (np.arange(GRID) + 0.5) * size / GRID
    pixels = np.stack(np.meshgrid(middles, middles), axis=-1)
    source = np.floor((pixels - placement.offset) @ np.linalg.inv(placement.matrix).T).astype(np.int64)
    inside = ((source >= 0) & (source < size)).all(axis=-1)
    column, row = source.clip(0, size - 1)[..., 0], source.clip(0, size - 1)[..., 1]
    boxes = rectangles(free[row, column] & inside, most=4, smallest=6)
    return tuple(Box(*(edge / GRID for edge in rectangle)) for rectangle in boxes)


def photograph(
    painted: Image.Image, attributes: Attributes, view: View, image_size: int, omit: Collection[str] = ()
) -> Rendering:
    """Lay a painted garment (``painting.paint``) into an image of ``image_size`` pixels.

    ``painted`` is RGBA of twice that size. ``omit`` names tag columns whose element is left out.
    """
    size = 2 * image_size
    layout, logo = layout_of(attributes, size), _logo(attributes, view, size)
    placement = Placement.of(view, layout.middle, size)
    canvas = painted.copy()
    if "sub_category" not in omit:
        if "brand" not in omit:
            canvas.alpha_composite(logo.image, logo.corner)
        if logo.fold is not None:
            (left, top), side = logo.corner, logo.image.width
            line = (left + logo.fold, top + 1, left + logo.fold, top + side - 2)
            shade = (*mixed(COLORS[attributes.color], INK, 0.6), 255)
            ImageDraw.Draw(canvas).line(line, fill=shade, width=max(1, size // 128))
    # With colors multiplied by opacity, as interpolation needs them, and back once the image is small.
    laid = canvas.convert("RGBa").transform(
        canvas.size, Image.Transform.AFFINE, placement.inverse(), Image.Resampling.BILINEAR
    )
    laid = laid.reduce(2).convert("RGBA")
    image = _backdrop(view.ground, image_size).copy()
    image.paste(laid, mask=laid)
    image = image.point(dimmed(view.light))
    trim = trim_of(attributes, size)
    seen = {
        "brand": [placement.box(logo.outline)],
        "season": [placement.box(outline) for outline in trim.outlines],
        "sub_category": [placement.box(layout.outline)],
        "composition": _fabric_boxes(attributes, logo, placement, size),
    }
    regions = {column: tuple(box for box in boxes if box is not None) for column, boxes in seen.items()}
    return Rendering(image, {column: boxes for column, boxes in regions.items() if boxes})
