"""Garments: silhouettes with details, drawn as layers with light and shadow; and seasons: palettes and their trims.

A trim, a pattern in one of the garment's zones, shows which season it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from e2fashion.data.synthfashion import outlines
from e2fashion.data.synthfashion.drawing import LAYERS, Color, Pen, Point, Spine

Details = dict[str, tuple[str, ...]]
"""What is drawn, and how a description calls it."""


@dataclass(frozen=True)
class Silhouette:
    """A sub-category: how it is drawn, the fabrics that it comes in, and its two choices of a detail.

    ``zones`` names the trim zones in words.
    """

    draw: Callable[[Pen, str, str], None]
    nouns: tuple[str, ...]
    zones: dict[str, str]
    fabrics: tuple[str, ...]
    first: Details
    second: Details


WORN = {"hem": "hem", "cuffs": "cuffs", "side": "side seams"}

SILHOUETTES: dict[str, Silhouette] = {
    "t-shirt": Silhouette(
        outlines.t_shirt, ("T-shirt", "tee"), WORN,
        ("denim", "flannel", "linen", "mesh", "corduroy", "fleece"),
        {"crew": ("crew neck", "round neckline"), "v": ("V-neck", "V-shaped neckline")},
        {"plain": ("clean front",), "pocket": ("chest pocket", "patch pocket at chest")}),
    "shirt": Silhouette(
        outlines.shirt, ("shirt", "button-up shirt"), WORN,
        ("denim", "flannel", "linen", "corduroy", "tweed", "leather"),
        {"short": ("short sleeves",), "long": ("long sleeves", "full-length sleeves")},
        {"plain": ("clean front",), "pocket": ("chest pocket", "flap pocket at chest")}),
    "sweater": Silhouette(
        outlines.sweater, ("sweater", "pullover", "jumper"), WORN,
        ("cable knit", "fleece", "mesh", "tweed", "flannel"),
        {"crew": ("crew neck", "round neckline"), "turtle": ("turtleneck", "roll neck")},
        {"regular": ("regular fit",), "wide": ("oversized fit", "relaxed fit")}),
    "hoodie": Silhouette(
        outlines.hoodie, ("hoodie", "hooded sweatshirt"), WORN,
        ("fleece", "mesh", "cable knit", "corduroy", "denim", "quilted nylon"),
        {"closed": ("kangaroo pocket",), "zip": ("full zip front", "zip closure")},
        {"cord": ("drawstring hood", "drawcords at hood"), "plain": ("cordless hood",)}),
    "jacket": Silhouette(
        outlines.jacket, ("jacket", "zip jacket"), WORN,
        ("denim", "leather", "quilted nylon", "corduroy", "tweed", "fleece"),
        {"stand": ("stand collar", "funnel collar"), "lapel": ("notched lapels", "lapel collar")},
        {"slanted": ("slanted pockets",), "flap": ("flap pockets", "four flap pockets")}),
    "coat": Silhouette(
        outlines.coat, ("coat", "overcoat"), WORN,
        ("tweed", "leather", "quilted nylon", "fleece", "flannel", "denim"),
        {"single": ("single-breasted front",), "double": ("double-breasted front", "double button row")},
        {"plain": ("straight waist",), "belt": ("belted waist", "buckled belt")}),
    "dress": Silhouette(
        outlines.dress, ("dress", "day dress"), {"hem": "hem", "cuffs": "armholes", "side": "side seams"},
        ("linen", "denim", "flannel", "cable knit", "leather", "corduroy"),
        {"none": ("sleeveless cut", "bare arms"), "short": ("short sleeves",)},
        {"flared": ("flared skirt", "A-line skirt"), "narrow": ("pencil skirt", "narrow skirt")}),
    "skirt": Silhouette(
        outlines.skirt, ("skirt",), {"hem": "hem", "cuffs": "waistband", "side": "side seams"},
        ("denim", "leather", "flannel", "corduroy", "tweed", "linen"),
        {"short": ("mini length", "short cut"), "long": ("midi length", "mid-calf cut")},
        {"buttoned": ("button front", "buttoned placket"), "pleated": ("pleats", "knife pleats")}),
    "trousers": Silhouette(
        outlines.trousers, ("trousers", "pants"), {"hem": "ankles", "cuffs": "leg openings", "side": "side seams"},
        ("denim", "corduroy", "linen", "leather", "tweed", "fleece"),
        {"narrow": ("slim legs", "tapered legs"), "wide": ("wide legs", "loose legs")},
        {"creased": ("pressed creases",), "cargo": ("cargo pockets", "thigh pockets")}),
    "shorts": Silhouette(
        outlines.shorts, ("shorts",), {"hem": "hem", "cuffs": "leg openings", "side": "side seams"},
        ("denim", "linen", "mesh", "corduroy", "flannel", "fleece"),
        {"short": ("short legs", "above-knee cut"), "long": ("bermuda length", "knee-length cut")},
        {"button": ("button waist",), "cord": ("drawstring waist", "elastic waist")}),
    "sneakers": Silhouette(
        outlines.sneaker, ("sneakers", "trainers"), {"hem": "sole", "cuffs": "collar", "side": "side panel"},
        ("leather", "mesh", "denim", "corduroy", "tweed"),
        {"low": ("low-top cut", "low profile"), "high": ("high-top cut", "ankle-high shape")},
        {"laced": ("lace-up front", "laced front"), "strap": ("strap closure", "grip straps")}),
    "cap": Silhouette(
        outlines.cap, ("cap", "hat"), {"hem": "crown", "cuffs": "brim", "side": "panels"},
        ("cable knit", "corduroy", "denim", "fleece", "tweed", "mesh"),
        {"visor": ("curved visor", "curved peak"), "cuff": ("turned-up brim", "folded cuff")},
        {"button": ("top button",), "pompom": ("pompom", "bobble")}),
    "bag": Silhouette(
        outlines.bag, ("bag",), {"hem": "base", "cuffs": "top edge", "side": "sides"},
        ("leather", "denim", "quilted nylon", "flannel", "tweed", "linen"),
        {"tote": ("tote shape", "twin handles"), "backpack": ("backpack shape", "shoulder straps")},
        {"clasp": ("clasp tab", "snap closure"), "zip": ("zip pocket", "front zip")}),
}  # fmt: skip
"""By name, in the order in which products are drawn from them."""


@dataclass(frozen=True)
class Garment:
    """A silhouette with its details, ready to be colored. Masks are L and (size, size).

    ``whole`` is everything that is not background, ``shade`` multiplies colors, ``shadow`` falls on the ground;
    ``fabric`` (size, size) bool is where the fabric itself is seen.
    """

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
        masks=masks,
        whole=whole,
        shade=_shade(whole, masks, size),
        shadow=shadow,
        fabric=(np.asarray(masks["body"]) > 0) & ~hidden,
        spines={zone: tuple(spines) for zone, spines in pen.spines.items()},
    )


@dataclass(frozen=True)
class Season:
    """A collection. ``accents`` are the trim's colors: the one that stands out most from the fabric is used."""

    zone: str
    pattern: str
    accents: tuple[Color, Color]
    words: tuple[str, ...]
    colors: tuple[str, ...]


SEASONS: dict[str, Season] = {
    "SS2023": Season("hem", "twin stripes", ((214, 48, 49), (255, 250, 240)),
                     ("twin stripes at {zone}", "double stripe along {zone}"),
                     ("ecru", "coral", "sky blue", "mint", "stone grey", "indigo")),
    "FW2023": Season("hem", "zigzag", ((250, 196, 60), (40, 70, 160)),
                     ("zigzag band at {zone}", "zigzag trim along {zone}"),
                     ("burgundy", "charcoal", "mustard", "moss green", "black", "rust")),
    "SS2024": Season("side", "tape", ((30, 150, 90), (250, 250, 250)),
                     ("contrast tape on {zone}", "taping down {zone}"),
                     ("lilac", "blush pink", "mint", "sand", "teal", "sky blue")),
    "FW2024": Season("cuffs", "solid", ((240, 130, 40), (70, 200, 210)),
                     ("bright {zone}", "colour-blocked {zone}"),
                     ("indigo", "black", "stone grey", "rust", "teal", "burgundy")),
    "SS2025": Season("cuffs", "dots", ((25, 60, 150), (255, 235, 120)),
                     ("dotted {zone}", "polka dots around {zone}"),
                     ("coral", "ecru", "mustard", "lilac", "indigo", "sand")),
    "FW2025": Season("hem", "checks", ((252, 252, 252), (24, 24, 30)),
                     ("checkerboard band at {zone}", "check border along {zone}"),
                     ("moss green", "charcoal", "blush pink", "teal", "black", "rust")),
}  # fmt: skip


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
        """The spine moved sideways; each point along the normal of its neighbors' direction."""
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
def build_trim(season: str, silhouette: str, details: tuple[str, str], size: int, detail_scale: float = 1.0) -> Trim:
    """Draw a season's trim on a garment, ``detail_scale`` times as wide as usual (cached); it ends where that ends."""
    garment = build_garment(silhouette, details, size)
    whole = Image.new("L", (size, size), 0)
    outlines = []
    for usual in garment.spines[SEASONS[season].zone]:
        spine = Spine(usual.points, usual.width * detail_scale)
        mask = Image.new("L", (size, size), 0)
        _draw(SEASONS[season].pattern, spine, ImageDraw.Draw(mask), size)
        visible = ImageChops.subtract(mask, ImageChops.lighter(garment.masks["solid"], garment.masks["metal"]))
        visible = ImageChops.darker(visible, garment.whole)
        pixels = np.asarray(visible) > 0
        if pixels.any():
            outlines += [extremes(piece) for piece in _pieces(pixels, spine.width * size)]
            whole = ImageChops.lighter(whole, visible)
    return Trim(whole, tuple(outlines))
