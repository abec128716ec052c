"""A product's garment in colour, before it is photographed, and where things are on it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from e2fashion.data.synthfashion.fabrics import FABRICS, MARGIN, texture
from e2fashion.data.synthfashion.garments import build_garment
from e2fashion.data.synthfashion.palette import COLOURS, INK, WHITE, dimmed, luminance, mixed, most_contrasting, ramp
from e2fashion.data.synthfashion.products import Attributes
from e2fashion.data.synthfashion.regions import eroded
from e2fashion.data.synthfashion.seasons import SEASONS, build_trim, extremes

LOGO_SHARE = 0.145
"""Side of a logo's square as a share of the canvas: turned and enlarged it covers at most two 16-px patches of 128."""

GRID = 32
"""Cells per side of the picture in which the fabric's boxes are looked for."""

SHADOW = (24, 22, 26)


@dataclass(frozen=True)
class Layout:
    """Where things are on a garment with its trim, in canvas pixels.

    ``outline`` (n, 2) holds extreme points of the whole; ``high`` and ``low`` (n, 2) the free places for a logo's
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


@lru_cache(maxsize=512)
def build_layout(season: str, silhouette: str, details: tuple[str, str], size: int) -> Layout:
    """Lay out a garment with its season's trim (cached)."""
    garment = build_garment(silhouette, details, size)
    free = garment.fabric & (np.asarray(build_trim(season, silhouette, details, size).mask) == 0)
    outline = extremes(np.asarray(garment.whole) > 0)
    # Two pixels of fabric around the logo where there is room for them.
    reach = round(LOGO_SHARE * size) // 2 + 2
    rows, columns = np.nonzero(eroded(free, reach))
    while not rows.size:
        reach -= 1
        rows, columns = np.nonzero(eroded(free, reach))
    places = np.stack([columns, rows], axis=1).astype(np.int16)
    middle = (rows[0] + rows[-1]) / 2
    high, low = places[rows < middle], places[rows >= middle]
    # Half a cell, turned by 9 degrees (cos + sin = 1.14) and seen at the smallest scale (0.83).
    reach = int(np.ceil(size / GRID / 2 * 1.14 / 0.83))
    return Layout(outline, high if len(high) else places, low if len(low) else places, eroded(free, reach))


def layout_of(attributes: Attributes, size: int) -> Layout:
    """The layout of a product's garment on a canvas of ``size`` pixels."""
    return build_layout(attributes.season, attributes.sub_category, attributes.details, size)


def paint(attributes: Attributes, size: int, omit: Collection[str] = ()) -> Image.Image:
    """Paint a garment without its logo: RGBA (size, size), with its shadow, on transparent ground.

    ``omit`` names tag columns whose element is left out (tests compare pictures with and without it).
    """
    garment = build_garment(attributes.sub_category, attributes.details, size)
    colour, fabric = COLOURS[attributes.colour], FABRICS[attributes.fabric]
    room = round(MARGIN * size) - size
    left, top = (round(place * room) for place in attributes.texture_place)
    weave = texture(fabric.name, size).crop((left, top, left + size, top + size))
    weave.putpalette(ramp(fabric.stops(colour)))
    surface = weave.convert("RGB")
    darker = surface.point(dimmed(0.74))
    pale = luminance(colour) > 170
    cords = mixed(INK, colour, 0.30) if pale else mixed(WHITE, colour, 0.08)
    masks = garment.masks
    canvas = Image.new("RGB", (size, size), mixed(colour, INK, 0.62))
    canvas.paste(surface, mask=masks["body"])
    canvas.paste(darker, mask=masks["rib"])
    canvas.paste(cords, mask=masks["solid"])
    canvas.paste(fabric.seam or mixed(colour, INK, 0.72), mask=masks["line"])
    canvas.paste(most_contrasting(((232, 226, 210), (54, 46, 40)), colour), mask=masks["metal"])
    if "season" not in omit:
        season = SEASONS[attributes.season]
        trim = build_trim(season.name, attributes.sub_category, attributes.details, size)
        canvas.paste(most_contrasting(season.accents, colour), mask=trim.mask)
    canvas = ImageChops.multiply(canvas, garment.shade)
    result = Image.new("RGB", (size, size), SHADOW)
    alpha = garment.shadow
    if "sub_category" not in omit:
        result.paste(canvas, mask=garment.whole)
        alpha = ImageChops.lighter(alpha, garment.whole)
    result.putalpha(alpha)
    return result
