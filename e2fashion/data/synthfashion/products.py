"""The attributes of a product, and the text that describes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from e2fashion.data.synthfashion.drawing import COLORS
from e2fashion.data.synthfashion.fabrics import FABRICS
from e2fashion.data.synthfashion.garments import SEASONS, SILHOUETTES
from e2fashion.data.synthfashion.logos import BRANDS
from e2fashion.types import Split

TEMPLATES: tuple[str, ...] = (
    "{fabric} {noun} in {colour}. {first}, {second}. {trim}.",
    "{colour} {fabric} {noun} with {first} and {second}. {trim}. {logo}.",
    "{noun} cut from {fabric} in {colour}. {first}. {trim} and {second}.",
    "A {mood} {brand} {noun} in {colour} {fabric}, {first}, {second}.",
    "A {mood} {noun} in {fabric}, coloured {colour}. {second}. {first}. {logo}.",
    "{colour} {noun} by {brand}: {fabric}, {first}, {trim}.",
    "{first} {noun} in {colour} {fabric}. {trim}. Finished with {second}.",
    "{mood} {fabric} {noun}, {second}, {first}. {trim} on {colour}.",
    "In {colour}: {fabric} {noun}. {second}. {first}. {trim}. {logo}.",
    "{noun}, {fabric}, {colour}. {trim}, {first} and {second} for a {mood} look.",
    "This {colour} {noun} is made of {fabric} and has {first}, {second} and {trim}.",
    "{fabric} {noun} with {trim}. {logo}. Comes in {colour} with {first}.",
)

LOGO_WORDS = (("Logo patch placed high", "Small badge set high"), ("Logo patch placed low", "Small badge set low"))
"""By whether the logo is in the lower half of its free cells."""

MOODS: tuple[str, ...] = ("casual", "classic", "modern", "relaxed", "sporty", "refined")


def _one(choices: Iterable[str], random: np.random.Generator) -> str:
    listed = tuple(choices)
    return listed[int(random.integers(len(listed)))]


def describe(attributes: Attributes, random: np.random.Generator) -> str:
    """Write the description of a product: what is drawn, never more than the reader of the image could check."""
    silhouette, season = SILHOUETTES[attributes.sub_category], SEASONS[attributes.season]
    first, second = attributes.details
    # The order of the draws makes the text: a phrase of each detail, then the template, then its fields.
    phrases = [_one(silhouette.first[first], random), _one(silhouette.second[second], random)]
    text = _one(TEMPLATES, random).format(
        fabric=_one(FABRICS[attributes.fabric].words, random),
        noun=_one(silhouette.nouns, random),
        colour=attributes.color,
        first=phrases[0],
        second=phrases[1],
        trim=_one(season.words, random).format(zone=silhouette.zones[season.zone]),
        logo=_one(LOGO_WORDS[attributes.logo_low], random),
        brand=attributes.brand,
        mood=_one(MOODS, random),
    )
    return ". ".join(sentence[:1].upper() + sentence[1:] for sentence in text.split(". "))


UNSEEN: dict[Split, frozenset[tuple[str, str]]] = {
    "val": frozenset((("t-shirt", "denim"), ("sweater", "tweed"), ("coat", "quilted nylon"), ("trousers", "leather"),
                      ("bag", "flannel"))),
    "test": frozenset((("shirt", "corduroy"), ("hoodie", "denim"), ("jacket", "tweed"), ("skirt", "leather"),
                       ("cap", "fleece"))),
}  # fmt: skip
"""Pairs of sub-category and fabric that only this split holds, whatever the seed."""

SHARE: dict[Split, float] = {"val": 0.1, "test": 0.1}

TAG_COLUMNS = ("brand", "season", "sub_category", "composition")

MISSABLE = ("brand", "season", "composition")
"""Tag columns that may be unknown. What is drawn stays the same."""


LINE = 4
"""Products of a line: the same sub-category, fabric and color. Only trim, details and logo distinguish them."""


@dataclass(frozen=True)
class Line:
    """What the products of a line share."""

    sub_category: str
    fabric: str
    color: str
    split: Split


@dataclass(frozen=True)
class Attributes:
    """What is drawn.

    ``logo_low`` and ``logo_place`` (0 to 1) locate the logo: in the lower half or not, and among the cells
    that are free there. ``texture_place`` is the part of the fabric that is seen. Logo and trim are ``detail_scale``
    times as large as usual.
    """

    sub_category: str
    details: tuple[str, str]
    fabric: str
    brand: str
    season: str
    color: str
    logo_low: bool
    logo_place: float
    texture_place: tuple[float, float]
    detail_scale: float = 1.0


@dataclass(frozen=True)
class Product:
    """One article: its attributes, its text, the tags that are known, and its split."""

    index: int
    product_id: str
    line: str
    attributes: Attributes
    description: str
    tags: dict[str, str | None]
    split: Split


@lru_cache(maxsize=1)
def _brand_shares() -> np.ndarray:
    """Frequencies of the brands, a long tail as in real catalogues: proportional to rank to the power of -0.6."""
    weights = np.arange(1, len(BRANDS) + 1) ** -0.6
    return np.cumsum(weights / weights.sum())


@lru_cache(maxsize=2)
def unseen_share(split: Split) -> float:
    """Share of all (sub-category, fabric, color) that belong to a split because of their pair."""
    return sum(1 / len(SILHOUETTES) / len(SILHOUETTES[name].fabrics) for name, _ in UNSEEN[split])


def split_of(sub_category: str, fabric: str, color: str, seed: int) -> Split:
    """Split of everything with this sub-category, fabric and color: by ``UNSEEN``, else by a hash with the seed.

    Every description states all three, so equal descriptions never cross splits.
    """
    for split, pairs in UNSEEN.items():
        if (sub_category, fabric) in pairs:
            return split
    digest = blake2b(f"{seed}/{sub_category}/{fabric}/{color}".encode(), digest_size=8).digest()
    drawn = int.from_bytes(digest, "big") / 2**64
    rest = 1 - sum(unseen_share(split) for split in UNSEEN)
    for split in UNSEEN:
        share = (SHARE[split] - unseen_share(split)) / rest
        if drawn < share:
            return split
        drawn -= share
    return "train"


@lru_cache(maxsize=8)
def build_line(line: int, seed: int) -> Line:
    """The product line of (seed, line). Of ten lines the second is for val, the third for test.

    Its attributes are drawn until they belong to that split: the shares are exact, and a dozen products have all three.
    """
    random = np.random.default_rng([seed, line, 0, 1])
    wanted: Split = {1: "val", 2: "test"}.get(line % 10, "train")  # type: ignore[assignment]
    while True:
        sub_category = _one(SILHOUETTES, random)
        fabric = _one(SILHOUETTES[sub_category].fabrics, random)
        color = _one(COLORS, random)
        if split_of(sub_category, fabric, color, seed) == wanted:
            return Line(sub_category, fabric, color, wanted)


def build_product(index: int, seed: int, missing_tags: float, detail_scale: float = 1.0) -> Product:
    """The product of (seed, index): the same however many others there are."""
    random = np.random.default_rng([seed, index])
    line = build_line(index // LINE, seed)
    silhouette = SILHOUETTES[line.sub_category]
    seasons = (name for name, season in SEASONS.items() if line.color in season.colors)
    attributes = Attributes(
        sub_category=line.sub_category,
        details=(_one(silhouette.first, random), _one(silhouette.second, random)),
        fabric=line.fabric,
        brand=tuple(BRANDS)[int(np.searchsorted(_brand_shares(), random.random(), side="right"))],
        season=_one(seasons, random),
        color=line.color,
        logo_low=bool(random.random() < 0.5),
        logo_place=float(random.random()),
        texture_place=(float(random.random()), float(random.random())),
        detail_scale=detail_scale,
    )
    description = describe(attributes, random)
    tags: dict[str, str | None] = {
        "brand": attributes.brand,
        "season": attributes.season,
        "sub_category": attributes.sub_category,
        "composition": FABRICS[attributes.fabric].composition,
    }
    for column in MISSABLE:
        if random.random() < missing_tags:
            tags[column] = None
    return Product(
        index=index,
        product_id=f"synthetic-{seed}-{index:06d}",
        line=f"line-{index // LINE:06d}",
        attributes=attributes,
        description=description,
        tags=tags,
        split=line.split,
    )
