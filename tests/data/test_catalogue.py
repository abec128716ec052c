from __future__ import annotations

import json
import pickle
from pathlib import Path

import datasets
import pytest
from raw_products import ListSource, row

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.types import E2FashionError


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    rows = [row(number, split="train" if number else "val") for number in range(4)]
    return prepare_catalogue(ListSource(rows), tmp_path / "out", progress=False)


def change_manifest(catalogue: Catalogue, **values: object) -> None:
    file = catalogue.path / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_a_split_is_an_ordinary_data_set_on_disk(catalogue: Catalogue) -> None:
    loaded = datasets.load_from_disk(str(catalogue.path / "train"))
    assert loaded.features["image"] == datasets.Value("binary")
    assert loaded.features["view"] == datasets.Value("int32")
    assert loaded["product_id"] == ["p1", "p2", "p3"]


def test_a_split_is_mapped_into_memory(catalogue: Catalogue) -> None:
    assert catalogue.split("train").cache_files


def test_data_set_survives_its_way_to_a_worker(catalogue: Catalogue) -> None:
    sent = pickle.loads(pickle.dumps(catalogue.split("train")))
    assert sent[2] == catalogue.split("train")[2]


def test_samples_name_their_row(catalogue: Catalogue) -> None:
    sample = list(catalogue.samples("train"))[1]
    assert (sample.product_id, sample.split, sample.row) == ("p2", "train", "out/train row 1")


def test_summary_counts(catalogue: Catalogue) -> None:
    assert catalogue.summary() == "train 3 pictures of 3 products; val 1 pictures of 1 products"


def test_a_split_that_does_not_exist(catalogue: Catalogue) -> None:
    with pytest.raises(E2FashionError, match=r"has no split 'test'; it has: train, val"):
        catalogue.split("test")


def test_files_that_are_gone(catalogue: Catalogue) -> None:
    next((catalogue.path / "train").glob("*.arrow")).unlink()
    with pytest.raises(E2FashionError, match=r"split 'train' of .* cannot be read.*Prepare the catalogue again"):
        Catalogue.load(catalogue.path).split("train")


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match=r"nothing is not a catalogue: it does not exist.*data prepare"):
        Catalogue.load(tmp_path / "nothing")


def test_a_folder_without_manifest(tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match=r"is not a catalogue: it has no manifest.json"):
        Catalogue.load(tmp_path)


def test_a_newer_format(catalogue: Catalogue) -> None:
    change_manifest(catalogue, format_version=99)
    with pytest.raises(E2FashionError, match="has catalogue format 99; this e2fashion reads up to 1"):
        Catalogue.load(catalogue.path)


def test_an_empty_catalogue(catalogue: Catalogue) -> None:
    change_manifest(catalogue, splits={"train": {"images": 0, "products": 0}})
    with pytest.raises(E2FashionError, match=r"catalogue .* is empty"):
        Catalogue.load(catalogue.path)


@pytest.mark.parametrize("content", ["{", "[]", '{"format_version": 1}'])
def test_a_damaged_manifest(content: str, catalogue: Catalogue) -> None:
    (catalogue.path / "manifest.json").write_text(content)
    with pytest.raises(E2FashionError, match=r"manifest.json is damaged.*Prepare the catalogue again"):
        Catalogue.load(catalogue.path)
