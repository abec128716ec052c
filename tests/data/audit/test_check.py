"""One planted defect a catalogue, and the one finding that tells of it."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_images import encoded, photograph
from PIL import Image
from raw_products import ListSource, picture, row

from e2fashion.data.audit.check import check_catalogue
from e2fashion.data.audit.findings import Finding, reaches
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.config import CheckConfig, Preparation
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.data.sources.base import SourceProblem, SourceRow
from e2fashion.types import E2FashionError, TokenCounter

NAMES = ["amber", "basil", "cedar", "daisy", "ember", "fern", "ginger", "hazel"]
NAMES += ["iris", "jade", "kale", "lemon", "maple", "nutmeg", "olive", "poppy"]
SPLITS = ("train", "val", "test")


def sound_rows() -> list[SourceRow]:
    """Sixteen products in three splits, with nothing in common."""
    return [
        row(number, description=f"{name} coat", split=SPLITS[number % 3], tags={"brand": name, "season": None})
        for number, name in enumerate(NAMES)
    ]


def changed(number: int, **changes: Any) -> list[Any]:
    rows = sound_rows()
    rows[number] = row(number, **{**vars(rows[number]), **changes})
    return rows


def found_in(folder: Path, rows: list[Any], counter: TokenCounter | None = None, **settings: Any) -> dict[str, Finding]:
    """What a check finds, fit answers left out."""
    catalogue = prepare_catalogue(
        ListSource(rows), folder, Preparation(val_fraction=0.0, on_error="skip"), progress=False
    )
    checked = check_catalogue(catalogue, CheckConfig(**settings), counter, progress=False)
    assert all((one.count == 0) == (one.severity == "fit") == (not one.rows) for one in checked.findings)
    return {one.check: one for one in checked.findings if one.severity != "fit"}


def test_sound_products_are_fit(tmp_path: Path) -> None:
    assert found_in(tmp_path / "out", sound_rows()) == {}


@pytest.mark.parametrize(("number", "where", "severity"), [(3, "within", "look"), (4, "across", "leak")])
def test_identical_pictures(number: int, where: str, severity: str, tmp_path: Path) -> None:
    ((name, finding),) = found_in(tmp_path / "out", changed(number, image=picture(0))).items()
    assert (name, finding.severity, finding.count) == (f"equal_images_{where}", severity, 1)
    assert sorted(line[2] for line in finding.rows) == ["p0", f"p{number}"]


def test_the_same_pixels_in_another_file_are_identical(tmp_path: Path) -> None:
    shot = photograph(40, 30)
    rows = changed(0, image=encoded(shot, "PNG"))
    rows[1] = row(1, **{**vars(rows[1]), "image": encoded(shot, "PNG", compress_level=0)})
    assert list(found_in(tmp_path / "out", rows)) == ["equal_images_across"]


@pytest.mark.parametrize(("number", "where", "severity"), [(3, "within", "look"), (4, "across", "leak")])
def test_a_picture_of_another_size_and_quality_is_near(number: int, where: str, severity: str, tmp_path: Path) -> None:
    shot = photograph(32, 24).resize((96, 128), Image.Resampling.BICUBIC)
    rows = changed(0, image=encoded(shot, "JPEG", quality=95))
    rows[number] = row(number, **{**vars(rows[number]), "image": encoded(shot.resize((90, 90)), "JPEG", quality=70)})
    ((name, finding),) = found_in(tmp_path / "out", rows).items()
    assert (name, finding.severity, finding.count) == (f"near_images_{where}", severity, 1)
    assert {finding.rows[0][2], finding.rows[0][6]} == {"p0", f"p{number}"}


def test_views_of_one_product_are_no_finding(tmp_path: Path) -> None:
    rows = sound_rows()
    own = vars(rows[0])
    rows += [
        row(20, **{**own, "row": "again", "view": 1}),
        row(21, **{**own, "row": "smaller", "view": 2, "image": encoded(photograph(40, 40), "PNG")}),
        row(22, **{**own, "row": "larger", "view": 3, "image": encoded(photograph(40, 40).resize((80, 80)), "PNG")}),
    ]
    assert found_in(tmp_path / "out", rows) == {}


@pytest.mark.parametrize(("number", "where", "severity"), [(3, "within", "look"), (4, "across", "leak")])
def test_identical_texts(number: int, where: str, severity: str, tmp_path: Path) -> None:
    ((name, finding),) = found_in(tmp_path / "out", changed(number, description="AMBER  coat")).items()
    assert (name, finding.severity, finding.count) == (f"equal_texts_{where}", severity, 1)


@pytest.mark.parametrize(("number", "where"), [(3, "within"), (4, "across")])
def test_the_same_words_in_another_order_are_near(number: int, where: str, tmp_path: Path) -> None:
    ((name, finding),) = found_in(tmp_path / "out", changed(number, description="Coat, amber.")).items()
    assert (name, finding.severity, finding.count) == (f"near_texts_{where}", "look", 1)
    assert finding.rows[0][0] == 1.0


def test_a_group_in_two_splits_leaks(tmp_path: Path) -> None:
    rows = changed(0, group="line 7")
    rows[1] = row(1, **{**vars(rows[1]), "group": "line 7"})
    ((name, finding),) = found_in(tmp_path / "out", rows).items()
    assert (name, finding.severity) == ("equal_groups_across", "leak")


def test_rows_left_out_in_preparation_are_counted_and_listed(tmp_path: Path) -> None:
    rows = [*sound_rows(), SourceProblem("line 99", "p99", "image", "0 bytes", "fetch it again", "zero-byte image")]
    ((name, finding),) = found_in(tmp_path / "out", rows).items()
    assert (name, finding.severity, finding.count) == ("skipped_rows", "look", 1)
    assert "zero-byte image 1" in finding.summary
    assert finding.rows[0][1] == "p99"


def test_a_picture_that_was_damaged_since_is_broken(tmp_path: Path) -> None:
    rows = sound_rows()
    catalogue = prepare_catalogue(ListSource(rows), tmp_path / "out", Preparation(val_fraction=0.0), progress=False)
    (file,) = (catalogue.path / "val").glob("*.arrow")
    image = rows[1].image
    assert isinstance(image, bytes)
    file.write_bytes(file.read_bytes().replace(image, bytes(len(image))))
    replace(catalogue.manifest, files={}).save(catalogue.path)  # as an earlier version wrote it: without checksums
    result = check_catalogue(Catalogue.load(catalogue.path), progress=False)
    (finding,) = (one for one in result.findings if one.severity != "fit")
    assert (finding.check, finding.severity, result.worst) == ("unreadable_images", "broken", "broken")
    assert finding.rows[0][:3] == ("val", "p1", 0)


def test_two_spellings_of_a_brand(tmp_path: Path) -> None:
    ((name, finding),) = found_in(tmp_path / "out", changed(4, tags={"brand": "Ginger ", "season": "-"})).items()
    assert (name, finding.severity) == ("similar_tag_values", "look")
    assert finding.rows[0][:2] == ("brand", "Ginger")


def test_a_tag_that_goes_with_the_size_of_the_pictures(tmp_path: Path) -> None:
    rows = [
        row(
            number,
            image=picture(number, size=(24, 20) if number % 2 else (30, 20)),
            description=f"text number {number}",
            tags={"brand": "Acme" if number % 2 else "Zest", "season": "Fall" if number % 3 else "Spring"},
            split=SPLITS[number // 10 % 3],
        )
        for number in range(60)
    ]
    ((name, finding),) = found_in(tmp_path / "out", rows).items()
    assert (name, finding.count, finding.severity) == ("skew", 1, "look")
    assert {line[:2] for line in finding.rows} == {("size", "brand"), ("shape", "brand")}
    assert "(guessed right from it 100%, from nothing 50%)" in finding.summary


def test_a_tag_that_goes_with_a_named_source(tmp_path: Path) -> None:
    rows = [
        row(n, description=f"text number {n}", tags={"brand": f"shop {n % 2}", "season": f"s{n % 2}"}, split="train")
        for n in range(40)
    ]
    ((name, finding),) = found_in(tmp_path / "out", rows, source_column="brand").items()
    assert (name, {line[:2] for line in finding.rows}) == ("skew", {("brand", "season")})


def test_texts_over_the_context_length(tmp_path: Path) -> None:
    counter = TokenCounter("letters", 12, lambda texts: [len(text) for text in texts])
    ((name, finding),) = found_in(tmp_path / "out", changed(2, description="a long cedar coat"), counter).items()
    assert (name, finding.severity, finding.rows) == ("long_texts", "look", (("test", "p2", 0, 17),))
    assert "tokens of letters" in finding.summary


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    shot = photograph(120, 90)
    rows = changed(5, image=picture(0), description="Amber coat", tags={"brand": "bazil", "season": None})
    rows[7] = row(7, **{**vars(rows[7]), "image": encoded(shot, "PNG"), "description": "coat amber"})
    rows[8] = row(8, **{**vars(rows[8]), "image": encoded(shot.resize((50, 50)), "PNG")})
    shuffled = random.Random(0).sample(rows, len(rows))
    one, other = found_in(tmp_path / "one", rows), found_in(tmp_path / "other", shuffled)
    assert len(one) == 5
    assert {name: (f.summary, f.rows) for name, f in one.items()} == {
        name: (f.summary, f.rows) for name, f in other.items()
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"near_bits": 40}, r"near_bits is 40; give a number of differing bits from 0 to 16"),
        ({"near_pixels": 2.0}, r"near_pixels is 2.0; give a share"),
        ({"near_text": 0.0}, r"near_text is 0.0; give a number above 0, at most 1"),
        ({"source_column": "shop"}, r"source_column is 'shop'.*it has: brand, season"),
    ],
)
def test_what_cannot_be_checked(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match=message):
        found_in(tmp_path / "out", sound_rows()[:3], **settings)


def test_severities_are_ordered() -> None:
    assert reaches("broken", "leak")
    assert not reaches("look", "leak")
    assert not reaches("fit", "look")
    assert not reaches("broken", "never")


def against(folder: Path, train: list[SourceRow]) -> dict[str, Finding]:
    """What sixteen sound products have in common with the train split of another catalogue."""
    ours, theirs = (
        prepare_catalogue(ListSource(rows), folder / name, Preparation(val_fraction=0.0), progress=False)
        for name, rows in (("ours", sound_rows()), ("theirs", train))
    )
    checked = check_catalogue(ours, progress=False, against=theirs)
    return {one.check: one for one in checked.findings if one.severity != "fit"}


def test_a_picture_of_test_that_another_catalogue_trains_on(tmp_path: Path) -> None:
    shared = [row(50, image=picture(2), split="train"), row(51, image=picture(3), split="train")]
    ((name, finding),) = against(tmp_path, shared).items()  # p2 is of test, p3 of train
    assert (name, finding.severity, finding.count) == ("against_images", "leak", 1)
    assert finding.rows == ((0.0, "test", "p2", 0, "cedar coat", "train", "p50", 0, "Garment number 50"),)


def test_a_text_of_val_that_another_catalogue_trains_on(tmp_path: Path) -> None:
    shared = [row(1, image=picture(60), description="BASIL coat", split="train"), row(61, split="train")]
    ((name, finding),) = against(tmp_path, shared).items()
    assert (name, finding.severity, finding.rows[0][:3]) == ("against_texts", "leak", (1.0, "val", "p1"))


def test_a_catalogue_to_compare_with_needs_train(tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match=r"against=theirs: .* there are 10 and 0 such rows"):
        against(tmp_path, [row(50, split="test")])
