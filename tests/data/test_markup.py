from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from raw_products import ListSource, row

from e2fashion.data.audit.check import check_catalogue
from e2fashion.data.config import Preparation
from e2fashion.data.describe import describe_catalogue
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.data.rows import clean_markup, has_markup


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
