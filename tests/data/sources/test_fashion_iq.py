"""FashionIQ's reader: both galleries, what is missing, what is empty, and files that are not what they should be."""

import csv
import json
from pathlib import Path

import pytest

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.config import Preparation, load_prepare_config
from e2fashion.data.prepare import prepare, prepare_catalogue
from e2fashion.data.sources.base import SourceProblem, SourceRow
from e2fashion.data.sources.fashion_iq import FashionIQ, FashionIqSource, empty_captions
from e2fashion.types import E2FashionError
from tests.data.fashion_iq_layout import EMPTY, MISSING, PRODUCTS, write_fashion_iq


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> FashionIQ:
    return FashionIQ(write_fashion_iq(tmp_path_factory.mktemp("iq") / "fashion-iq"))


def test_triplets_come_in_the_order_of_their_file(data: FashionIQ) -> None:
    triplets = data.triplets("dress", "val")
    assert len(triplets) == PRODUCTS - 2
    assert (triplets[0].reference, triplets[0].target) == ("Bdressval0", "Bdressval1")
    assert triplets[0].instructions == ("is blue and longer", "has short sleeves")


def test_an_empty_caption_is_counted_and_the_other_one_stays(data: FashionIQ) -> None:
    triplets = data.triplets("shirt", "val")
    assert empty_captions(triplets) == 1
    assert next(item for item in triplets if item.reference == EMPTY).instructions == ("is blue and longer",)


def test_the_galleries_are_the_split_file_or_what_captions_name(data: FashionIQ) -> None:
    assert len(data.gallery("dress", "val", "original")) == PRODUCTS
    assert data.gallery("dress", "val", "val") == [f"Bdressval{number}" for number in range(PRODUCTS - 1)]


def test_missing_images_are_listed_once(data: FashionIQ) -> None:
    everything = data.gallery("dress", "val")
    assert data.missing([*everything, *everything]) == list(MISSING)
    assert data.file_of("Bdressval1") == data.image_folder / "Bdressval1.jpg"
    assert data.file_of("Bdressval2") is None


def test_what_is_not_there_is_named(data: FashionIQ, tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match="no category 'shoes': choose from dress, shirt, toptee"):
        data.triplets("shoes", "val")
    with pytest.raises(E2FashionError, match="gallery is 'all'; choose original or val"):
        data.gallery("dress", "val", "all")  # type: ignore[arg-type]
    with pytest.raises(E2FashionError, match=r"cap\.dress\.test\.json is missing"):
        data.triplets("dress", "test")
    with pytest.raises(E2FashionError, match="has no folder 'captions'"):
        FashionIQ(tmp_path)
    with pytest.raises(E2FashionError, match=r"images are missing: there is no folder .*elsewhere"):
        FashionIQ(data.path, tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("{}", "holds a dict, not a list"),
        ("[]", "the gallery is empty"),
    ],
)
def test_a_damaged_split_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    folder = write_fashion_iq(tmp_path / "iq")
    (folder / "image_splits" / "split.dress.val.json").write_text(content)
    with pytest.raises(E2FashionError, match=message):
        FashionIQ(folder).gallery("dress", "val")


def test_a_triplet_without_its_keys_is_named(tmp_path: Path) -> None:
    folder = write_fashion_iq(tmp_path / "iq")
    (folder / "captions" / "cap.dress.val.json").write_text('[{"candidate": "B1"}]')
    with pytest.raises(E2FashionError, match=r"entry 0: .* lacks one of candidate, target, captions"):
        FashionIQ(folder).triplets("dress", "val")


CONFIG = Path(__file__).resolve().parents[3] / "configs" / "data" / "fashion_iq.yaml"


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
        ({"candidate": "Bdresstrain0", "target": "Bdresstrain1", "captions": "is red"}, "'captions' is not a list"),
        ({"candidate": "Bdresstrain0", "target": "Bdresstrain1", "captions": [3]}, "'captions' is not a list"),
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
    with pytest.raises(E2FashionError, match="its tables have changed since"):
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
