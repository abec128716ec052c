from __future__ import annotations

import csv
import errno
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from raw_products import ListSource, encoded, picture, row, write_styles

from e2fashion.data import storage
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.config import Preparation
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.data.rows import ProductError
from e2fashion.data.sources import SOURCES
from e2fashion.data.sources.base import SourceProblem, SourceRow
from e2fashion.types import Box, E2FashionError
from tests.faults import failures, in_child, kills


def prepare(rows: list[Any], output: Path, **settings: Any) -> Catalogue:
    return prepare_catalogue(ListSource(rows), output, Preparation(**settings), progress=False)


def test_every_row_arrives_unchanged_in_exactly_one_split(tmp_path: Path) -> None:
    given = [row(number) for number in range(20)]
    catalogue = prepare(given, tmp_path / "out")
    result = {sample.product_id: sample for split in catalogue.split_names for sample in catalogue.samples(split)}
    assert catalogue.split_names == ("train", "val", "test")
    assert sorted(result) == sorted(one.product_id for one in given)
    for one in given:
        sample = result[one.product_id]
        assert (sample.image, sample.description, sample.tags) == (one.image, one.description, one.tags)


def test_products_keep_their_order_and_views_are_sorted(tmp_path: Path) -> None:
    wanted = [("b", 2), ("a", 0), ("b", 0), ("a", 1)]
    rows = [row(number, product_id=product, view=view, split="train") for number, (product, view) in enumerate(wanted)]
    split = prepare(rows, tmp_path / "out", val_fraction=0.0).split("train")
    assert list(zip(split["product_id"], split["view"], strict=True)) == [("b", 0), ("b", 2), ("a", 0), ("a", 1)]


def test_rows_come_back_in_order_from_many_small_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(number, product_id=f"p{number % 7}", view=number, split="train") for number in range(40)]
    whole = prepare(rows, tmp_path / "whole", val_fraction=0.0)
    monkeypatch.setattr(storage, "BATCH_ROWS", 3)
    monkeypatch.setattr(storage, "FILE_BYTES", 4000)
    pieces = prepare(rows, tmp_path / "pieces", val_fraction=0.0)
    assert len(list((tmp_path / "pieces" / "train").glob("*.arrow"))) > 3
    assert pieces.split("train").to_list() == whole.split("train").to_list()
    assert pieces.fingerprint == whole.fingerprint


def test_regions_survive_and_their_column_is_absent_without_them(tmp_path: Path) -> None:
    boxes = {"brand": (Box(0.1, 0.2, 0.30000000000000004, 0.4), Box(0.5, 0.5, 1.0, 1.0))}
    rows = [row(0, split="train"), row(1, split="train", regions=boxes)]
    catalogue = prepare(rows, tmp_path / "boxes", val_fraction=0.0)
    assert [sample.regions for sample in catalogue.samples("train")] == [None, boxes]
    plain = prepare([row(0, split="train")], tmp_path / "plain", val_fraction=0.0)
    assert "regions" not in plain.manifest.columns


def test_the_manifest_counts_images_and_products(tmp_path: Path) -> None:
    rows = [row(number, product_id=f"p{number // 2}", view=number % 2, split="train") for number in range(6)]
    manifest = prepare(rows, tmp_path / "out", val_fraction=0.0).manifest
    assert manifest.splits == {"train": {"images": 6, "products": 3}}
    assert manifest.split_rule == "given by the source"
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["tag_columns"] == ["brand", "season"]


DAMAGED = {
    "missing image": row(90, image=Path("nowhere.jpg")),
    "unreadable image": row(91, image=b"not an image"),
    "truncated image": row(92, image=picture(92)[:-200]),
    "zero-byte image": row(93, image=b""),
    "oversized image": row(94, image=encoded(Image.new("L", (2000, 2000)))),
    "empty text": row(95, description=" "),
    "over-long text": row(96, description="x" * 10_000),
    "duplicate id": row(3),
    "unknown split": row(97, split="holdout"),
    "wrong encoding": row(98, description="Caf\udce9"),
    "unreadable row": SourceProblem("table line 99", "p99", "columns", "3 fields", "quote them"),
}


@pytest.mark.parametrize("reason", DAMAGED)
def test_a_damaged_row_stops_with_its_reason_and_leaves_nothing(reason: str, tmp_path: Path) -> None:
    rows = [*[row(number) for number in range(10)], DAMAGED[reason]]
    with pytest.raises(ProductError, match=rf"table line \d+.*{reason} in field '\w+'.*Remedy: .*on_error=skip"):
        prepare(rows, tmp_path / "out", max_pixels=1_000_000)
    assert list(tmp_path.iterdir()) == []


def test_damaged_rows_are_skipped_counted_and_listed(tmp_path: Path) -> None:
    rows = [*[row(number) for number in range(10)], *DAMAGED.values()]
    catalogue = prepare(rows, tmp_path / "out", on_error="skip", max_pixels=1_000_000)
    assert catalogue.manifest.skipped == dict.fromkeys(DAMAGED, 1)
    assert sum(counts["images"] for counts in catalogue.manifest.splits.values()) == 10
    with (tmp_path / "out" / "skipped.csv").open(encoding="utf-8", newline="") as stream:
        listed = list(csv.DictReader(stream))
    assert [line["reason"] for line in listed] == list(DAMAGED)
    assert listed[0]["row"] == "table line 90"
    assert "nowhere.jpg" in listed[0]["value"]
    assert "11 rows skipped" in catalogue.summary()


def test_a_row_whose_first_copy_was_skipped_is_no_duplicate(tmp_path: Path) -> None:
    rows = [row(0, image=b""), row(0), row(1)]
    assert prepare(rows, tmp_path / "out", on_error="skip").manifest.skipped == {"zero-byte image": 1}


def test_a_product_in_two_splits_is_refused(tmp_path: Path) -> None:
    rows = [row(0, split="train"), row(1, product_id="p0", view=1, split="test")]
    with pytest.raises(ProductError, match=r"product in two splits.*'test', but table line 0 puts .* into 'train'"):
        prepare(rows, tmp_path / "out")


def test_an_empty_source(tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match="The source 'list' has no rows"):
        prepare([], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_nothing_but_problems(tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match=r"all 2 rows have problems. The first: table line 0.*zero-byte"):
        prepare([row(0, image=b""), row(1, image=b"")], tmp_path / "out", on_error="skip")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"val_fraction": 0.6, "test_fraction": 0.6}, "leave room for train"),
        ({"max_text_characters": 0}, "max_text_characters=0"),
        ({"max_pixels": 10**12}, "max_pixels=1,000,000,000,000: it must be between"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match=message):
        prepare([row(0)], tmp_path / "out", **settings)


def test_a_tag_may_not_take_the_name_of_a_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ListSource, "tag_columns", ("description",))
    with pytest.raises(E2FashionError, match="A tag cannot be called 'description'"):
        prepare([row(0)], tmp_path / "out")


def test_the_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    rows = [row(number) for number in range(6)]
    first = prepare(rows, tmp_path / "one" / "a").fingerprint
    assert prepare([replace(one, row="elsewhere") for one in rows], tmp_path / "two" / "b").fingerprint == first


@pytest.mark.parametrize(
    "change",
    [
        {"description": "Another text"},
        {"image": picture(77)},
        {"tags": {"brand": None, "season": None}},
        {"tags": {"brand": "None", "season": None}},
        {"product_id": "q0"},
        {"view": 1},
        {"group": "line"},
        {"split": "test"},
    ],
)
def test_the_fingerprint_changes_with_any_field(change: dict[str, Any], tmp_path: Path) -> None:
    rows = [row(number, split="train") for number in range(4)]
    first = prepare(rows, tmp_path / "first", val_fraction=0.0).fingerprint
    changed = [replace(rows[0], **change), *rows[1:]]
    assert prepare(changed, tmp_path / "second", val_fraction=0.0).fingerprint != first


def test_the_fingerprint_changes_with_the_order(tmp_path: Path) -> None:
    rows = [row(number, split="train") for number in range(4)]
    first = prepare(rows, tmp_path / "first", val_fraction=0.0).fingerprint
    assert prepare(rows[::-1], tmp_path / "second", val_fraction=0.0).fingerprint != first


class InterruptedSource(ListSource):
    """A source in whose middle the user presses Ctrl-C."""

    def rows(self) -> Iterator[SourceRow | SourceProblem]:
        yield from self.given[:3]
        raise KeyboardInterrupt


def test_an_interrupted_preparation_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        prepare_catalogue(InterruptedSource([row(n) for n in range(5)]), tmp_path / "out", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_replacement_leaves_the_old_catalogue(tmp_path: Path) -> None:
    old = prepare([row(n) for n in range(5)], tmp_path / "out")
    interrupted = InterruptedSource([row(n) for n in range(9)])
    with pytest.raises(KeyboardInterrupt):
        prepare_catalogue(interrupted, tmp_path / "out", Preparation(overwrite=True), progress=False)
    assert Catalogue.load(tmp_path / "out").fingerprint == old.fingerprint
    assert [item.name for item in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_kill_at_any_file_operation_loses_nothing_and_a_repeat_goes_on(overwrite: bool, tmp_path: Path) -> None:
    before, after = [row(n) for n in range(5)], [row(n) for n in range(7)]
    target = tmp_path / "out"
    old = prepare(before, target).fingerprint if overwrite else None
    new = prepare(after, tmp_path / "whole").fingerprint
    shutil.rmtree(tmp_path / "whole")
    for _ in kills(lambda: prepare(after, target, overwrite=True), every=4):
        assert (Catalogue.load(target).fingerprint if target.exists() else None) in (old, new)
        if overwrite:
            assert prepare(before, target, overwrite=True).fingerprint == old
        else:
            assert prepare(after, target).fingerprint == new
            shutil.rmtree(target)
        assert {item.name for item in tmp_path.iterdir()} <= {"out"}
    assert Catalogue.load(target).fingerprint == new


def test_a_full_disk_is_one_line_and_the_old_catalogue_stays(tmp_path: Path) -> None:
    old = prepare([row(n) for n in range(5)], tmp_path / "out")
    full = failures(
        lambda: prepare([row(9), row(8)], tmp_path / "out", overwrite=True), lambda: OSError(errno.ENOSPC, "full")
    )
    for _, error in full:
        assert isinstance(error, E2FashionError)
        assert str(error).startswith(f"'{tmp_path / 'out'}' cannot be written: the disk is full: free space, or ")
        if Catalogue.load(tmp_path / "out").fingerprint != old.fingerprint:
            break  # exchanged already: what failed is clearing up


def test_two_that_prepare_one_catalogue(tmp_path: Path) -> None:
    class SecondAtOnce(ListSource):
        def rows(self) -> Iterator[SourceRow | SourceProblem]:
            def second() -> None:
                with pytest.raises(E2FashionError, match=r"out' is being written by process \d+ "):
                    prepare([row(9)], tmp_path / "out")

            assert in_child(second) == 0
            yield from self.given

    prepare_catalogue(SecondAtOnce([row(n) for n in range(5)]), tmp_path / "out", progress=False)
    assert [item.name for item in tmp_path.iterdir()] == ["out"]


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    return write_styles(tmp_path / "kaggle", [f"Puma Men Shirt {number}" for number in range(6)])


def prepare_kaggle(folder: Path, **settings: Any) -> Catalogue:
    source: Any = SOURCES["kagl"]
    return prepare_catalogue(source(path=str(folder)), folder.parent / "out", Preparation(**settings), progress=False)


def written(folder: Path) -> int:
    return (folder.parent / "out" / "manifest.json").stat().st_mtime_ns


def test_a_repeated_request_is_answered_by_what_is_there(kaggle: Path) -> None:
    prepare_kaggle(kaggle)
    before = written(kaggle)
    prepare_kaggle(kaggle)
    assert written(kaggle) == before


def test_other_settings_ask_for_overwrite(kaggle: Path) -> None:
    prepare_kaggle(kaggle)
    with pytest.raises(E2FashionError, match=r"holds another catalogue \(seed was 0 and is 1\)\..*overwrite=true"):
        prepare_kaggle(kaggle, split_seed=1)
    assert prepare_kaggle(kaggle, split_seed=1, overwrite=True).manifest.settings["seed"] == 1


def test_a_changed_table_asks_for_overwrite(kaggle: Path) -> None:
    prepare_kaggle(kaggle)
    table = kaggle / "styles.csv"
    table.write_text(table.read_text().replace("Puma Men Shirt 3", "Nike Men Shirt 3"))
    with pytest.raises(E2FashionError, match="its tables have changed since"):
        prepare_kaggle(kaggle)


@pytest.mark.parametrize("manifest", [None, {"name": "web app"}])
def test_a_folder_that_is_no_catalogue_is_never_replaced(manifest: dict[str, str] | None, kaggle: Path) -> None:
    output = kaggle.parent / "out"
    output.mkdir()
    (output / "thesis.tex").write_text("years of work")
    if manifest:
        (output / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(E2FashionError, match="is not a catalogue: it is left alone"):
        prepare_kaggle(kaggle, overwrite=True)
    assert (output / "thesis.tex").exists()


def test_an_empty_folder_is_used(kaggle: Path) -> None:
    (kaggle.parent / "out").mkdir()
    assert prepare_kaggle(kaggle).split_names == ("train", "val", "test")
