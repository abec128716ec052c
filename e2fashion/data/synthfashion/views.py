"""Views: how a garment lies in one picture, and where its points come to lie."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np
from numpy.typing import NDArray

from e2fashion.data.synthfashion.palette import Colour
from e2fashion.types import Box

GROUNDS: tuple[Colour, ...] = (
    (244, 243, 240),
    (228, 231, 235),
    (236, 228, 216),
    (214, 219, 214),
    (222, 212, 216),
    (200, 205, 212),
    (246, 240, 228),
    (190, 186, 180),
)


@dataclass(frozen=True)
class View:
    """A picture's geometry and light. ``turn`` is in degrees, ``shift`` in shares of the picture.

    ``crease`` is the share of the logo that a fold swallows (0: none), from its left or right side.
    """

    scale: float
    turn: float
    shift: tuple[float, float]
    mirror: bool
    ground: Colour
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
    """The map ``matrix @ p + offset`` from the garment's canvas to the picture, both in pixels of ``size``."""

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]
    size: int

    @classmethod
    def of(cls, view: View, centre: tuple[float, float], size: int) -> Placement:
        """Scale, mirror and turn around ``centre`` (canvas pixels), which comes to the picture's middle plus shift."""
        c, s = cos(radians(view.turn)) * view.scale, sin(radians(view.turn)) * view.scale
        sign = -1.0 if view.mirror else 1.0
        matrix = np.array([[c * sign, -s], [s * sign, c]])
        middle = np.array([size * (0.5 + view.shift[0]), size * (0.5 + view.shift[1])])
        return cls(matrix, middle - matrix @ np.array(centre), size)

    def inverse(self) -> tuple[float, float, float, float, float, float]:
        """The six numbers that ``Image.transform`` wants: picture to canvas."""
        back = np.linalg.inv(self.matrix)
        shift = -back @ self.offset
        return tuple(float(v) for v in (*back[0], shift[0], *back[1], shift[1]))  # type: ignore[return-value]

    def box(self, outline: NDArray[np.float64]) -> Box | None:
        """Smallest box of whole picture pixels (two canvas pixels each) around mapped points (n, 2); None if outside.

        The half pixel of interpolation is included.
        """
        mapped = outline @ self.matrix.T + self.offset
        low = np.floor((mapped.min(axis=0) - 0.5) / 2).clip(0, self.size / 2)
        high = np.ceil((mapped.max(axis=0) + 0.5) / 2).clip(0, self.size / 2)
        if (high <= low).any():
            return None
        left, top, right, bottom = (float(v) for v in (*low / (self.size / 2), *high / (self.size / 2)))
        return Box(left, top, right, bottom)
