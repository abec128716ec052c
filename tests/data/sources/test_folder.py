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

from e2fashion.data.config import Preparation
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.data.sources import SOURCES
from e2fashion.data.sources.base import SourceProblem, SourceRow, requested_options
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


@pytest.fixture
def two_folders(tmp_path: Path) -> Path:
    """A shop's folder, and an image beside it that a link leads to as well."""
    (tmp_path / "secret.jpg").write_bytes(picture(1))
    (tmp_path / "shop" / "photos").mkdir(parents=True)
    (tmp_path / "shop" / "photos" / "1.jpg").write_bytes(picture(2))
    (tmp_path / "shop" / "photos" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    return tmp_path


@pytest.mark.parametrize(
    ("images", "cell"),
    [
        ("photos", "../../secret.jpg"),
        ("photos", "link.jpg"),
        ("photos", "{tmp}/secret.jpg"),
        ("photos", "../../nothing.jpg"),
        (".", "../secret.jpg"),
        (".", "photos/link.jpg"),
        (".", "photos/../../secret.jpg"),
        (".", "/dev/null"),
    ],
)
def test_images_stay_inside_the_source_s_folder(images: str, cell: str, two_folders: Path) -> None:
    cell = cell.format(tmp=two_folders)
    records = [["1", cell, "Shirt"], ["2", "1.jpg" if images == "photos" else "photos/1.jpg", "Coat"]]
    write_csv(two_folders / "shop" / "t.csv", ["product_id", "image", "description"], records)
    given: dict[str, Any] = {"path": str(two_folders / "shop"), "images": images}
    with pytest.raises(E2FashionError, match=r"t.csv line 2 .*image outside the source.*is outside .*outside=true"):
        prepare_catalogue(FolderSource(**given), two_folders / "out", progress=False)
    allowed = FolderSource(**given, outside=True)
    skipped = prepare_catalogue(
        allowed, two_folders / "out", Preparation(on_error="skip"), progress=False
    ).manifest.skipped
    assert sum(skipped.values()) == (not cell.endswith(("secret.jpg", "link.jpg")))


def test_the_folder_of_images_may_be_a_link_or_lie_elsewhere(two_folders: Path) -> None:
    shop = two_folders / "shop"
    (two_folders / "linked").symlink_to(shop)
    write_csv(shop / "t.csv", ["product_id", "image", "description"], [["1", "1.jpg", "Shirt"]])
    for number, (path, images) in enumerate([(two_folders / "linked", "photos"), (shop, str(shop / "photos"))]):
        source = FolderSource(str(path), images=images)
        assert prepare_catalogue(source, two_folders / f"out{number}", progress=False).manifest.skipped == {}


def test_an_option_that_was_added_later_changes_no_request(shop: Path) -> None:
    assert "outside" not in requested_options(source(shop))
    assert requested_options(source(shop, outside=True))["outside"] is True
    assert requested_options(source(shop))["images"] == "photos"


@pytest.mark.parametrize("view", ["9" * 30, "-1", "1.5", "\u00b2"])
def test_views_that_are_no_small_numbers_are_one_row_s_problem(view: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", ["product_id", "image", "description", "view"], [["1", "a.jpg", "Shirt", view]])
    problem = first(FolderSource(str(tmp_path)))
    assert isinstance(problem, SourceProblem)
    assert problem.reason == "invalid view"


def test_a_file_that_is_no_image_is_named_without_its_bytes(shop: Path) -> None:
    (shop / "photos" / "0.jpg").write_text("root:secret-password")
    with pytest.raises(E2FashionError, match=r"unreadable image in field 'image': .*0.jpg") as error:
        prepare_catalogue(source(shop), shop / "out", progress=False)
    assert "secret" not in str(error.value)


def test_control_characters_are_escaped_where_rows_are_listed(shop: Path) -> None:
    table = shop / "products.csv"
    table.write_text(table.read_text().replace("005;5.jpg", "005\x1b[31m;5.jpg"))
    catalogue = prepare_catalogue(source(shop), shop / "out", Preparation(on_error="skip"), progress=False)
    assert catalogue.manifest.skipped == {"control characters": 1}
    listed = (shop / "out" / "skipped.csv").read_text()
    assert "\x1b" not in listed
    assert "005\\x1b[31m" in listed
