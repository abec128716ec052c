"""Logos on photos: recorded where they are seen, the same for the same seed, on the garment, nothing else changed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from raw_products import PricedSource
from raw_products import row as made_row

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.config import Preparation
from e2fashion.data.images import read_image
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.data.sources.base import SourceRow
from e2fashion.data.sources.drawn_logos import DrawnLogosSource
from e2fashion.data.synthfashion.logos import BRANDS, draw_logo
from e2fashion.types import E2FashionError


def rows_of(catalogue: Catalogue, **options: float) -> list[SourceRow]:
    source = DrawnLogosSource(str(catalogue.path), **options)  # type: ignore[arg-type]  # numbers of either kind
    return [row for row in source.rows() if isinstance(row, SourceRow)]


def lies_in(inner: Sequence[float], outer: Sequence[float]) -> bool:
    """Whether a box (left, top, right, bottom) lies in another one."""
    return all(a >= b for a, b in zip(inner[:2], outer[:2], strict=True)) and all(
        a <= b for a, b in zip(inner[2:], outer[2:], strict=True)
    )


@pytest.mark.parametrize("seed", range(8))
def test_the_box_holds_all_that_a_logo_changes(seed: int) -> None:
    random = np.random.default_rng(seed)
    photo = Image.new("RGB", (150, 200), (250, 250, 250))
    garment = (30, 60, 120, 180)
    photo.paste((90, 120, 160), garment)
    drawn, box = draw_logo(photo, sorted(BRANDS)[seed], 0.15, random)
    changed = np.abs(np.asarray(drawn, dtype=int) - np.asarray(photo, dtype=int)).max(axis=-1) > 40
    rows, columns = np.nonzero(changed)
    seen = (columns.min(), rows.min(), columns.max(), rows.max())
    recorded = (box.left * 150 - 1e-9, box.top * 200 - 1e-9, box.right * 150 - 1 + 1e-9, box.bottom * 200 - 1 + 1e-9)
    assert lies_in(seen, recorded)
    assert lies_in(seen, garment), "the logo leaves the garment"
    assert changed.sum() > 0.3 * box.area * 150 * 200


@pytest.mark.parametrize("size", [(12, 90), (40, 40)])
def test_a_photo_without_a_garment_has_its_logo_somewhere_inside(size: tuple[int, int]) -> None:
    photo = Image.new("RGB", size, (200, 200, 200))
    drawn, box = draw_logo(photo, "Auvenne", 0.3, np.random.default_rng(0))
    assert drawn.size == size
    assert lies_in((box.left, box.top, box.right, box.bottom), (0, 0, 1, 1))
    assert box.area > 0


def test_a_row_keeps_all_but_its_image_and_the_tag_of_the_logo(synth_catalogue: Catalogue) -> None:
    before = [sample for split in synth_catalogue.split_names for sample in synth_catalogue.samples(split)]
    after = rows_of(synth_catalogue)
    assert len(after) == len(before)
    for sample, row in zip(before, after, strict=True):
        assert (row.product_id, row.view, row.split, row.group, row.description) == (
            *(sample.product_id, sample.view, sample.split, sample.group, sample.description),
        )
        assert {**row.tags, "logo": None} == {**sample.tags, "logo": None}
        assert isinstance(row.image, bytes)
        assert read_image(row.image).size == read_image(sample.image).size
        assert list(row.regions or {}) == [*(sample.regions or {}), "logo"]
    brands = {(row.product_id, row.tags["logo"]) for row in after}
    assert len(brands) == len({row.product_id for row in after}), "views of one product differ in brand"
    assert {brand for _, brand in brands} <= set(BRANDS)
    assert len({row.tags["logo"] for row in after}) > 12


def test_fewer_products_are_the_same_products_with_the_same_logos(synth_catalogue: Catalogue) -> None:
    every = {(row.product_id, row.view): row.image for row in rows_of(synth_catalogue)}
    few = rows_of(synth_catalogue, products=30)
    assert len({row.product_id for row in few}) == 30
    assert all(every[row.product_id, row.view] == row.image for row in few)
    assert rows_of(synth_catalogue, seed=1)[0].image != rows_of(synth_catalogue)[0].image


def test_as_a_catalogue(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    source = DrawnLogosSource(str(synth_catalogue.path), products=40)
    catalogue = prepare_catalogue(source, tmp_path / "logos", progress=False)
    assert catalogue.tag_columns == (*synth_catalogue.tag_columns, "logo")
    assert catalogue.split_names == synth_catalogue.split_names
    assert prepare_catalogue(source, tmp_path / "logos", progress=False).fingerprint == catalogue.fingerprint
    with pytest.raises(E2FashionError, match=r"drawn_logos: the catalogue .* has a tag 'logo' already"):
        DrawnLogosSource(str(catalogue.path))


def test_columns_of_numbers_stay_numbers(tmp_path: Path) -> None:
    prices = ["1.299", "1,5e-7", None, "12,5"]
    rows = [made_row(number, tags={"brand": "b", "price": price}, split="train") for number, price in enumerate(prices)]
    config = Preparation(numbers=["price"], val_fraction=0.0)
    before = prepare_catalogue(PricedSource(rows), tmp_path / "before", config, progress=False)
    after = prepare_catalogue(
        DrawnLogosSource(str(before.path)), tmp_path / "after", Preparation(val_fraction=0.0), progress=False
    )
    assert (after.tag_columns, after.number_columns) == (("brand", "logo"), ("price",))
    assert after.split("train")["price"][:] == before.split("train")["price"][:] == [1299.0, 1.5e-7, None, 12.5]


def test_options_out_of_range(synth_catalogue: Catalogue) -> None:
    with pytest.raises(E2FashionError, match=r"size=0\.7 is not a share of a photo; set it above 0, up to 0\.5"):
        DrawnLogosSource(str(synth_catalogue.path), size=0.7)
    with pytest.raises(E2FashionError, match="products=-1 is negative; set it to 0 for all"):
        DrawnLogosSource(str(synth_catalogue.path), products=-1)
    with pytest.raises(E2FashionError, match=r"nowhere is not a catalogue"):
        DrawnLogosSource("nowhere")
