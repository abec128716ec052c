"""A pen that draws a garment's layers as masks, in units of the canvas: (0, 0) top left, (1, 1) bottom right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

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

    def dot(self, layer: str, centre: Point, radius: float, both: bool = False, ink: int = 255) -> None:
        """Fill a disc; ``both`` adds its mirror image."""
        for x, y in ([centre], [centre, (1 - centre[0], centre[1])])[both]:
            corners = self._pixels([(x - radius, y - radius), (x + radius, y + radius)])
            self._draws[layer].ellipse(corners, fill=ink)

    def spine(self, zone: str, points: Sequence[Point], width: float = 0.045, both: bool = False) -> None:
        """Name a place for trims; ``both`` adds its mirror image."""
        for path in (points, flipped(points))[: 1 + both]:
            self.spines[zone].append(Spine(tuple(path), width))

    def _pixels(self, points: Sequence[Point]) -> list[tuple[float, float]]:
        return [(x * self.size, y * self.size) for x, y in points]
