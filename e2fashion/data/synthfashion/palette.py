"""Colours: the names that descriptions use, and the arithmetic that keeps drawn things apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Colour = tuple[int, int, int]

COLOURS: dict[str, Colour] = {
    "black": (44, 44, 48),
    "charcoal": (88, 90, 96),
    "stone grey": (158, 156, 150),
    "ecru": (226, 214, 190),
    "sand": (204, 174, 130),
    "rust": (176, 84, 44),
    "burgundy": (118, 32, 52),
    "coral": (232, 116, 100),
    "blush pink": (230, 176, 180),
    "mustard": (212, 164, 48),
    "moss green": (98, 116, 62),
    "mint": (156, 208, 180),
    "teal": (32, 122, 126),
    "sky blue": (134, 180, 218),
    "indigo": (58, 78, 132),
    "lilac": (170, 146, 202),
}

WHITE: Colour = (248, 247, 242)
INK: Colour = (26, 26, 30)


def luminance(colour: Colour) -> float:
    """Perceived brightness, 0 to 255 (Rec. 601)."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def mixed(first: Colour, second: Colour, share: float) -> Colour:
    """``share`` of the second colour in the first."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def distance(first: Colour, second: Colour) -> float:
    """Euclidean distance in RGB with brightness counted once more: a plain measure of contrast."""
    squares = sum((a - b) ** 2 for a, b in zip(first, second, strict=True))
    return float((squares + 2 * (luminance(first) - luminance(second)) ** 2) ** 0.5)


def most_contrasting(colours: Sequence[Colour], ground: Colour) -> Colour:
    """The colour that stands out most from ``ground``."""
    return max(colours, key=lambda colour: distance(colour, ground))


def dimmed(light: float) -> list[int]:
    """A table (768 values) for ``Image.point`` that multiplies the channels of an RGB picture by ``light``."""
    values: list[int] = (np.arange(256) * light).round().clip(0, 255).astype(int).tolist()
    return values * 3


def ramp(stops: Sequence[tuple[float, Colour]]) -> bytes:
    """A palette of 256 colours (768 bytes) interpolated between ``(position in 0..1, colour)`` stops."""
    positions = [position * 255 for position, _ in stops]
    channels = [np.interp(np.arange(256), positions, [stop[1][c] for stop in stops]) for c in range(3)]
    return np.stack(channels, axis=1).round().clip(0, 255).astype(np.uint8).tobytes()
