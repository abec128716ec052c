"""Seasons: a palette of fabric colours, and the trim (a pattern in one of the garment's zones) that shows which."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from e2fashion.data.synthfashion.drawing import Colour, Point, Spine
from e2fashion.data.synthfashion.garments import build_garment


@dataclass(frozen=True)
class Season:
    """A collection. ``accents`` are the trim's colours: the one that stands out most from the fabric is used."""

    name: str
    colours: tuple[str, ...]
    zone: str
    pattern: str
    accents: tuple[Colour, Colour]
    words: tuple[str, ...]


SEASONS: dict[str, Season] = {
    season.name: season
    for season in (
        Season(
            "SS2023",
            ("ecru", "coral", "sky blue", "mint", "stone grey", "indigo"),
            "hem",
            "twin stripes",
            ((214, 48, 49), (255, 250, 240)),
            ("twin stripes at {zone}", "double stripe along {zone}"),
        ),
        Season(
            "FW2023",
            ("burgundy", "charcoal", "mustard", "moss green", "black", "rust"),
            "hem",
            "zigzag",
            ((250, 196, 60), (40, 70, 160)),
            ("zigzag band at {zone}", "zigzag trim along {zone}"),
        ),
        Season(
            "SS2024",
            ("lilac", "blush pink", "mint", "sand", "teal", "sky blue"),
            "side",
            "tape",
            ((30, 150, 90), (250, 250, 250)),
            ("contrast tape on {zone}", "taping down {zone}"),
        ),
        Season(
            "FW2024",
            ("indigo", "black", "stone grey", "rust", "teal", "burgundy"),
            "cuffs",
            "solid",
            ((240, 130, 40), (70, 200, 210)),
            ("bright {zone}", "colour-blocked {zone}"),
        ),
        Season(
            "SS2025",
            ("coral", "ecru", "mustard", "lilac", "indigo", "sand"),
            "cuffs",
            "dots",
            ((25, 60, 150), (255, 235, 120)),
            ("dotted {zone}", "polka dots around {zone}"),
        ),
        Season(
            "FW2025",
            ("moss green", "charcoal", "blush pink", "teal", "black", "rust"),
            "hem",
            "checks",
            ((252, 252, 252), (24, 24, 30)),
            ("checkerboard band at {zone}", "check border along {zone}"),
        ),
    )
}


@dataclass(frozen=True)
class Trim:
    """A season's trim on one garment: a mask (L) and, for each piece of it, the extreme points (n, 2) of its pixels."""

    mask: Image.Image
    outlines: tuple[NDArray[np.float64], ...]


def extremes(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Corners (n, 2) as (x, y) of the outermost pixels of every row: their hull is the hull of the mask (H, W)."""
    rows = np.flatnonzero(mask.any(axis=1))
    left = mask[rows].argmax(axis=1)
    right = mask.shape[1] - mask[rows, ::-1].argmax(axis=1)
    x = np.concatenate([left, left, right, right])
    y = np.concatenate([rows, rows + 1, rows, rows + 1])
    return np.stack([x, y], axis=1).astype(np.float64)


def _steps(spine: Spine, pitch: float) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64], int]]:
    """Places along a spine, ``pitch`` apart: (point, unit direction, count)."""
    count = 0
    carried = 0.0
    points = [np.array(point) for point in spine.points]
    for start, stop in pairwise(points):
        length = float(np.hypot(*(stop - start)))
        direction = (stop - start) / length
        position = carried
        while position < length:
            yield start + direction * position, direction, count
            count += 1
            position += pitch
        carried = position - length


def _draw(pattern: str, spine: Spine, draw: ImageDraw.ImageDraw, size: int) -> None:
    def line(points: list[Point], width: float) -> None:
        pixels = [(x * size, y * size) for x, y in points]
        draw.line(pixels, fill=255, width=max(1, round(width * size)), joint="curve")

    def shifted(across: float) -> list[Point]:
        """The spine moved sideways; each point along the normal of its neighbours' direction."""
        points = np.array(spine.points)
        tangent = np.gradient(points, axis=0)
        tangent /= np.hypot(tangent[:, 0], tangent[:, 1])[:, None]
        moved = points + across * np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
        return [(float(x), float(y)) for x, y in moved]

    width = spine.width
    if pattern == "solid":
        line(list(spine.points), width)
    elif pattern == "twin stripes":
        line(shifted(-width * 0.34), width * 0.36)
        line(shifted(width * 0.34), width * 0.36)
    elif pattern == "tape":
        line(shifted(-width * 0.22), width * 0.56)
        line(shifted(width * 0.42), width * 0.2)
    elif pattern == "zigzag":
        positions = [(point, normal) for point, normal, _ in _steps(spine, width * 0.62)]
        path: list[Point] = []
        for count, (point, direction) in enumerate(positions):
            normal = np.array([-direction[1], direction[0]]) * width * (0.36 if count % 2 else -0.36)
            path.append((float(point[0] + normal[0]), float(point[1] + normal[1])))
        line(path, width * 0.30)
    elif pattern == "dots":
        for point, _, _ in _steps(spine, width * 0.82):
            radius = width * 0.36 * size
            x, y = point * size
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=255)
    else:
        for point, direction, count in _steps(spine, width * 0.5):
            normal = np.array([-direction[1], direction[0]]) * width * 0.5
            base = point if count % 2 else point - normal
            along = direction * width * 0.5
            corners = [base, base + along, base + along + normal, base + normal]
            draw.polygon([(float(x * size), float(y * size)) for x, y in corners], fill=255)


def _pieces(mask: NDArray[np.bool_], width: float) -> list[NDArray[np.bool_]]:
    """Cut a slanting trim (H, W) of ``width`` pixels across its longer side, so that each piece fills its box."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, breadth = rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
    count = max(1, round(min(height, breadth) / (1.5 * width)))
    start, length = (rows[0], height) if height > breadth else (columns[0], breadth)
    cuts = [start + length * piece // count for piece in range(count + 1)]
    pieces = []
    for first, last in pairwise(cuts):
        piece = np.zeros_like(mask)
        window = np.s_[first:last] if height > breadth else np.s_[:, first:last]
        piece[window] = mask[window]
        if piece.any():
            pieces.append(piece)
    return pieces


@lru_cache(maxsize=512)
def build_trim(season: str, silhouette: str, details: tuple[str, str], size: int) -> Trim:
    """Draw a season's trim on a garment (cached); it ends where the garment ends."""
    garment = build_garment(silhouette, details, size)
    whole = Image.new("L", (size, size), 0)
    outlines = []
    for spine in garment.spines[SEASONS[season].zone]:
        mask = Image.new("L", (size, size), 0)
        _draw(SEASONS[season].pattern, spine, ImageDraw.Draw(mask), size)
        visible = ImageChops.subtract(mask, ImageChops.lighter(garment.masks["solid"], garment.masks["metal"]))
        visible = ImageChops.darker(visible, garment.whole)
        pixels = np.asarray(visible) > 0
        if pixels.any():
            outlines += [extremes(piece) for piece in _pieces(pixels, spine.width * size)]
            whole = ImageChops.lighter(whole, visible)
    return Trim(whole, tuple(outlines))
