"""SynthFashion as a source: the same bytes for the same options, and clear errors for wrong ones."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from e2fashion.data.sources.base import Source, SourceRow
from e2fashion.data.sources.synthetic import SyntheticSource, contact_sheet, generate
from e2fashion.types import E2FashionError


def by_key(rows: list[SourceRow]) -> dict[tuple[str, int], SourceRow]:
    return {(row.product_id, row.view): row for row in rows}


def test_it_is_a_source() -> None:
    source = SyntheticSource(products=3, views=2, image_size=48)
    rows = list(source.rows())
    assert isinstance(source, Source)
    assert len(rows) == len(source) == 6
    for row in rows:
        assert isinstance(row, SourceRow)
        assert set(row.tags) == set(source.tag_columns)
        assert row.split in ("train", "val", "test")


def test_the_same_seed_gives_the_same_rows() -> None:
    assert list(generate(6, 2, 64, seed=5)) == list(generate(6, 2, 64, seed=5))


def test_a_row_depends_neither_on_the_number_of_products_nor_of_views() -> None:
    few, many = by_key(list(generate(3, 1, 48))), by_key(list(generate(5, 3, 48)))
    assert all(many[key] == row for key, row in few.items())


def test_another_seed_gives_other_pictures() -> None:
    first, second = (next(generate(1, 1, 48, seed=seed)) for seed in (0, 1))
    assert first.image != second.image
    assert first.product_id != second.product_id


def test_views_show_one_product_differently() -> None:
    first, second = generate(1, 2, 64)
    assert (first.product_id, first.description, first.split) == (second.product_id, second.description, second.split)
    assert first.image != second.image
    assert (first.view, second.view) == (0, 1)


@pytest.mark.parametrize("size", [32, 33, 100, 224])
def test_pictures_have_the_size_asked_for(size: int) -> None:
    row = next(generate(1, 1, size))
    assert isinstance(row.image, bytes)
    with Image.open(BytesIO(row.image)) as picture:
        assert (picture.size, picture.mode) == ((size, size), "RGB")


def test_a_missing_tag_has_no_region_and_a_known_one_has() -> None:
    rows = list(generate(40, 1, 48, missing_tags=0.5))
    assert any(None in row.tags.values() for row in rows)
    for row in rows:
        assert row.regions is not None
        assert set(row.regions) == {column for column, tag in row.tags.items() if tag is not None}


def test_boxes_lie_inside_the_picture() -> None:
    for row in generate(30, 2, 48):
        for boxes in (row.regions or {}).values():
            for box in boxes:
                assert 0 <= box.left < box.right <= 1
                assert 0 <= box.top < box.bottom <= 1


def test_the_scale_of_details_changes_only_pictures_and_the_boxes_of_what_it_scales() -> None:
    usual, named = (list(generate(8, 2, 64, **scale)) for scale in ({}, {"detail_scale": 1.0}))
    assert usual == named
    for before, after in zip(usual, generate(8, 2, 64, detail_scale=2.0), strict=True):
        same = {"image": before.image, "regions": before.regions}
        assert replace(after, **same) == before
        assert after.image != before.image
        assert (after.regions or {})["sub_category"] == (before.regions or {})["sub_category"]


def test_boxes_grow_with_the_details() -> None:
    scales = (0.25, 0.5, 1.0, 2.0)
    areas = {column: [] for column in ("brand", "season")}
    for scale in scales:
        rows = list(generate(40, 2, 112, detail_scale=scale))
        for column, seen in areas.items():
            boxes = [box for row in rows for box in (row.regions or {}).get(column, ())]
            assert all(0 <= box.left < box.right <= 1 and 0 <= box.top < box.bottom <= 1 for box in boxes)
            seen.append(sum(box.area for box in boxes) / len(boxes))
    for seen in areas.values():
        assert seen == sorted(set(seen))
    assert 3 < areas["brand"][3] / areas["brand"][2] < 4.5  # twice the side, and some pixels of rounding
    assert 0.2 < areas["brand"][1] / areas["brand"][2] < 0.4


@pytest.mark.parametrize("scale", [0.25, 2.0])
def test_the_smallest_picture_has_every_scale(scale: float) -> None:
    rows = list(generate(60, 2, 32, detail_scale=scale, missing_tags=0.0))
    assert all({"brand", "season"} <= set(row.regions or {}) for row in rows)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("products", 0, "products=0 is too small; set it to 1 or more"),
        ("image_size", 8, "image_size=8 is too small; set it to 32 or more"),
        ("views", 0, "views=0 is too small"),
        ("seed", -1, "seed=-1 is too small; set it to 0 or more"),
        ("missing_tags", 1.5, "missing_tags=1.5 is not a share"),
        ("detail_scale", 0.1, r"detail_scale=0\.1 draws no fit logo; set it to 0\.25 to 2"),
        ("detail_scale", float("nan"), "detail_scale=nan draws no fit logo"),
    ],
)
def test_wrong_options_are_refused(option: str, value: float, message: str) -> None:
    with pytest.raises(E2FashionError, match=message):
        replace(SyntheticSource(), **{option: value})


def test_a_contact_sheet_holds_every_picture() -> None:
    rows = list(generate(5, 1, 48))
    plain, boxed = contact_sheet(rows, columns=3, zoom=2), contact_sheet(rows, columns=3, zoom=2, boxes=True)
    assert plain.size == boxed.size == (3 * 96, 2 * 96)
    assert plain.tobytes() != boxed.tobytes()


def test_a_contact_sheet_of_nothing_is_refused() -> None:
    with pytest.raises(E2FashionError, match="got 0 rows"):
        contact_sheet([])
