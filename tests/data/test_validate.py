from __future__ import annotations

from pathlib import Path

import pytest
from raw_products import picture, row

from e2fashion.data.rows import ProductError, check_row
from e2fashion.data.text import normalize_text


def check(**changes: object) -> object:
    return check_row(row(7, **changes), max_text_characters=50, max_pixels=10_000)


def test_white_space_goes_and_missing_tags_become_none() -> None:
    checked = check_row(
        row(7, product_id=" 7 ", description="  Shirt\n", tags={"brand": " A ", "season": "  ", "usage": "NA"}),
        max_text_characters=50,
        max_pixels=10_000,
    )
    assert (checked.product_id, checked.description) == ("7", "Shirt")
    assert checked.tags == {"brand": "A", "season": None, "usage": "NA"}


@pytest.mark.parametrize(
    ("given", "stored"), [("validation", "val"), ("Valid", "val"), (" TRAIN ", "train"), ("test", "test")]
)
def test_names_of_splits(given: str, stored: str) -> None:
    checked = check_row(row(7, split=given), max_text_characters=50, max_pixels=10_000)
    assert checked.split == stored


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"product_id": " "}, r"table line 7: empty text in field 'product_id'.*Remedy: fill it in"),
        ({"description": "\n"}, r"table line 7 \(product p7\): empty text in field 'description': '\\n'"),
        ({"description": "x" * 51}, r"over-long text.*51 characters, more than max_text_characters=50"),
        ({"split": "holdout"}, r"unknown split in field 'split': 'holdout'.*one of train, val, test"),
        ({"image": b""}, r"zero-byte image in field 'image': 0 bytes"),
        ({"image": Path("gone/7.jpg")}, r"missing image in field 'image': gone/7.jpg: no such file.*add the file"),
        ({"image": picture(size=(200, 100))}, r"oversized image.*200 x 100 pixels, more than max_pixels=10,000"),
        (
            {"tags": {"brand": "Caf\udce9"}},
            r"wrong encoding in field 'brand': 'Caf' is followed by the byte 0xe9.*encoding=cp1252",
        ),
        ({"description": "na\ud800"}, r"wrong encoding in field 'description'"),
        ({"description": "\u200b\ufeff"}, r"empty text in field 'description': '.u200b.ufeff'"),
        ({"tags": {"brand": "Levi\x92s"}}, r"wrong encoding in field 'brand': '.x92' in 'Levi.x92s'.*encoding=cp1252"),
        ({"description": "a\x00b"}, r"control characters in field 'description': '.x00' in .*Remedy: remove the char"),
        ({"tags": {"brand": "\x1b[31mred"}}, r"control characters in field 'brand': '.x1b'"),
        ({"product_id": "a\nb"}, r"control characters in field 'product_id'"),
        ({"image": Path("a\0b.jpg")}, r"missing image in field 'image': .*control character '.x00' in the file name"),
    ],
)
def test_errors_name_row_field_value_and_remedy(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ProductError, match=message) as caught:
        check(**changes)
    assert "on_error=skip" in str(caught.value)


def test_unreadable_place_of_an_image(tmp_path: Path) -> None:
    with pytest.raises(ProductError, match=r"no regular file.*it is a folder"):
        check(image=tmp_path)


def test_huge_files_are_not_read(tmp_path: Path) -> None:
    file = tmp_path / "huge.jpg"
    with file.open("wb") as stream:
        stream.truncate(1_000_000)
    with pytest.raises(ProductError, match=r"oversized image.*1,000,000 bytes"):
        check(image=file)


def test_texts_that_differ_in_case_and_white_space_are_equal() -> None:
    assert normalize_text(" Red\n SHIRT ") == normalize_text("red shirt")
