"""Data sets of the hub: saved, as Parquet files, by name; Marqo's fashion sets as small copies of their columns."""

import os
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset, DatasetDict
from omegaconf import OmegaConf
from raw_products import picture

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.config import load_prepare_config
from e2fashion.data.prepare import prepare, prepare_catalogue
from e2fashion.data.sources import hub
from e2fashion.data.sources.base import SourceProblem, SourceRow
from e2fashion.data.sources.hub import HubSource
from e2fashion.types import E2FashionError

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "data"
MARQO = {
    "kagl": "gender category1 category2 category3 baseColour season year usage text item_ID",
    "deepfashion_inshop": "category1 category2 category3 color description text item_ID",
    "deepfashion_multimodal": "category2 text item_ID",
    "fashion200k": "category1 category2 category3 text item_ID",
    "atlas": "sub-category text item_ID",
    "polyvore": "category text item_ID",
    "imaterialist": "gender color material sleeve pattern neckline style category item_ID",
}
COLUMNS = {"columns": {"product_id": "item_ID", "description": "text"}, "tags": {"brand": "maker"}}


def table(columns: str = "text maker item_ID", rows: int = 12, first: int = 0) -> Dataset:
    """Rows as they are on the hub: encoded images, whole numbers as ids."""
    numbers = range(first, first + rows)
    cells: dict[str, list[Any]] = {
        column: [f"{column} {number % 5}{number}" for number in numbers] for column in columns.split()
    }
    cells["item_ID"] = list(numbers)
    if "year" in cells:
        cells["year"] = [2012.0] * rows
    cells["image"] = [{"bytes": picture(number), "path": f"{number}.jpg"} for number in numbers]
    return Dataset.from_dict(cells).cast_column("image", datasets.Image())


def rows_of(path: Path | str, **options: Any) -> list[SourceRow]:
    result = HubSource(str(path), **{**COLUMNS, **options}).rows()
    return [row for row in result if isinstance(row, SourceRow)]


def test_a_saved_data_set_with_its_splits(tmp_path: Path) -> None:
    parts = {"train": table(), "validation": table(rows=3, first=20), "test": table(rows=4, first=30)}
    DatasetDict(parts).save_to_disk(tmp_path / "saved")
    source = HubSource(str(tmp_path / "saved"), **COLUMNS)
    catalogue = prepare_catalogue(source, tmp_path / "c", progress=False)
    counts = {split: count["products"] for split, count in catalogue.manifest.splits.items()}
    assert counts == {"train": 12, "val": 3, "test": 4}
    sample = next(catalogue.samples("test"))
    assert (sample.product_id, sample.description, sample.tags["brand"]) == ("30", "text 030", "maker 030")
    assert sample.image == picture(30)
    again = prepare_catalogue(HubSource(str(tmp_path / "saved"), **COLUMNS), tmp_path / "c", progress=False)
    assert again.fingerprint == catalogue.fingerprint
    only = rows_of(tmp_path / "saved", splits={"test": "train"})
    assert [(row.product_id, row.split) for row in only] == [(str(number), "train") for number in range(30, 34)]


def test_other_content_at_the_same_place_is_another_request(tmp_path: Path) -> None:
    table().save_to_disk(tmp_path / "saved")
    prepare_catalogue(HubSource(str(tmp_path / "saved"), **COLUMNS), tmp_path / "c", progress=False)
    table(rows=13).save_to_disk(tmp_path / "other")
    (tmp_path / "saved").rename(tmp_path / "old")
    (tmp_path / "other").rename(tmp_path / "saved")
    with pytest.raises(E2FashionError, match="its tables have changed since"):
        prepare_catalogue(HubSource(str(tmp_path / "saved"), **COLUMNS), tmp_path / "c", progress=False)


def test_a_single_split_is_divided_and_equal_ids_are_views(tmp_path: Path) -> None:
    first, second = table(), table(rows=2)
    datasets.concatenate_datasets([first, second]).save_to_disk(tmp_path / "saved")
    rows = rows_of(tmp_path / "saved")
    assert [(row.product_id, row.view, row.split) for row in rows[-2:]] == [("0", 1, None), ("1", 1, None)]
    source = HubSource(str(tmp_path / "saved"), **COLUMNS)
    assert prepare_catalogue(source, tmp_path / "c", progress=False).split_names == ("train", "val", "test")


def test_parquet_files_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "copy" / "data").mkdir(parents=True)
    for number in range(2):
        table(rows=3, first=3 * number).to_parquet(tmp_path / "copy" / "data" / f"train-0000{number}-of-00002.parquet")
    table(rows=2, first=20).to_parquet(tmp_path / "copy" / "data" / "test-00000-of-00001.parquet")
    rows = rows_of(tmp_path / "copy")
    assert [(row.product_id, row.split) for row in rows][-4:] == [
        ("2", "train"),
        *((str(n), "train") for n in (3, 4, 5)),
    ]
    assert {row.split for row in rows} == {"train", "test"}
    assert len(rows_of(tmp_path / "copy" / "data" / "train-00001-of-00002.parquet")) == 3


@pytest.mark.parametrize("name", MARQO)
def test_marqo_s_fashion_sets(name: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    table(MARQO[name]).to_parquet(tmp_path / "data" / "data-00000-of-00001.parquet")
    file, place = CONFIGS / f"marqo_{name}.yaml", tmp_path / "c"
    config, options = load_prepare_config(file, [f"path={tmp_path}", f"output={place}"])
    prepare(config, options, progress=False)
    catalogue = Catalogue.load(place)
    assert catalogue.split_names == ("train", "val", "test")
    assert not catalogue.manifest.skipped
    assert list(catalogue.tag_columns) == list(OmegaConf.load(file).tags)
    assert "sub_category" in catalogue.tag_columns
    sample = next(catalogue.samples("train"))
    assert all(sample.tags.values())
    assert sample.description.startswith("color " if name == "imaterialist" else "text ")


def test_a_name_is_loaded_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load(*words: Any, **options: Any) -> DatasetDict:
        asked.append((words, options))
        return DatasetDict({"data": table(rows=2)})

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(hub, "silence_of_hub", lambda *_: None)
    assert len(rows_of("owner/name", subset="small", revision="main")) == 2
    assert asked == [(("owner/name", "small"), {"revision": "main"})]


def test_a_name_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*words: Any, **options: Any) -> DatasetDict:
        raise ConnectionError("Couldn't reach 'owner/name' on the Hub\nmore")

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(hub, "silence_of_hub", lambda *_: None)
    with pytest.raises(E2FashionError, match=r"'owner/name' \(no such folder or file, so .*: Couldn't reach .* Hub$"):
        rows_of("owner/name")


def test_a_row_without_its_picture_is_listed(tmp_path: Path) -> None:
    given = table(rows=3).cast_column("image", datasets.Image(decode=False)).to_dict()
    given["image"] = [{"bytes": None, "path": "https://shop.example/1.jpg"}, None, given["image"][2]]
    Dataset.from_dict(given).save_to_disk(tmp_path / "saved")
    source = HubSource(str(tmp_path / "saved"), **COLUMNS)
    problems = [row for row in source.rows() if isinstance(row, SourceProblem)]
    assert [(row.product_id, row.value, row.reason) for row in problems] == [
        ("0", "'https://shop.example/1.jpg'", "missing image"),
        ("1", "None", "missing image"),
    ]


def test_mistakes_are_named(tmp_path: Path) -> None:
    place = tmp_path / "saved"
    DatasetDict({"train": table(), "queries": table(rows=2)}).save_to_disk(place)
    with pytest.raises(E2FashionError, match=r"has the splits train, queries; what is 'queries'\?"):
        rows_of(place)
    with pytest.raises(E2FashionError, match=r"has no split 'val'\. It has: train, queries"):
        rows_of(place, splits={"val": "val"})
    with pytest.raises(E2FashionError, match="splits names a split 'tset'; write one of train, val, test"):
        rows_of(place, splits={"train": "tset"})
    single = {"splits": {"train": "train"}}
    with pytest.raises(E2FashionError, match="columns has no part 'brand'"):
        rows_of(place, columns={"brand": "maker"})
    with pytest.raises(E2FashionError, match=r"has no column 'description' \(columns.description\)"):
        rows_of(place, columns={"product_id": "item_ID"}, **single)
    with pytest.raises(E2FashionError, match=r"has the field '\{colour\}', which the catalogue lacks"):
        rows_of(place, text="{colour}", **single)
    (tmp_path / "empty").mkdir()
    with pytest.raises(E2FashionError, match="holds no data set: neither one that datasets' save_to_disk wrote"):
        rows_of(tmp_path / "empty")
    assert rows_of(place, text="by {brand}", missing_values=["maker 00"], **single)[1].description == "by maker 11"


@pytest.mark.parametrize("name", ["data-00000-of-00001.arrow", "state.json", "dataset_info.json"])
def test_a_pipe_in_a_saved_data_set_is_refused(tmp_path: Path, name: str) -> None:
    table().save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / name).unlink()
    os.mkfifo(tmp_path / "saved" / name)
    with pytest.raises(E2FashionError, match=r"cannot be read|holds no data set"):
        HubSource(str(tmp_path / "saved"), **COLUMNS)


@pytest.mark.parametrize("file", ["dataset_info.json", "state.json", "data-00000-of-00001.arrow"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_a_damaged_saved_data_set_is_refused(tmp_path: Path, file: str, share: float) -> None:
    table().save_to_disk(tmp_path / "saved")
    damaged = tmp_path / "saved" / file
    data = damaged.read_bytes()
    damaged.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(E2FashionError, match=r"The data set .*saved cannot be read \(.*\)\. Save or fetch it again"):
        rows_of(tmp_path / "saved")
