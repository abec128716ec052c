"""FashionIQ as a catalogue: texts from captions, splits, what is missing and what is listed twice, one embedding."""

import csv
import json
from pathlib import Path

import pytest
from fashion_iq_layout import EMPTY, MISSING, PRODUCTS, write_fashion_iq

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.config import Preparation, load_prepare_config
from e2fashion.data.prepare import prepare, prepare_catalogue
from e2fashion.data.sources.base import SourceProblem, SourceRow
from e2fashion.data.sources.fashion_iq import FashionIqSource
from e2fashion.types import E2FashionError

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "data" / "fashion_iq.yaml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_fashion_iq(tmp_path / "fashion-iq")


def rows_of(folder: Path) -> dict[str, SourceRow]:
    rows = FashionIqSource(str(folder)).rows()
    return {row.product_id: row for row in rows if isinstance(row, SourceRow)}


def problems_of(folder: Path) -> list[tuple[str, str]]:
    rows = FashionIqSource(str(folder)).rows()
    return [(row.product_id, row.reason) for row in rows if isinstance(row, SourceProblem)]


def test_a_picture_has_the_words_of_the_captions_that_ask_for_it(folder: Path) -> None:
    rows = rows_of(folder)
    asked = rows["Btopteetrain2"]  # the reference is number 1, whose second caption says so
    assert asked.description == "is blue and longer and has no stripes"
    assert (asked.split, asked.tags, asked.view) == ("train", {"category": "top"}, 0)
    assert rows["Btopteetrain0"].description == "top"  # nobody asks for the first
    assert rows[EMPTY.replace("0", "1")].description == "is blue and longer"


def test_the_catalogue_of_the_configuration_counts_and_lists_what_is_missing(folder: Path, tmp_path: Path) -> None:
    words = [f"path={folder}", f"output={tmp_path / 'c'}", "val_fraction=0.25"]
    prepared = prepare(*load_prepare_config(CONFIG, words), progress=False)
    assert f"{len(MISSING)} rows skipped, listed in" in prepared.summary()
    catalogue = Catalogue.load(tmp_path / "c")
    counts = {split: count["products"] for split, count in catalogue.manifest.splits.items()}
    assert counts["train"] + counts["val"] == 3 * PRODUCTS
    assert counts["val"]
    assert counts["test"] == 3 * PRODUCTS - len(MISSING)
    assert catalogue.manifest.skipped == {"missing image": len(MISSING)}
    with (tmp_path / "c" / "skipped.csv").open(encoding="utf-8", newline="") as stream:
        assert [row["product_id"] for row in csv.DictReader(stream)] == list(MISSING)
    note = "36 of 48 listed images are what captions say that ask for them; the others have their category. 1 empty"
    assert note in catalogue.manifest.notes[-1]


def test_test_has_no_targets_and_is_called_by_its_category(folder: Path) -> None:
    (folder / "captions" / "cap.dress.test.json").write_text('[{"candidate": "Bdresstrain0", "captions": ["a", "b"]}]')
    (folder / "image_splits" / "split.dress.test.json").write_text('["Bdresstest0", "Bdresstrain0"]')
    (folder / "images" / "Bdresstest0.png").write_bytes((folder / "images" / "Bdresstrain0.png").read_bytes())
    source = FashionIqSource(str(folder), categories=["dress"])
    rows = list(source.rows())
    assert len(rows) == len(source) == 2 * PRODUCTS + 2
    assert isinstance(rows[-2], SourceRow)
    assert (rows[-2].split, rows[-2].description) == ("test", "dress")
    assert isinstance(rows[-1], SourceProblem)
    assert (rows[-1].reason, rows[-1].value) == ("in two lists", "split.dress.train.json lists it too")


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        (7, "7 lacks one of"),
        ({"candidate": "Bdresstrain0", "captions": ["a", "b"]}, "lacks one of"),
        ({"candidate": "Bdresstrain0", "target": ["x"], "captions": ["a"]}, "'target' is"),
        ({"candidate": "Bdresstrain0", "target": "Bdresstrain1", "captions": "is red"}, "'captions' is no list"),
        ({"candidate": "Bdresstrain0", "target": "Bdresstrain1", "captions": [3]}, "'captions' is no list"),
    ],
)
def test_an_entry_that_is_no_triplet_is_listed_and_the_others_stay(folder: Path, entry: object, fault: str) -> None:
    before, file = rows_of(folder), folder / "captions" / "cap.dress.train.json"
    file.write_text(json.dumps([*json.loads(file.read_text()), entry]))
    rows = list(FashionIqSource(str(folder)).rows())
    (problem,) = [row for row in rows if isinstance(row, SourceProblem) and row.reason == "no caption entry"]
    assert problem.row == f"cap.dress.train.json entry {PRODUCTS - 2}"
    assert fault in problem.value
    assert rows_of(folder) == before
    assert len(rows) == len(FashionIqSource(str(folder)))


def test_a_picture_of_two_categories_stays_once(folder: Path) -> None:
    ids = [f"Bshirttrain{number}" for number in range(PRODUCTS)]
    (folder / "image_splits" / "split.shirt.train.json").write_text(json.dumps(["Bdresstrain1", *ids]))
    assert ("Bdresstrain1", "in two lists") in problems_of(folder)
    assert rows_of(folder)["Bdresstrain1"].tags == {"category": "dress"}


def test_a_picture_that_is_fetched_later_is_another_request(folder: Path, tmp_path: Path) -> None:
    def again() -> Catalogue:
        return prepare_catalogue(
            FashionIqSource(str(folder)), tmp_path / "c", Preparation(on_error="skip"), progress=False
        )

    assert again().fingerprint == again().fingerprint
    (folder / "images" / f"{MISSING[0]}.png").write_bytes((folder / "images" / "Bdressval0.png").read_bytes())
    with pytest.raises(E2FashionError, match="or its tables have changed since"):
        again()


def test_mistakes_are_named(folder: Path) -> None:
    with pytest.raises(E2FashionError, match=r"has no split 'test'\. Its lists of images are of: train, val"):
        FashionIqSource(str(folder), splits={"test": "test"})
    with pytest.raises(E2FashionError, match="no category 'shoes'"):
        FashionIqSource(str(folder), categories=["shoes"])
    with pytest.raises(E2FashionError, match="no split and category is left"):
        FashionIqSource(str(folder), categories=[])
    (folder / "images").rename(folder / "pictures")
    with pytest.raises(E2FashionError, match="FashionIQ's images are missing"):
        FashionIqSource(str(folder))
    assert len(FashionIqSource(str(folder), images=str(folder / "pictures"))) == 6 * PRODUCTS
