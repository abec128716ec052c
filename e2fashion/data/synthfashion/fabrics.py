"""Fabrics: the texture that each composition is drawn with, and the words for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from e2fashion.data.synthfashion.drawing import INK, WHITE, Color, mixed

Field = NDArray[np.float32]

MARGIN = 1.4
"""A texture is this many times as large as the canvas, so that each product shows another part of it."""


@dataclass(frozen=True)
class Fabric:
    """A material: its composition tag, its words, how deep its texture is, and the color of its seams.

    ``weave`` maps coordinates in 1/128 of the image to brightness in 0..1; ``stops`` maps a garment's color to
    the colors that brightness runs through. ``seam`` is None where seams are only shadows.
    """

    composition: str
    words: tuple[str, ...]
    weave: Callable[[Field, Field, np.random.Generator], Field]
    stops: Callable[[Color], list[tuple[float, Color]]]
    seam: Color | None = None


def _noise(shape: tuple[int, ...], cell: float, random: np.random.Generator) -> Field:
    """Smooth noise in 0..1, (H, W), whose blobs are about ``cell`` pixels wide."""
    height, width = shape
    small = random.random((max(2, int(height / cell)), max(2, int(width / cell))), dtype=np.float32)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def _cell(x: Field) -> float:
    """Pixels per 1/128 of the image."""
    return 1 / float(x[0, 1] - x[0, 0])


def _denim(x: Field, y: Field, random: np.random.Generator) -> Field:
    twill = np.sin(2 * np.pi * (x + y * 0.62) / 2.7)
    fade = _noise(x.shape, 26 * _cell(x), random)
    grain = _noise(x.shape, 0.7 * _cell(x), random)
    return 0.28 + 0.24 * twill + 0.34 * (grain - 0.5) + 0.42 * (fade - 0.35)


def _cable_knit(x: Field, y: Field, random: np.random.Generator) -> Field:
    across = np.mod(x, 15.0) - 7.5
    swing, turn = 2.6 * np.sin(2 * np.pi * y / 15), np.cos(2 * np.pi * y / 15)
    strands = []
    for sign in (1, -1):
        bulge = np.exp(-(((across - sign * swing) / 1.75) ** 2))
        strands.append(bulge * (0.82 + 0.18 * sign * turn))
    cable = np.maximum(strands[0], strands[1])
    purl = 0.24 + 0.16 * np.cos(2 * np.pi * (y + np.abs(across) * 0.8) / 2.6)
    edge = np.abs(across) > 5.2
    return np.where(edge, purl, 0.12 + 0.88 * cable + 0.07 * np.cos(2 * np.pi * (y * 1.4 + across) / 2.6))


def _leather(x: Field, y: Field, random: np.random.Generator) -> Field:
    folds = _noise(x.shape, 24 * _cell(x), random)
    gloss = np.exp(-(((folds - 0.60) / 0.13) ** 2))
    wrinkle = np.abs(_noise(x.shape, 7 * _cell(x), random) - 0.5) < 0.022
    pores = _noise(x.shape, 1.0 * _cell(x), random)
    return 0.24 + 0.52 * gloss * (0.75 + 0.5 * folds) - 0.10 * wrinkle + 0.10 * (pores - 0.5)


def _flannel(x: Field, y: Field, random: np.random.Generator) -> Field:
    def stripes(along: Field) -> tuple[Field, Field]:
        phase = np.mod(along, 22.0)
        return (phase < 9.5).astype(np.float32), (np.abs(phase - 15.8) < 1.0).astype(np.float32)

    (broad_x, thin_x), (broad_y, thin_y) = stripes(x), stripes(y + 3)
    twill = (np.sin(2 * np.pi * (x - y) / 2.0) > 0).astype(np.float32)
    thin = np.maximum(thin_x * (0.55 + 0.45 * twill), thin_y * (0.55 + 0.45 * (1 - twill)))
    return np.where(thin > 0.9, 1.0, 0.62 - 0.31 * broad_x - 0.31 * broad_y + 0.04 * twill)


def _corduroy(x: Field, y: Field, random: np.random.Generator) -> Field:
    ridge = np.abs(np.cos(np.pi * x / 5.2)) ** 0.7
    pile = _noise(x.shape, 0.9 * _cell(x), random)
    nap = _noise(x.shape, 22 * _cell(x), random)
    return 0.02 + 0.78 * ridge + 0.22 * (pile - 0.5) + 0.22 * (nap - 0.4)


def _linen(x: Field, y: Field, random: np.random.Generator) -> Field:
    height, width = x.shape
    cell = _cell(x)

    def threads(columns: bool) -> Field:
        """Threads of uneven thickness: noise that is long in one direction and fine in the other."""
        short, long = max(2, int(width / cell / 1.15)), max(2, int(height / cell / 14))
        size = (short, long) if columns else (long, short)
        small = random.random((size[1], size[0]), dtype=np.float32)
        return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))

    return 0.5 + 0.62 * (threads(True) - 0.5) + 0.62 * (threads(False) - 0.5)


def _fleece(x: Field, y: Field, random: np.random.Generator) -> Field:
    curl = np.abs(_noise(x.shape, 2.1 * _cell(x), random) - 0.5) * 2
    clump = _noise(x.shape, 5.0 * _cell(x), random)
    wool = _noise(x.shape, 0.8 * _cell(x), random)
    return 0.50 + 0.60 * (np.sqrt(curl) - 0.55) + 0.34 * (clump - 0.5) + 0.22 * (wool - 0.5)


def _mesh(x: Field, y: Field, random: np.random.Generator) -> Field:
    pitch = 4.6
    odd = np.mod(np.floor(y / (pitch * 0.5)), 2)
    across = np.mod(x + odd * pitch / 2, pitch) - pitch / 2
    down = np.mod(y, pitch * 0.5) - pitch * 0.25
    hole = (across / 1.05) ** 2 + (down / 0.85) ** 2
    return 0.12 + 0.68 * np.clip(hole - 0.35, 0, 1)


def _quilted(x: Field, y: Field, random: np.random.Generator) -> Field:
    pitch = 17.0
    first, second = np.mod(x + y, pitch) / pitch - 0.5, np.mod(x - y, pitch) / pitch - 0.5
    puff = (1 - (2 * first) ** 2) * (1 - (2 * second) ** 2)
    light = 0.30 * (-first - second * 0.2)
    seam = np.minimum(0.5 - np.abs(first), 0.5 - np.abs(second)) * pitch < 0.75
    return np.where(seam, 0.02, 0.30 + 0.42 * np.sqrt(np.maximum(puff, 0)) + light)


def _herringbone(x: Field, y: Field, random: np.random.Generator) -> Field:
    band = 7.5
    slope = np.abs(np.mod(x, 2 * band) - band)
    chevron = np.sin(2 * np.pi * (y + slope * 1.0) / 4.4)
    fleck = _noise(x.shape, 0.9 * _cell(x), random)
    return 0.5 + 0.46 * np.clip(chevron * 1.8, -1, 1) + 0.24 * (fleck - 0.5)


def _stops(*stops: tuple[float, Color, float]) -> Callable[[Color], list[tuple[float, Color]]]:
    """By brightness: the garment's color, of which a share is another one."""
    return lambda color: [(brightness, mixed(color, other, share)) for brightness, other, share in stops]


def _shades(dark: float, light: float) -> Callable[[Color], list[tuple[float, Color]]]:
    """From a shade of the color (``dark`` of it is ink) over the color to a tint (``light`` of it is white)."""
    return _stops((0.0, INK, dark), (0.55, INK, 0.0), (1.0, WHITE, light))


# A check: crossing bands darken the color, and its thin line is nearly white.
_with_line = _stops((0.0, INK, 0.66), (0.64, WHITE, 0.16), (0.90, WHITE, 0.16), (0.93, WHITE, 0.86), (1.0, WHITE, 0.86))
# Leather: deep shades, and a narrow highlight.
_glossy = _stops((0.0, INK, 0.66), (0.45, INK, 0.30), (0.72, WHITE, 0.10), (1.0, WHITE, 0.72))
# Denim: dyed warp over a white weft.
_washed = _stops((0.0, INK, 0.42), (0.45, (70, 96, 140), 0.22), (1.0, WHITE, 0.74))

FABRICS: dict[str, Fabric] = {
    "denim": Fabric("98% cotton, 2% elastane", ("denim", "twill denim"), _denim, _washed, (216, 150, 62)),
    "cable knit": Fabric("80% wool, 20% polyamide", ("cable-knit", "chunky cable"), _cable_knit, _shades(0.62, 0.34)),
    "leather": Fabric("100% lambskin", ("leather", "smooth leather"), _leather, _glossy),
    "flannel": Fabric("100% brushed cotton", ("plaid flannel", "checked flannel"), _flannel, _with_line),
    "corduroy": Fabric("87% cotton, 13% polyester", ("corduroy", "wide-wale cord"), _corduroy, _shades(0.62, 0.26)),
    "linen": Fabric("100% linen", ("linen", "slub linen"), _linen, _shades(0.40, 0.62)),
    "fleece": Fabric("100% recycled polyester", ("fleece", "sherpa fleece"), _fleece, _shades(0.46, 0.50)),
    "mesh": Fabric("92% polyamide, 8% elastane", ("mesh", "perforated mesh"), _mesh, _shades(0.76, 0.22)),
    "quilted nylon": Fabric("100% nylon. Padding: 100% down", ("quilted", "padded nylon"), _quilted,
                            _shades(0.62, 0.50)),
    "tweed": Fabric("70% virgin wool, 30% silk", ("herringbone", "tweed"), _herringbone, _shades(0.60, 0.68)),
}  # fmt: skip
"""By name. Each fabric has one composition, so that the tag can be read off the image."""


@lru_cache(maxsize=64)
def texture(name: str, size: int) -> Image.Image:
    """The weave of a fabric for a canvas of ``size`` pixels: L, ``MARGIN * size`` square; the same on every call."""
    side = round(MARGIN * size)
    step = np.arange(side, dtype=np.float32) * np.float32(128 / size)
    x, y = np.meshgrid(step, step)
    random = np.random.default_rng([sum(name.encode()), size])
    return Image.fromarray((FABRICS[name].weave(x, y, random).clip(0, 1) * 255).astype(np.uint8))
