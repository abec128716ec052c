"""Products: attributes drawn from (seed, index) alone, and the rule that splits them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from e2fashion.data.synthetic.fabrics import FABRICS
from e2fashion.data.synthetic.garments import SILHOUETTES
from e2fashion.data.synthetic.logos import BRANDS
from e2fashion.data.synthetic.seasons import SEASONS
from e2fashion.data.synthetic.wording import describe
from e2fashion.types import Split

UNSEEN: dict[Split, frozenset[tuple[str, str]]] = {
    "val": frozenset(
        {
            ("t-shirt", "denim"),
            ("sweater", "tweed"),
            ("coat", "quilted nylon"),
            ("trousers", "leather"),
            ("bag", "flannel"),
        }
    ),
    "test": frozenset(
        {
            ("shirt", "corduroy"),
            ("hoodie", "denim"),
            ("jacket", "tweed"),
            ("skirt", "leather"),
            ("cap", "fleece"),
        }
    ),
}
"""Pairs of sub-category and fabric that only this split holds, whatever the seed."""

SHARE: dict[Split, float] = {"val": 0.1, "test": 0.1}

TAG_COLUMNS = ("brand", "season", "sub_category", "composition")

MISSABLE = ("brand", "season", "composition")
"""Tag columns that may be unknown. What is drawn stays the same."""


@dataclass(frozen=True)
class Attributes:
    """What is drawn.

    ``logo_low`` and ``logo_place`` (0 to 1) say where the logo sits: in the lower half or not, and among the places
    that are free there. ``texture_place`` is the part of the fabric that is seen.
    """

    sub_category: str
    details: tuple[str, str]
    fabric: str
    brand: str
    season: str
    colour: str
    logo_low: bool
    logo_place: float
    texture_place: tuple[float, float]


@dataclass(frozen=True)
class Product:
    """One article: its attributes, its text, the tags that are known, and its split."""

    index: int
    product_id: str
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
    """Expected share of all products that belong to a split because of their pair."""
    return sum(1 / len(SILHOUETTES) / len(SILHOUETTES[name].fabrics) for name, _ in UNSEEN[split])


def choose_split(sub_category: str, fabric: str, description: str, seed: int) -> Split:
    """Split of a product: by its pair where that is unseen in training, else by a hash of (seed, description).

    Equal descriptions thus never cross splits (a text tells sub-category and fabric). The shares are ``SHARE``.
    """
    for split, pairs in UNSEEN.items():
        if (sub_category, fabric) in pairs:
            return split
    digest = blake2b(f"{seed}\n{description}".encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2**64
    rest = 1 - sum(unseen_share(split) for split in UNSEEN)
    for split in UNSEEN:
        share = (SHARE[split] - unseen_share(split)) / rest
        if place < share:
            return split
        place -= share
    return "train"


def build_product(index: int, seed: int, missing_tags: float) -> Product:
    """The product of (seed, index): the same however many others there are."""
    random = np.random.default_rng([seed, index])

    def one(choices: tuple[str, ...]) -> str:
        return choices[int(random.integers(len(choices)))]

    sub_category = one(tuple(SILHOUETTES))
    silhouette = SILHOUETTES[sub_category]
    season = one(tuple(SEASONS))
    attributes = Attributes(
        sub_category=sub_category,
        details=(one(tuple(v for v, _ in silhouette.details[0])), one(tuple(v for v, _ in silhouette.details[1]))),
        fabric=one(silhouette.fabrics),
        brand=tuple(BRANDS)[int(np.searchsorted(_brand_shares(), random.random(), side="right"))],
        season=season,
        colour=one(SEASONS[season].colours),
        logo_low=bool(random.random() < 0.5),
        logo_place=float(random.random()),
        texture_place=(float(random.random()), float(random.random())),
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
        attributes=attributes,
        description=description,
        tags=tags,
        split=choose_split(attributes.sub_category, attributes.fabric, description, seed),
    )
