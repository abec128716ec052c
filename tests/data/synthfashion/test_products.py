"""Attributes, splits and texts of SynthFashion; nothing is rendered here."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations

import numpy as np
import pytest

from e2fashion.data.synthfashion.drawing import COLORS
from e2fashion.data.synthfashion.fabrics import FABRICS
from e2fashion.data.synthfashion.garments import SEASONS, SILHOUETTES, build_garment, build_trim
from e2fashion.data.synthfashion.logos import BRANDS, build_logo
from e2fashion.data.synthfashion.products import MISSABLE, TEMPLATES, UNSEEN, Product, build_product
from e2fashion.data.synthfashion.render import LOGO_SHARE, build_layout


@pytest.fixture(scope="module")
def products() -> list[Product]:
    return [build_product(index, 0, 0.1) for index in range(4000)]


def pair(product: Product) -> tuple[str, str]:
    return product.attributes.sub_category, product.attributes.fabric


def test_splits_are_a_tenth_each(products: list[Product]) -> None:
    assert Counter(product.split for product in products) == {"train": 3200, "val": 400, "test": 400}


def test_a_dozen_products_hold_every_split(products: list[Product]) -> None:
    assert {product.split for product in products[:12]} == {"train", "val", "test"}


def test_a_line_shares_what_it_should_and_stays_in_one_split(products: list[Product]) -> None:
    lines = defaultdict(set)
    for product in products:
        drawn = product.attributes
        lines[product.line].add((drawn.sub_category, drawn.fabric, drawn.color, product.split))
    assert all(len(shared) == 1 for shared in lines.values())


def test_no_combination_with_colour_crosses_splits(products: list[Product]) -> None:
    splits = defaultdict(set)
    for product in products:
        splits[(*pair(product), product.attributes.color)].add(product.split)
    assert all(len(result) == 1 for result in splits.values())


def test_unseen_pairs_stay_in_their_split(products: list[Product]) -> None:
    held = {split: {pair(product) for product in products if product.split == split} for split in ("val", "test")}
    for split, pairs in UNSEEN.items():
        assert pairs <= held[split]
        assert {product.split for product in products if pair(product) in pairs} == {split}


def test_unseen_pairs_are_made_of_seen_parts() -> None:
    for sub_category, fabric in frozenset.union(*UNSEEN.values()):
        assert fabric in SILHOUETTES[sub_category].fabrics
    left = [
        (name, fabric)
        for name, silhouette in SILHOUETTES.items()
        for fabric in silhouette.fabrics
        if (name, fabric) not in frozenset.union(*UNSEEN.values())
    ]
    assert {name for name, _ in left} == set(SILHOUETTES)
    assert {fabric for _, fabric in left} == set(FABRICS)


def test_no_text_crosses_splits(products: list[Product]) -> None:
    splits = defaultdict(set)
    for product in products:
        splits[product.description].add(product.split)
    assert all(len(result) == 1 for result in splits.values())


def test_words_name_one_fabric_and_one_sub_category() -> None:
    for kinds in ([f.words for f in FABRICS.values()], [s.nouns for s in SILHOUETTES.values()]):
        words = [word for choices in kinds for word in choices]
        assert len(words) == len(set(words))
    assert len({fabric.composition for fabric in FABRICS.values()}) == len(FABRICS)


def test_every_template_tells_fabric_noun_and_colour() -> None:
    assert len(set(TEMPLATES)) >= 8
    for template in TEMPLATES:
        assert all(slot in template for slot in ("{fabric}", "{noun}", "{colour}", "{first}"))


def test_descriptions_have_8_to_30_words_and_name_the_colour(products: list[Product]) -> None:
    for product in products:
        assert 8 <= len(product.description.split()) <= 30, product.description
        assert product.attributes.color in product.description.lower()
        assert "{" not in product.description


def test_a_tenth_of_the_tags_is_missing(products: list[Product]) -> None:
    for column in MISSABLE:
        missing = np.mean([product.tags[column] is None for product in products])
        assert missing == pytest.approx(0.1, abs=0.02)
    assert all(product.tags["sub_category"] for product in products)


def test_missing_tags_change_nothing_else(products: list[Product]) -> None:
    for product in products[:50]:
        whole = build_product(product.index, 0, 0.0)
        assert None not in whole.tags.values()
        assert (whole.attributes, whole.description, whole.split) == (
            product.attributes,
            product.description,
            product.split,
        )


def test_every_value_occurs(products: list[Product]) -> None:
    drawn = [product.attributes for product in products]
    assert {a.sub_category for a in drawn} == set(SILHOUETTES)
    assert {a.fabric for a in drawn} == set(FABRICS)
    assert {a.brand for a in drawn} == set(BRANDS)
    assert {a.season for a in drawn} == set(SEASONS)
    assert {colour for season in SEASONS.values() for colour in season.colors} <= set(COLORS)


def test_logos_differ_even_mirrored() -> None:
    side = 18
    logos = {name: np.asarray(build_logo(name, side, True), dtype=np.float64) for name in BRANDS}
    assert len(BRANDS) == 24
    for first, second in combinations(BRANDS, 2):
        for other in (logos[second], logos[second][:, ::-1]):
            assert np.abs(logos[first] - other).mean() > 12, (first, second)


@pytest.mark.parametrize("name", SILHOUETTES)
def test_each_garment_has_every_trim_and_room_for_a_logo(name: str) -> None:
    size = 256
    reach = round(LOGO_SHARE * size) // 2
    for first in SILHOUETTES[name].first:
        for second in SILHOUETTES[name].second:
            for season in SEASONS:
                trim = build_trim(season, name, (first, second), size)
                share = (np.asarray(trim.mask) > 0).mean()
                assert 0.002 < share < 0.06, (season, first, second, share)
                layout = build_layout(season, name, (first, second), size)
                free = build_garment(name, (first, second), size).fabric & (np.asarray(trim.mask) == 0)
                for x, y in np.concatenate([layout.high, layout.low])[::7]:
                    square = free[y - reach : y + reach + 1, x - reach : x + reach + 1]
                    assert square.shape == (2 * reach + 1, 2 * reach + 1)
                    assert square.all(), (season, first, second)
                assert layout.high[:, 1].max() <= layout.low[:, 1].min() or len(layout.high) < 10
