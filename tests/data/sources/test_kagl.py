from __future__ import annotations

import os
from pathlib import Path

import pytest
from raw_products import ListSource, picture, write_csv, write_styles

from e2fashion.data.config import Preparation
from e2fashion.data.describe import describe_catalogue
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.data.sources.base import SourceRow
from e2fashion.data.sources.kagl import KaglSource
from e2fashion.types import E2FashionError

METADATA = [
    *("id", "image", "name", "brand", "season", "year", "gender", "master_category", "sub_category"),
    *("article_type", "colour", "usage", "composition", "description", "group", "split"),
]


def write_metadata(folder: Path, **changes: str) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "1.jpg").write_bytes(picture(1))
    values = dict.fromkeys(METADATA, "x") | {"id": "1", "image": "images/1.jpg", "split": "val"} | changes
    write_csv(folder / "metadata.csv", values, [list(values.values())])
    return folder


def rows_of(source: KaglSource) -> list[SourceRow]:
    rows = [row for row in source.rows() if isinstance(row, SourceRow)]
    assert len(rows) == len(source)
    return rows


def test_styles_with_commas_in_the_name(tmp_path: Path) -> None:
    folder = write_styles(tmp_path / "kaggle", ["Puma Men Shirt", "Set of 3 Socks, black, grey"])
    first, second = rows_of(KaglSource(str(folder)))
    assert second.description == "Set of 3 Socks, black, grey"
    assert (second.row, second.image) == ("styles.csv line 3", folder / "images" / "2.jpg")
    assert dict(first.tags) == {
        "season": "Fall",
        "sub_category": "Topwear",
        "article_type": "Shirts",
        "colour": "NA",
        "gender": "Men",
        "usage": "Casual",
        "master_category": "Apparel",
        "year": "2011",
    }


def test_styles_ids_without_image_are_listed(tmp_path: Path) -> None:
    folder = write_styles(tmp_path / "kaggle", [f"Shirt {number}" for number in range(6)])
    (folder / "images" / "4.jpg").unlink()
    catalogue = prepare_catalogue(
        KaglSource(str(folder)), tmp_path / "out", Preparation(on_error="skip"), progress=False
    )
    assert catalogue.manifest.skipped == {"missing image": 1}
    assert "styles.csv line 5,4,missing image" in (tmp_path / "out" / "skipped.csv").read_text()


@pytest.mark.parametrize(
    ("name", "brand"),
    [
        ("Puma Men Logo Shorts", "Puma"),
        ("Red Tape Semi Casual Men's Shoe", "Red Tape Semi Casual"),
        ("ADIDAS Black Backpack", None),
    ],
)
def test_styles_brand_from_the_name(name: str, brand: str | None, tmp_path: Path) -> None:
    folder = write_styles(tmp_path / "kaggle", [name])
    source = KaglSource(str(folder), brand_from_name=True)
    assert source.tag_columns[0] == "brand"
    assert rows_of(source)[0].tags["brand"] == brand


def test_styles_wrong_number_of_fields(tmp_path: Path) -> None:
    folder = write_styles(tmp_path / "kaggle", ["Shirt 1", "Shirt 2", "Shirt 3"])
    with (folder / "styles.csv").open("a") as stream:
        stream.write("9,Men\n")
    with pytest.raises(E2FashionError, match=r"styles.csv line 5 \(product 9\): wrong number of fields.*2 fields"):
        prepare_catalogue(KaglSource(str(folder)), tmp_path / "out", progress=False)


def test_styles_in_another_encoding(tmp_path: Path) -> None:
    folder = write_styles(tmp_path / "kaggle", ["Shirt 1", "Chemise d'été"])
    table = folder / "styles.csv"
    table.write_bytes(table.read_text(encoding="utf-8").encode("latin-1"))
    with pytest.raises(
        E2FashionError, match=r"styles.csv line 3 .*wrong encoding in field 'description'.*encoding=cp1252"
    ):
        prepare_catalogue(KaglSource(str(folder)), tmp_path / "out", progress=False)
    assert rows_of(KaglSource(str(folder), encoding="latin-1"))[1].description == "Chemise d'été"


def test_metadata_keeps_na_split_and_group(tmp_path: Path) -> None:
    row = rows_of(KaglSource(str(write_metadata(tmp_path / "clean", usage="NA", composition="", group="7"))))[0]
    assert (row.split, row.group, row.description) == ("val", "7", "x")
    assert (row.tags["usage"], row.tags["composition"]) == ("NA", "")


def test_metadata_long_descriptions(tmp_path: Path) -> None:
    folder = write_metadata(tmp_path / "clean", description="A long story")
    assert rows_of(KaglSource(str(folder), text="description"))[0].description == "A long story"


def test_metadata_without_a_column(tmp_path: Path) -> None:
    folder = write_metadata(tmp_path / "clean")
    table = folder / "metadata.csv"
    table.write_text(table.read_text().replace("sub_category", "subcategory"))
    with pytest.raises(E2FashionError, match=r"no column 'sub_category'.*Did you mean 'subcategory'"):
        KaglSource(str(folder))


def test_a_folder_one_level_too_high(tmp_path: Path) -> None:
    write_styles(tmp_path / "fashion-dataset", ["Shirt"])
    with pytest.raises(E2FashionError, match=r"nor styles.csv. Did you mean path=.*fashion-dataset"):
        KaglSource(str(tmp_path))


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match="this folder does not exist"):
        KaglSource(str(tmp_path / "nothing"))


def test_a_folder_without_images(tmp_path: Path) -> None:
    folder = write_styles(tmp_path / "kaggle", [])
    (folder / "images").rmdir()
    with pytest.raises(E2FashionError, match="has no folder 'images'"):
        KaglSource(str(folder))


def test_styles_have_no_descriptions(tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match=r"text=description needs metadata.csv"):
        KaglSource(str(write_styles(tmp_path / "kaggle", [])), text="description")


def real_products() -> KaglSource:
    if "E2FASHION_DATA" not in os.environ:
        pytest.skip("set E2FASHION_DATA to the folder that holds fashion-product-images")
    return KaglSource(str(Path(os.environ["E2FASHION_DATA"]) / "fashion-product-images"))


@pytest.mark.real_data
@pytest.mark.slow
def test_the_real_products(tmp_path: Path) -> None:
    source = real_products()
    catalogue = prepare_catalogue(source, tmp_path / "given", progress=False)
    counts = {split: count["images"] for split, count in catalogue.manifest.splits.items()}
    assert counts == {"train": 9507, "val": 1255, "test": 1120}
    described = describe_catalogue(catalogue)
    assert (described.values["brand"], described.values["sub_category"]) == (329, 39)
    assert (described.crossing_texts, described.crossing_images) == (0, 0)
    kept = catalogue.split("train").select_columns(["product_id", "image"])[0]
    assert kept["image"] == (Path(source.path) / "images" / f"{kept['product_id']}.jpg").read_bytes()


@pytest.mark.real_data
def test_real_products_without_their_splits(tmp_path: Path) -> None:
    """Nothing that they share (names repeat often) crosses the splits that we make."""
    undeclared = [
        SourceRow(one.row, one.product_id, one.image, one.description, {"brand": None, "season": None}, group=one.group)
        for one in rows_of(real_products())[:3000]
    ]
    catalogue = prepare_catalogue(ListSource(undeclared), tmp_path / "out", progress=False)
    described = describe_catalogue(catalogue)
    assert described.splits["train"].equal_texts > 0
    assert (described.crossing_texts, described.crossing_images) == (0, 0)
    counts = {split: count["images"] for split, count in catalogue.manifest.splits.items()}
    assert counts == {"train": 2400, "val": 300, "test": 300}
