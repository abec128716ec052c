from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf
from raw_products import picture, write_csv

from e2fashion.data.prepare import prepare_catalogue
from e2fashion.data.sources import SOURCES
from e2fashion.data.sources.base import SourceProblem, SourceRow
from e2fashion.data.sources.folder import FolderSource
from e2fashion.types import E2FashionError

COLUMNS = {"product_id": "sku", "image": "foto", "description": "text"}
TAGS = {"brand": "marke", "season": "saison"}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Twenty products with German column names and photos in a folder of their own."""
    (tmp_path / "photos").mkdir()
    for number in range(20):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(picture(number))
    records = [[f"{n:03}", f"{n}.jpg", f"Hemd Nummer {n}", "Kettler" if n % 2 else "", "Herbst"] for n in range(20)]
    write_csv(tmp_path / "products.csv", ["sku", "foto", "text", "marke", "saison"], records, delimiter=";")
    return tmp_path


def source(shop: Path, **changes: Any) -> FolderSource:
    options: dict[str, Any] = {"path": str(shop), "images": "photos", "columns": COLUMNS, "tags": TAGS}
    return FolderSource(**{**options, **changes})


def first(source: FolderSource) -> SourceRow | SourceProblem:
    return next(iter(source.rows()))


def test_twenty_products_of_a_shop(shop: Path) -> None:
    catalogue = prepare_catalogue(source(shop), shop / "out", progress=False)
    assert {split: counts["products"] for split, counts in catalogue.manifest.splits.items()} == {
        "train": 16,
        "val": 2,
        "test": 2,
    }
    samples = {sample.product_id: sample for split in catalogue.split_names for sample in catalogue.samples(split)}
    assert samples["007"].description == "Hemd Nummer 7"
    assert samples["007"].tags == {"brand": "Kettler", "season": "Herbst"}
    assert samples["008"].tags["brand"] is None


def test_parquet_with_pictures_inside(tmp_path: Path) -> None:
    table = pa.table(
        {
            "product_id": [1.0, 2.0],
            "image": [picture(1), picture(2)],
            "description": ["Shirt", "Skirt"],
            "brand": ["A", None],
            "colours": [["red", "blue"], []],
        }
    )
    pq.write_table(table, tmp_path / "products.parquet")
    rows = list(FolderSource(str(tmp_path / "products.parquet"), tags={"brand": "brand", "colour": "colours"}).rows())
    assert isinstance(rows[0], SourceRow)
    assert (rows[0].product_id, rows[0].image) == ("1", picture(1))
    assert rows[0].tags == {"brand": "A", "colour": "red; blue"}


def test_json_lines_with_nulls(tmp_path: Path) -> None:
    record = {"product_id": 5, "image": "a.jpg", "description": None, "brand": None}
    (tmp_path / "products.jsonl").write_text(json.dumps(record))
    row = first(FolderSource(str(tmp_path), tags={"brand": "brand"}))
    assert isinstance(row, SourceRow)
    assert (row.product_id, row.description, row.tags) == ("5", "", {"brand": None})


def test_optional_parts_take_the_column_of_their_name(tmp_path: Path) -> None:
    header = ["product_id", "image", "description", "view", "split", "group"]
    write_csv(tmp_path / "t.csv", header, [["1", "a.jpg", "Shirt", "2", "val", "g"]])
    row = first(FolderSource(str(tmp_path)))
    assert isinstance(row, SourceRow)
    assert (row.view, row.split, row.group) == (2, "val", "g")
    row = first(FolderSource(str(tmp_path), columns={"split": "", "group": ""}))
    assert isinstance(row, SourceRow)
    assert (row.view, row.split, row.group) == (2, None, None)


def test_strings_that_mean_missing(shop: Path) -> None:
    row = first(source(shop, missing_values=["Herbst"]))
    assert isinstance(row, SourceRow)
    assert row.tags["season"] is None


def test_several_pictures_of_a_product_need_views(shop: Path) -> None:
    table = shop / "products.csv"
    table.write_text(table.read_text().replace("001;", "000;"))
    with pytest.raises(
        E2FashionError, match=r"products.csv line 3 \(product 000\): duplicate id.*products.csv line 2.*view column"
    ):
        prepare_catalogue(source(shop), shop / "out", progress=False)


@pytest.mark.parametrize(
    ("cell", "reason", "remedy"),
    [
        ("https://shop.example/1.jpg", "missing image", "nothing is fetched"),
        ("", "missing image", "name a file in every row"),
    ],
)
def test_image_cells_that_name_no_file(cell: str, reason: str, remedy: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", ["product_id", "image", "description"], [["1", cell, "Shirt"]])
    problem = first(FolderSource(str(tmp_path)))
    assert isinstance(problem, SourceProblem)
    assert (problem.reason, problem.row) == (reason, "t.csv line 2")
    assert remedy in problem.remedy


def test_views_are_numbers(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", ["product_id", "image", "description", "view"], [["1", "a.jpg", "Shirt", "front"]])
    problem = first(FolderSource(str(tmp_path)))
    assert isinstance(problem, SourceProblem)
    assert (problem.field, problem.value, problem.reason) == ("view", "'front'", "invalid view")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": {**COLUMNS, "picture": "foto"}}, r"columns has no part 'picture'"),
        ({"columns": {**COLUMNS, "groupe": "foto"}}, r"no part 'groupe'. Did you mean 'group'\?"),
        ({"tags": {"brand": "Mark"}}, r"no column 'Mark' \(tags.brand\). Did you mean 'marke'\?.*sku, foto, text"),
        ({"columns": {"product_id": "sku"}}, r"no column 'image' \(columns.image\)"),
        ({"images": "fotos"}, r"images=fotos: the folder .*fotos does not exist"),
        ({"table": "artikel.csv"}, r"The table .*artikel.csv does not exist"),
    ],
)
def test_options_that_do_not_fit_the_table(changes: dict[str, Any], message: str, shop: Path) -> None:
    with pytest.raises(E2FashionError, match=message):
        source(shop, **changes)


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match=r"nothing does not exist. Give the table"):
        FolderSource(str(tmp_path / "nothing"))


def test_a_folder_with_two_tables_asks_which(shop: Path) -> None:
    shutil.copy(shop / "products.csv", shop / "old.csv")
    with pytest.raises(E2FashionError, match=r"holds 2: old.csv, products.csv. Name it: table=<file>"):
        source(shop)
    assert len(source(shop, table="products.csv")) == 20


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_makes_a_strict_schema(name: str) -> None:
    schema: Any = SOURCES[name]
    assert OmegaConf.is_config(OmegaConf.structured(schema))
    assert schema.name == name


def test_only_the_wanted_rows(shop: Path) -> None:
    kept = list(source(shop, only={"marke": ["Kettler"], "sku": ["001", "002", "003"]}).rows())
    assert [row.product_id for row in kept] == ["001", "003"]


def test_only_with_a_column_that_the_table_lacks(shop: Path) -> None:
    with pytest.raises(E2FashionError, match=r"no column 'mark' \(only.mark\). Did you mean 'marke'\?"):
        source(shop, only={"mark": ["Kettler"]})


def test_only_that_keeps_nothing(shop: Path) -> None:
    with pytest.raises(E2FashionError, match=r"only=\{'marke': \['Ketler'\]\} keeps none of the 20 rows"):
        list(source(shop, only={"marke": ["Ketler"]}).rows())
