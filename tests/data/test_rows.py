from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from raw_products import ListSource, picture, row

from e2fashion.__main__ import main
from e2fashion.data.audit.check import check_catalogue
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.config import Preparation
from e2fashion.data.describe import describe_catalogue
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.data.rows import ProductError, check_row, clean_markup, has_markup
from e2fashion.data.sources.base import SourceRow
from e2fashion.data.text import normalize_text
from e2fashion.types import E2FashionError


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
        ({"image": Path("blus\udce9.jpg")}, r"wrong encoding in field 'image': 'blus' is followed by the byte 0xe9"),
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


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("<p>Red <b>tee</b></p><p>with sleeves</p>", "Red tee with sleeves"),
        ("Red tee<br/>100% cotton<BR>washed", "Red tee 100% cotton washed"),
        ("so<b>ft</b> &amp; warm&nbsp;coat", "soft & warm coat"),
        ("a <a href='http://shop/x?a=1&b=2'>link</a>", "a link"),
        ("caf&eacute; &#233;&#xE9; &#146;", "caf\u00e9 \u00e9\u00e9 \u2019"),
        ("<style>p {color: red}</style>Tee<!-- old -->", "Tee"),
        ("&lt;li&gt;cotton&lt;/li&gt;", "cotton"),
        ("&amp;lt;li&amp;gt;cotton", "cotton"),
        ("<ul>\n <li>one</li>\n <li>two</li>\n</ul>", "one two"),
    ],
)
def test_html_goes_and_words_stay(text: str, clean: str) -> None:
    assert has_markup(text)
    assert clean_markup(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        "size < 38 > 36",
        "R&B; jeans",
        "H&M",
        "I <3 you",
        "a<b",
        "<M> or <L>",
        "AT&T;",
        "x &amp y",
        "  kept  as is ",
        "5 <!-- 6",
        "<!-->",
    ],
)
def test_marks_that_are_no_html_stay(text: str) -> None:
    assert not has_markup(text)
    assert clean_markup(text) == text


@given(st.text(st.sampled_from("<>/&;#bpr 1x!-amplt"), max_size=60))
def test_what_is_clean_stays_as_it_is(text: str) -> None:
    clean = clean_markup(text)
    assert has_markup(clean) is False or text.count("&") > 2
    assert len(clean) <= len(text)
    assert has_markup(text) or clean == text


def test_a_long_text_of_brackets_takes_no_time() -> None:
    assert not has_markup("<" * 100_000)
    assert clean_markup("<p " * 50_000).startswith("<p")


HTML_ROW = row(1, description="<p>Red &amp; blue</p>", tags={"brand": "H&amp;M", "season": None})


def test_preparing_with_and_without(tmp_path: Path) -> None:
    source = ListSource([HTML_ROW, *(row(number) for number in range(2, 8))])
    kept = prepare_catalogue(source, tmp_path / "kept", progress=False)
    texts = {one.product_id: one for split in kept.split_names for one in kept.samples(split)}
    assert texts["p1"].description == "<p>Red &amp; blue</p>"
    assert sum(split.html_texts for split in describe_catalogue(kept).splits.values()) == 1
    assert "products with HTML in their text" in describe_catalogue(kept).as_text()
    (finding,) = (one for one in check_catalogue(kept, progress=False).findings if one.check == "html_in_texts")
    assert (finding.severity, finding.count) == ("look", 1)
    assert {row[3:] for row in finding.rows} == {("description", "<p>Red &amp; blue</p>"), ("brand", "H&amp;M")}
    assert "clean_html=true" in finding.remedy

    clean = prepare_catalogue(source, tmp_path / "clean", Preparation(clean_html=True), progress=False)
    texts = {one.product_id: one for split in clean.split_names for one in clean.samples(split)}
    assert (texts["p1"].description, texts["p1"].tags["brand"]) == ("Red & blue", "H&M")
    assert clean.manifest.settings["clean_html"] is True
    assert "HTML was taken out of the texts of 1 rows" in clean.manifest.notes


def test_a_text_of_html_alone_is_an_empty_text(tmp_path: Path) -> None:
    source = ListSource([row(1, description="<br><p>&nbsp;</p>"), *(row(number) for number in range(2, 8))])
    catalogue = prepare_catalogue(
        source, tmp_path / "out", Preparation(clean_html=True, on_error="skip"), progress=False
    )
    assert catalogue.manifest.skipped == {"empty text": 1}


TEXTS = ("80% woolm, 20% silk", "Merino wool", "60% kidassia, 40% silk", "Dry clean", None, " ")


class ComposedSource(ListSource):
    """Brands and compositions."""

    @property
    def tag_columns(self) -> tuple[str, ...]:
        return ("brand", "composition")


def rows() -> list[SourceRow]:
    return [row(number, tags={"brand": "Acme", "composition": text}) for number, text in enumerate(TEXTS)]


def prepare(output: Path, **settings: object) -> Catalogue:
    config = Preparation(**settings)
    return prepare_catalogue(ComposedSource(rows()), output, config, progress=False)  # type: ignore[arg-type]


def test_the_dominant_fibre_becomes_a_tag(tmp_path: Path) -> None:
    catalogue = prepare(tmp_path / "c", dominant_fibre={"fibre": "composition"})
    assert catalogue.tag_columns == ("brand", "composition", "fibre")
    result = {}
    for split in catalogue.split_names:
        result.update(zip(catalogue.split(split)["product_id"], catalogue.split(split)["fibre"], strict=True))
    assert [result[f"p{number}"] for number in range(6)] == ["wool", "wool", "kidassia", None, None, None]
    assert catalogue.manifest.settings["dominant_fibre"] == {"fibre": "composition"}
    assert catalogue.manifest.notes[-1] == (
        "Tag 'fibre' is the dominant fibre of 'composition', which 4 images have: percentages 1, names 1, "
        "unknown fibre 1, care 1"
    )


def test_without_it_a_catalogue_is_what_it_was(tmp_path: Path) -> None:
    plain, same = prepare(tmp_path / "a"), prepare(tmp_path / "b", dominant_fibre={})
    assert (plain.fingerprint, plain.manifest.request) == (same.fingerprint, same.manifest.request)
    assert "dominant_fibre" not in plain.manifest.settings
    with pytest.raises(E2FashionError, match="holds another catalogue"):
        prepare(tmp_path / "a", dominant_fibre={"fibre": "composition"})


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        E2FashionError, match=r"reads the tag 'fabric', which the source lacks\. Its tags: brand, compos"
    ):
        prepare(tmp_path / "c", dominant_fibre={"fibre": "fabric"})
    with pytest.raises(E2FashionError, match="the source has a tag 'brand' already"):
        prepare(tmp_path / "c", dominant_fibre={"brand": "composition"})
    with pytest.raises(E2FashionError, match="A tag cannot be called 'image'"):
        prepare(tmp_path / "c", dominant_fibre={"image": "composition"})


def test_from_the_command_line(tmp_path: Path) -> None:
    words = ["products=12", "image_size=32", "views=1", f"output={tmp_path / 'c'}"]
    assert main(["data", "prepare", "synthetic", *words, "dominant_fibre.fibre=composition", "--quiet"]) == 0
    catalogue = Catalogue.load(tmp_path / "c")
    fibres = {fibre for split in catalogue.split_names for fibre in catalogue.split(split)["fibre"]}
    assert fibres & {"cotton", "wool", "leather", "nylon", "linen", "polyester"}
