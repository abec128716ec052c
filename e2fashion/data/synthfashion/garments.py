"""Garments: which silhouettes and details there are, and a finished garment as layers with light and shadow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

from e2fashion.data.synthfashion import outlines
from e2fashion.data.synthfashion.drawing import LAYERS, Pen, Spine


@dataclass(frozen=True)
class Silhouette:
    """A sub-category: how it is drawn, its two pairs of details, the fabrics that it comes in.

    Each detail is (drawn value, its phrasings in a description). ``zones`` names the trim zones in words.
    """

    name: str
    nouns: tuple[str, ...]
    draw: Callable[[Pen, str, str], None]
    details: tuple[tuple[tuple[str, tuple[str, ...]], ...], ...]
    fabrics: tuple[str, ...]
    zones: dict[str, str]


WORN = {"hem": "hem", "cuffs": "cuffs", "side": "side seams"}

SILHOUETTES: dict[str, Silhouette] = {
    silhouette.name: silhouette
    for silhouette in (
        Silhouette(
            "t-shirt",
            ("T-shirt", "tee"),
            outlines.t_shirt,
            (
                (("crew", ("crew neck", "round neckline")), ("v", ("V-neck", "V-shaped neckline"))),
                (("plain", ("clean front",)), ("pocket", ("chest pocket", "patch pocket at chest"))),
            ),
            ("denim", "flannel", "linen", "mesh", "corduroy", "fleece"),
            WORN,
        ),
        Silhouette(
            "shirt",
            ("shirt", "button-up shirt"),
            outlines.shirt,
            (
                (("short", ("short sleeves",)), ("long", ("long sleeves", "full-length sleeves"))),
                (("plain", ("clean front",)), ("pocket", ("chest pocket", "flap pocket at chest"))),
            ),
            ("denim", "flannel", "linen", "corduroy", "tweed", "leather"),
            WORN,
        ),
        Silhouette(
            "sweater",
            ("sweater", "pullover", "jumper"),
            outlines.sweater,
            (
                (("crew", ("crew neck", "round neckline")), ("turtle", ("turtleneck", "roll neck"))),
                (("regular", ("regular fit",)), ("wide", ("oversized fit", "relaxed fit"))),
            ),
            ("cable knit", "fleece", "mesh", "tweed", "flannel"),
            WORN,
        ),
        Silhouette(
            "hoodie",
            ("hoodie", "hooded sweatshirt"),
            outlines.hoodie,
            (
                (("closed", ("kangaroo pocket",)), ("zip", ("full zip front", "zip closure"))),
                (("cord", ("drawstring hood", "drawcords at hood")), ("plain", ("cordless hood",))),
            ),
            ("fleece", "mesh", "cable knit", "corduroy", "denim", "quilted nylon"),
            WORN,
        ),
        Silhouette(
            "jacket",
            ("jacket", "zip jacket"),
            outlines.jacket,
            (
                (("stand", ("stand collar", "funnel collar")), ("lapel", ("notched lapels", "lapel collar"))),
                (("slanted", ("slanted pockets",)), ("flap", ("flap pockets", "four flap pockets"))),
            ),
            ("denim", "leather", "quilted nylon", "corduroy", "tweed", "fleece"),
            WORN,
        ),
        Silhouette(
            "coat",
            ("coat", "overcoat"),
            outlines.coat,
            (
                (("single", ("single-breasted front",)), ("double", ("double-breasted front", "double button row"))),
                (("plain", ("straight waist",)), ("belt", ("belted waist", "buckled belt"))),
            ),
            ("tweed", "leather", "quilted nylon", "fleece", "flannel", "denim"),
            WORN,
        ),
        Silhouette(
            "dress",
            ("dress", "day dress"),
            outlines.dress,
            (
                (("none", ("sleeveless cut", "bare arms")), ("short", ("short sleeves",))),
                (("flared", ("flared skirt", "A-line skirt")), ("narrow", ("pencil skirt", "narrow skirt"))),
            ),
            ("linen", "denim", "flannel", "cable knit", "leather", "corduroy"),
            {"hem": "hem", "cuffs": "armholes", "side": "side seams"},
        ),
        Silhouette(
            "skirt",
            ("skirt",),
            outlines.skirt,
            (
                (("short", ("mini length", "short cut")), ("long", ("midi length", "mid-calf cut"))),
                (("buttoned", ("button front", "buttoned placket")), ("pleated", ("pleats", "knife pleats"))),
            ),
            ("denim", "leather", "flannel", "corduroy", "tweed", "linen"),
            {"hem": "hem", "cuffs": "waistband", "side": "side seams"},
        ),
        Silhouette(
            "trousers",
            ("trousers", "pants"),
            outlines.trousers,
            (
                (("narrow", ("slim legs", "tapered legs")), ("wide", ("wide legs", "loose legs"))),
                (("creased", ("pressed creases",)), ("cargo", ("cargo pockets", "thigh pockets"))),
            ),
            ("denim", "corduroy", "linen", "leather", "tweed", "fleece"),
            {"hem": "ankles", "cuffs": "leg openings", "side": "side seams"},
        ),
        Silhouette(
            "shorts",
            ("shorts",),
            outlines.shorts,
            (
                (("short", ("short legs", "above-knee cut")), ("long", ("bermuda length", "knee-length cut"))),
                (("button", ("button waist",)), ("cord", ("drawstring waist", "elastic waist"))),
            ),
            ("denim", "linen", "mesh", "corduroy", "flannel", "fleece"),
            {"hem": "hem", "cuffs": "leg openings", "side": "side seams"},
        ),
        Silhouette(
            "sneakers",
            ("sneakers", "trainers"),
            outlines.sneaker,
            (
                (("low", ("low-top cut", "low profile")), ("high", ("high-top cut", "ankle-high shape"))),
                (("laced", ("lace-up front", "laced front")), ("strap", ("strap closure", "grip straps"))),
            ),
            ("leather", "mesh", "denim", "corduroy", "tweed"),
            {"hem": "sole", "cuffs": "collar", "side": "side panel"},
        ),
        Silhouette(
            "cap",
            ("cap", "hat"),
            outlines.cap,
            (
                (("visor", ("curved visor", "curved peak")), ("cuff", ("turned-up brim", "folded cuff"))),
                (("button", ("top button",)), ("pompom", ("pompom", "bobble"))),
            ),
            ("cable knit", "corduroy", "denim", "fleece", "tweed", "mesh"),
            {"hem": "crown", "cuffs": "brim", "side": "panels"},
        ),
        Silhouette(
            "bag",
            ("bag",),
            outlines.bag,
            (
                (("tote", ("tote shape", "twin handles")), ("backpack", ("backpack shape", "shoulder straps"))),
                (("clasp", ("clasp tab", "snap closure")), ("zip", ("zip pocket", "front zip"))),
            ),
            ("leather", "denim", "quilted nylon", "flannel", "tweed", "linen"),
            {"hem": "base", "cuffs": "top edge", "side": "sides"},
        ),
    )
}
"""By name, in the order in which products are drawn from them."""


@dataclass(frozen=True)
class Garment:
    """A silhouette with its details, ready to be coloured. Masks are L and (size, size).

    ``whole`` is everything that is not background, ``shade`` multiplies colours, ``shadow`` falls on the ground;
    ``fabric`` (size, size) bool is where the fabric itself is seen.
    """

    size: int
    masks: dict[str, Image.Image]
    whole: Image.Image
    shade: Image.Image
    shadow: Image.Image
    fabric: NDArray[np.bool_]
    spines: dict[str, tuple[Spine, ...]]


def _shade(whole: Image.Image, masks: dict[str, Image.Image], size: int) -> Image.Image:
    """Rounded edges, light from the upper left, and soft folds: RGB to multiply with."""
    blurred = np.asarray(whole.filter(ImageFilter.GaussianBlur(size / 42)), dtype=np.float32) / 255
    depth = np.clip((blurred - 0.45) / 0.5, 0, 1) ** 0.8
    slope_y, slope_x = np.gradient(blurred)
    light = -(slope_x + slope_y) * size / 60
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    folds = np.sin(9 * x + 4 * y + 1.8 * np.sin(5 * y)) * np.sin(3.0 * y + 5 * x)
    seams = np.asarray(masks["line"].filter(ImageFilter.GaussianBlur(size / 90)), dtype=np.float32) / 255
    shade = 0.70 + 0.27 * depth - 0.16 * np.clip(light, -1, 1) + 0.045 * folds - 0.16 * seams
    return Image.fromarray((shade.clip(0.3, 1) * 255).astype(np.uint8)).convert("RGB")


@lru_cache(maxsize=128)
def build_garment(name: str, details: tuple[str, str], size: int) -> Garment:
    """Draw a silhouette with its details on a canvas of ``size`` pixels (cached)."""
    pen = Pen(size)
    SILHOUETTES[name].draw(pen, *details)
    solid = [pen.masks[layer] for layer in ("lining", "body", "rib", "solid", "metal")]
    whole = solid[0]
    for mask in solid[1:]:
        whole = ImageChops.lighter(whole, mask)
    masks = {layer: ImageChops.darker(pen.masks[layer], whole) for layer in LAYERS}
    hidden = np.zeros((size, size), dtype=bool)
    for layer in ("rib", "solid", "metal"):
        hidden |= np.asarray(masks[layer]) > 0
    shadow = ImageChops.offset(whole, round(size * 0.012), round(size * 0.022))
    shadow = shadow.filter(ImageFilter.GaussianBlur(size / 50)).point([round(value * 0.42) for value in range(256)])
    return Garment(
        size=size,
        masks=masks,
        whole=whole,
        shade=_shade(whole, masks, size),
        shadow=shadow,
        fabric=(np.asarray(masks["body"]) > 0) & ~hidden,
        spines={zone: tuple(spines) for zone, spines in pen.spines.items()},
    )
