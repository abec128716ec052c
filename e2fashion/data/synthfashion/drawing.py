"""Colors, strokes and masks: what every drawn thing is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Color = tuple[int, int, int]

COLORS: dict[str, Color] = {
    "black": (44, 44, 48), "charcoal": (88, 90, 96), "stone grey": (158, 156, 150), "ecru": (226, 214, 190),
    "sand": (204, 174, 130), "rust": (176, 84, 44), "burgundy": (118, 32, 52), "coral": (232, 116, 100),
    "blush pink": (230, 176, 180), "mustard": (212, 164, 48), "moss green": (98, 116, 62), "mint": (156, 208, 180),
    "teal": (32, 122, 126), "sky blue": (134, 180, 218), "indigo": (58, 78, 132), "lilac": (170, 146, 202),
}  # fmt: skip

JPEG_QUALITY = 92

WHITE: Color = (248, 247, 242)
INK: Color = (26, 26, 30)


def luminance(color: Color) -> float:
    """Perceived brightness, 0 to 255 (Rec. 601)."""
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]


def mixed(first: Color, second: Color, share: float) -> Color:
    """``share`` of the second color in the first."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def distance(first: Color, second: Color) -> float:
    """Euclidean distance in RGB with brightness counted once more: a plain measure of contrast."""
    squares = sum((a - b) ** 2 for a, b in zip(first, second, strict=True))
    return float((squares + 2 * (luminance(first) - luminance(second)) ** 2) ** 0.5)


def most_contrasting(colors: Sequence[Color], ground: Color) -> Color:
    """The color that stands out most from ``ground``."""
    return max(colors, key=lambda color: distance(color, ground))


def dimmed(light: float) -> list[int]:
    """A table (768 values) for ``Image.point`` that multiplies the channels of an RGB image by ``light``."""
    values: list[int] = (np.arange(256) * light).round().clip(0, 255).astype(int).tolist()
    return values * 3


def ramp(stops: Sequence[tuple[float, Color]]) -> bytes:
    """A palette of 256 colors (768 bytes) interpolated between ``(position in 0..1, color)`` stops."""
    positions = [position * 255 for position, _ in stops]
    channels = [np.interp(np.arange(256), positions, [stop[1][c] for stop in stops]) for c in range(3)]
    return np.stack(channels, axis=1).round().clip(0, 255).astype(np.uint8).tobytes()


Point = tuple[float, float]

LAYERS = ("lining", "body", "rib", "solid", "line", "metal")
"""What a garment is made of, from the back to the front: its inside, the fabric, plain knitted edges, parts of
another material (soles, laces, cords), seams, and hardware (buttons, zips, eyelets)."""

ZONES = ("hem", "cuffs", "side")
"""Where a season may put its trim."""


@dataclass(frozen=True)
class Spine:
    """The middle line of a trim (unit coordinates) and its width."""

    points: tuple[Point, ...]
    width: float


def rounded(points: Sequence[Point], times: int) -> list[Point]:
    """A closed polygon with its corners cut ``times`` times (Chaikin): 2 or 3 give a soft outline."""
    outline = list(points)
    for _ in range(times):
        cut: list[Point] = []
        for (x, y), (next_x, next_y) in zip(outline, [*outline[1:], outline[0]], strict=True):
            cut.append((0.75 * x + 0.25 * next_x, 0.75 * y + 0.25 * next_y))
            cut.append((0.25 * x + 0.75 * next_x, 0.25 * y + 0.75 * next_y))
        outline = cut
    return outline


def flipped(points: Sequence[Point]) -> list[Point]:
    """The points mirrored at the vertical middle of the canvas."""
    return [(1 - x, y) for x, y in points]


def unfolded(half: Sequence[Point]) -> list[Point]:
    """A symmetric outline from its right half, given as (distance from the middle, y) from top to bottom."""
    right = [(0.5 + distance, y) for distance, y in half]
    return right + flipped(right)[::-1]


class Pen:
    """Masks (L, ``size`` x ``size``) of one garment's layers, and the spines of its trims."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.masks = {layer: Image.new("L", (size, size), 0) for layer in LAYERS}
        self.spines: dict[str, list[Spine]] = {zone: [] for zone in ZONES}
        self._draws = {layer: ImageDraw.Draw(mask) for layer, mask in self.masks.items()}

    def area(self, layer: str, points: Sequence[Point], soft: int = 0, both: bool = False, ink: int = 255) -> None:
        """Fill a polygon, its corners cut ``soft`` times; ``both`` adds its mirror image."""
        for outline in (points, flipped(points))[: 1 + both]:
            self._draws[layer].polygon(self._pixels(rounded(outline, soft)), fill=ink)

    def whole(self, layer: str, half: Sequence[Point], soft: int = 0, ink: int = 255) -> None:
        """Fill a symmetric outline given by its right half (:func:`unfolded`)."""
        self.area(layer, unfolded(half), soft, ink=ink)

    def cut(self, half: Sequence[Point], soft: int = 0) -> None:
        """Open a symmetric hole in the fabric, so that the garment's inside is seen through it."""
        self.whole("lining", half, soft)
        for layer in ("body", "rib", "line"):
            self.whole(layer, half, soft, ink=0)

    def line(
        self, layer: str, points: Sequence[Point], width: float = 0.008, both: bool = False, ink: int = 255
    ) -> None:
        """Draw an open line of ``width`` canvas units; ``both`` adds its mirror image."""
        pixels = max(1, round(width * self.size))
        for path in (points, flipped(points))[: 1 + both]:
            self._draws[layer].line(self._pixels(path), fill=ink, width=pixels, joint="curve")

    def dot(self, layer: str, center: Point, radius: float, both: bool = False) -> None:
        """Fill a disc; ``both`` adds its mirror image."""
        for x, y in ([center], [center, (1 - center[0], center[1])])[both]:
            corners = self._pixels([(x - radius, y - radius), (x + radius, y + radius)])
            self._draws[layer].ellipse(corners, fill=255)

    def spine(self, zone: str, points: Sequence[Point], width: float = 0.045, both: bool = False) -> None:
        """Name a cell for trims; ``both`` adds its mirror image."""
        for path in (points, flipped(points))[: 1 + both]:
            self.spines[zone].append(Spine(tuple(path), width))

    def _pixels(self, points: Sequence[Point]) -> list[tuple[float, float]]:
        return [(x * self.size, y * self.size) for x, y in points]


Rectangle = tuple[int, int, int, int]
"""Cells (left, top, right, bottom) of a grid, the last two exclusive."""


def eroded(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Pixels of ``mask`` (H, W) whose square of ``2 * reach + 1`` pixels lies in it wholly; (H, W)."""
    side = 2 * reach + 1
    total = np.zeros((mask.shape[0] + side, mask.shape[1] + side), dtype=np.int32)
    total[reach + 1 : reach + 1 + mask.shape[0], reach + 1 : reach + 1 + mask.shape[1]] = mask
    total = total.cumsum(axis=0).cumsum(axis=1)
    window = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    return np.asarray(window == side * side)


def largest_rectangle(grid: NDArray[np.bool_]) -> Rectangle | None:
    """The largest rectangle of true cells in a grid (H, W); None if no cell is true.

    ``tall[row, column]`` is the height of the column of true cells that ends there; its minimum over ``wide``
    neighbors is the height of the best rectangle of that width, and is widened cell by cell.
    """
    rows = np.arange(grid.shape[0], dtype=np.int32)[:, None]
    tall = rows - np.maximum.accumulate(np.where(grid, np.int32(-1), rows), axis=0)
    lowest = tall
    best, largest = 0, None
    for wide in range(1, grid.shape[1] + 1):
        if wide > 1:
            lowest = np.minimum(lowest[:, :-1], tall[:, wide - 1 :])
        cell = int(lowest.argmax())
        row, column = divmod(cell, lowest.shape[1])
        height = int(lowest[row, column])
        if height == 0:
            break
        if height * wide > best:
            best, largest = height * wide, (column, row + 1 - height, column + wide, row + 1)
    return largest


def rectangles(grid: NDArray[np.bool_], most: int, smallest: int) -> list[Rectangle]:
    """Up to ``most`` disjoint rectangles, the largest first; only the first may have under ``smallest`` cells."""
    grid = grid.copy()
    listed: list[Rectangle] = []
    while len(listed) < most:
        rectangle = largest_rectangle(grid)
        if rectangle is None:
            break
        left, top, right, bottom = rectangle
        if listed and (right - left) * (bottom - top) < smallest:
            break
        listed.append(rectangle)
        grid[top:bottom, left:right] = False
    return listed
