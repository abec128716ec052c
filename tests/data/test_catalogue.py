from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import datasets
import pyarrow as pa
import pytest
from raw_products import ListSource, row

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.config import Preparation
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.disk import DamagedError, seal, write_json
from e2fashion.types import E2FashionError


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    rows = [row(number, split="train" if number else "val") for number in range(4)]
    return prepare_catalogue(ListSource(rows), tmp_path / "out", progress=False)


def change_manifest(catalogue: Catalogue, **values: object) -> None:
    file = catalogue.path / "manifest.json"
    write_json(file, seal({**json.loads(file.read_text()), **values}))


def as_an_earlier_version_wrote_it(catalogue: Catalogue) -> None:
    """Without a list of files and without a seal."""
    file = catalogue.path / "manifest.json"
    content = json.loads(file.read_text())
    del content["files"], content["checksum"]
    file.write_text(json.dumps(content))


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
    assert catalogue.summary() == "train 3 images of 3 products; val 1 images of 1 products"


def test_a_split_that_does_not_exist(catalogue: Catalogue) -> None:
    with pytest.raises(E2FashionError, match=r"has no split 'test'; it has: train, val"):
        catalogue.split("test")


def test_files_that_are_gone(catalogue: Catalogue) -> None:
    next((catalogue.path / "train").glob("*.arrow")).unlink()
    with pytest.raises(DamagedError, match=r"train/data-.*arrow is missing.*Prepare the catalogue again"):
        Catalogue.load(catalogue.path)
    as_an_earlier_version_wrote_it(catalogue)
    with pytest.raises(DamagedError, match=r"split 'train' of .* cannot be read.*Prepare the catalogue again"):
        Catalogue.load(catalogue.path)


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


def cut_at_a_batch(catalogue: Catalogue) -> None:
    """Leave the last batch of train out, as a stream that was cut there: it reads without an error."""
    (file,) = (catalogue.path / "train").glob("*.arrow")
    rows = pa.ipc.open_stream(file.read_bytes()).read_all()
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, rows.schema) as writer:
        for row in range(len(rows) - 1):
            writer.write_table(rows.slice(row, 1))


def point_to_another_split(catalogue: Catalogue) -> None:
    shutil.copy(catalogue.path / "val" / "state.json", catalogue.path / "train" / "state.json")
    state = json.loads((catalogue.path / "train" / "state.json").read_text())
    state["_data_files"] = [{"filename": f"../val/{item['filename']}"} for item in state["_data_files"]]
    (catalogue.path / "train" / "state.json").write_text(json.dumps(state))


def exchange_splits(catalogue: Catalogue) -> None:
    (catalogue.path / "train").rename(catalogue.path / "aside")
    (catalogue.path / "val").rename(catalogue.path / "train")
    (catalogue.path / "aside").rename(catalogue.path / "val")


def add_a_file(catalogue: Catalogue) -> None:
    shutil.copy(
        catalogue.path / "val" / "data-00000-of-00001.arrow", catalogue.path / "train" / "data-00001-of-00002.arrow"
    )


def empty_the_state(catalogue: Catalogue) -> None:
    (catalogue.path / "train" / "state.json").write_text("[" * 100_000)


DAMAGES = [cut_at_a_batch, point_to_another_split, exchange_splits, add_a_file, empty_the_state]


@pytest.mark.parametrize("age", ["listed", "of an earlier version"])
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_catalogue_is_refused_and_prepared_again(
    damage: Callable[[Catalogue], None], age: str, catalogue: Catalogue, caplog: pytest.LogCaptureFixture
) -> None:
    if age != "listed":
        as_an_earlier_version_wrote_it(catalogue)
        assert Catalogue.load(catalogue.path).fingerprint == catalogue.fingerprint
    damage(catalogue)
    with pytest.raises(DamagedError, match=r"out.*(damaged|missing|cannot be read).*Prepare the catalogue again\.$"):
        Catalogue.load(catalogue.path)
    rows = [row(number, split="train" if number else "val") for number in range(4)]
    again = prepare_catalogue(ListSource(rows), catalogue.path, progress=False)
    assert "It is prepared again" in caplog.text
    assert again.fingerprint == Catalogue.load(catalogue.path).fingerprint == catalogue.fingerprint
    assert [item.name for item in catalogue.path.parent.iterdir()] == ["out"]


def test_every_flipped_byte_of_a_catalogue_is_noticed(catalogue: Catalogue) -> None:
    for file in sorted(catalogue.path.rglob("*.*")):
        whole = file.read_bytes()
        for place in range(0, len(whole), max(1, len(whole) // 20)):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x20]) + whole[place + 1 :])
            try:
                Catalogue.load(catalogue.path)
            except DamagedError:
                pass
            else:  # what JSON does not tell apart: the case of an escape, or a changed name of the seal
                assert file.name == "manifest.json"
        file.write_bytes(whole)
    assert Catalogue.load(catalogue.path).fingerprint == catalogue.fingerprint


@pytest.mark.parametrize("manifest", ["{", "", '{"format_version": 1, "fingerprint": 3, "split_rule": ""}'])
def test_prepare_repairs_a_damaged_manifest(manifest: str, catalogue: Catalogue) -> None:
    (catalogue.path / "manifest.json").write_text(manifest)
    rows = [row(number, split="train" if number else "val") for number in range(4)]
    assert prepare_catalogue(ListSource(rows), catalogue.path, progress=False).fingerprint == catalogue.fingerprint
    assert Catalogue.load(catalogue.path).fingerprint == catalogue.fingerprint


def test_overwriting_leaves_files_that_are_not_ours(catalogue: Catalogue) -> None:
    notes = catalogue.path / "train" / "notes.txt"
    notes.write_text("of a year")
    with pytest.raises(E2FashionError, match=r"also holds 'train/notes\.txt', which e2fashion did not write\. Move it"):
        prepare_catalogue(ListSource([row(9)]), catalogue.path, Preparation(overwrite=True), progress=False)
    assert notes.read_text() == "of a year"
    assert Catalogue.load(catalogue.path).fingerprint == catalogue.fingerprint
