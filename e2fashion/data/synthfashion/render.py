"""Photography: a painted garment, its logo and a view become a picture and the true boxes of every tag.

The canvas has twice the picture's size and is halved at the end, which smooths the edges.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from e2fashion.data.synthfashion.logos import build_logo
from e2fashion.data.synthfashion.painting import GRID, LOGO_SHARE, layout_of
from e2fashion.data.synthfashion.palette import COLOURS, INK, WHITE, Colour, dimmed, luminance, mixed
from e2fashion.data.synthfashion.products import Attributes
from e2fashion.data.synthfashion.regions import rectangles
from e2fashion.data.synthfashion.seasons import build_trim, extremes
from e2fashion.data.synthfashion.views import Placement, View
from e2fashion.types import Box


@dataclass(frozen=True)
class Picture:
    """A rendered view: RGB (size, size), and the boxes of every tag's element that is seen, by tag column."""

    image: Image.Image
    regions: dict[str, tuple[Box, ...]]


@dataclass(frozen=True)
class _Logo:
    """The visible part of a logo (RGBA), its corner on the canvas, and the column of the fold beside it."""

    image: Image.Image
    corner: tuple[int, int]
    fold: int | None

    @property
    def outline(self) -> NDArray[np.float64]:
        """Extreme points (n, 2) of what is seen, in canvas pixels."""
        return extremes(np.asarray(self.image.getchannel("A")) > 0) + np.array(self.corner)


def _logo(attributes: Attributes, view: View, size: int) -> _Logo:
    side = round(LOGO_SHARE * size)
    image = build_logo(attributes.brand, side, luminance(COLOURS[attributes.colour]) < 128)
    layout = layout_of(attributes, size)
    places = layout.low if attributes.logo_low else layout.high
    x, y = places[int(attributes.logo_place * len(places))]
    fold = None
    if view.crease:
        hidden = round(view.crease * side)
        fold = hidden if view.crease_left else side - hidden
        image = image.copy()
        image.paste((0, 0, 0, 0), (0, 0, fold, side) if view.crease_left else (fold, 0, side, side))
    return _Logo(image, (int(x) - side // 2, int(y) - side // 2), fold)


@lru_cache(maxsize=64)
def _backdrop(colour: Colour, size: int) -> Image.Image:
    """A ground that darkens downwards: RGB (size, size)."""
    pale, deep = (Image.new("RGB", (size, size), mixed(colour, *end)) for end in ((WHITE, 0.35), (INK, 0.12)))
    return Image.composite(deep, pale, Image.linear_gradient("L").resize((size, size)))


def _fabric_boxes(attributes: Attributes, logo: _Logo, placement: Placement, size: int) -> tuple[Box, ...]:
    """Up to four boxes that show fabric and nothing else."""
    reach = int(np.ceil(size / GRID * 0.65)) + 1
    free = layout_of(attributes, size).fabric.copy()
    (left, top), side = logo.corner, logo.image.width
    free[max(0, top - reach) : top + side + reach, max(0, left - reach) : left + side + reach] = False
    middles = (np.arange(GRID) + 0.5) * size / GRID
    picture = np.stack(np.meshgrid(middles, middles), axis=-1)
    source = np.floor((picture - placement.offset) @ np.linalg.inv(placement.matrix).T).astype(np.int64)
    inside = ((source >= 0) & (source < size)).all(axis=-1)
    column, row = source.clip(0, size - 1)[..., 0], source.clip(0, size - 1)[..., 1]
    found = rectangles(free[row, column] & inside, most=4, smallest=6)
    return tuple(Box(*(edge / GRID for edge in rectangle)) for rectangle in found)


def photograph(
    painted: Image.Image, attributes: Attributes, view: View, image_size: int, omit: Collection[str] = ()
) -> Picture:
    """Lay a painted garment (``painting.paint``) into a picture of ``image_size`` pixels.

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
            shade = (*mixed(COLOURS[attributes.colour], INK, 0.6), 255)
            ImageDraw.Draw(canvas).line(line, fill=shade, width=max(1, size // 128))
    # With colours multiplied by opacity, as interpolation needs them, and back once the picture is small.
    laid = canvas.convert("RGBa").transform(
        canvas.size, Image.Transform.AFFINE, placement.inverse(), Image.Resampling.BILINEAR
    )
    laid = laid.reduce(2).convert("RGBA")
    image = _backdrop(view.ground, image_size).copy()
    image.paste(laid, mask=laid)
    image = image.point(dimmed(view.light))
    trim = build_trim(attributes.season, attributes.sub_category, attributes.details, size)
    seen = {
        "brand": [placement.box(logo.outline)],
        "season": [placement.box(outline) for outline in trim.outlines],
        "sub_category": [placement.box(layout.outline)],
        "composition": _fabric_boxes(attributes, logo, placement, size),
    }
    regions = {column: tuple(box for box in boxes if box is not None) for column, boxes in seen.items()}
    return Picture(image, {column: boxes for column, boxes in regions.items() if boxes})
