"""FashionIQ's reader: both galleries, what is missing, what is empty, and files that are not what they should be."""

from pathlib import Path

import pytest

from e2fashion.data.fashion_iq import FashionIQ, empty_captions
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


def test_missing_pictures_are_listed_once(data: FashionIQ) -> None:
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
