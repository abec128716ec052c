import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2fashion.data.text import TextTemplate, stable_id
from e2fashion.types import E2FashionError

KAGL = TextTemplate("{article_type} . {brand} . {season} . {description}")
TAGS = {"article_type": "Tshirts", "brand": "Nike", "season": "Summer"}


def test_all_present() -> None:
    assert KAGL.render(TAGS, "a red shirt") == "Tshirts . Nike . Summer . a red shirt"


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        (["article_type"], "Nike . Summer . shirt"),
        (["brand"], "Tshirts . Summer . shirt"),
        (["brand", "season"], "Tshirts . shirt"),
        (["article_type", "brand", "season"], "shirt"),
    ],
)
def test_a_missing_tag_goes_with_its_separator(missing: list[str], expected: str) -> None:
    assert KAGL.render({**TAGS, **dict.fromkeys(missing)}, "shirt") == expected


def test_absent_and_blank_tags_are_missing() -> None:
    assert KAGL.render({"brand": "  "}, "shirt") == "shirt"


def test_an_empty_description_leaves_no_trailing_separator() -> None:
    assert KAGL.render(TAGS, "") == "Tshirts . Nike . Summer"


def test_separators_may_differ() -> None:
    template = TextTemplate("{a}: {b}, {c}")
    assert template.render({"a": "1", "c": "3"}, "") == "1: 3"
    assert template.render({"b": "2", "c": "3"}, "") == "2, 3"


def test_text_around_the_fields_stays() -> None:
    template = TextTemplate("a photo of {brand} {description}.")
    assert template.render({}, "shirt") == "a photo of shirt."
    assert template.without_tags() == TextTemplate("a photo of {description}.")


def test_braces_can_be_written() -> None:
    template = TextTemplate("{{{brand}}} {description}")
    assert template.render({"brand": "x"}, "y") == "{x} y"
    assert template.without_tags().render({}, "y") == "{y"


@given(st.text(min_size=1).filter(str.strip))
def test_description_alone_is_unchanged(description: str) -> None:
    assert TextTemplate("{description}").render(TAGS, description) == description


@given(st.fixed_dictionaries({name: st.none() | st.sampled_from(["x", "yy"]) for name in TAGS}))
def test_joins_what_is_there(tags: dict[str, str | None]) -> None:
    expected = " . ".join([tags[name] for name in TAGS if tags[name]] + ["shirt"])
    assert KAGL.render(tags, "shirt") == expected


def test_columns_are_the_tags() -> None:
    assert KAGL.columns == ("article_type", "brand", "season")


def test_without_tags_is_the_description() -> None:
    assert KAGL.without_tags() == TextTemplate("{description}")


def test_validate_accepts_known_columns() -> None:
    KAGL.validate([*TAGS, "gender"])


def test_unknown_field_names_the_columns_and_the_nearest() -> None:
    with pytest.raises(E2FashionError, match=r"'\{brnad\}'.*Its columns: brand, season, desc.*mean '\{brand\}'\?"):
        TextTemplate("{brnad} {description}").validate(["brand", "season"])


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{brand", r"expected '}'"),
        ("brand}", "Single '}'"),
        ("{}", r"'\{\}' is no field"),
        ("{brand!r}", r"'\{brand!r\}' is no field"),
        ("{brand:>4}", r"'\{brand:>4\}' is no field"),
        ("brand", "has no field"),
        ("", "has no field"),
    ],
)
def test_malformed_template_is_an_error(template: str, message: str) -> None:
    with pytest.raises(E2FashionError, match=message):
        TextTemplate(template)


def test_stable_id_is_the_same_everywhere() -> None:
    assert stable_id("Nike") == -7094983738254389266


@given(st.text())
def test_stable_id_is_a_signed_64_bit_number_apart_from_the_reserved_ones(text: str) -> None:
    assert -(2**63) <= stable_id(text) < 2**63
    assert stable_id(text) not in (0, -1)


def test_stable_id_ignores_case_and_white_space() -> None:
    assert stable_id("  Red\tSHIRT ") == stable_id("red shirt")


def test_different_texts_have_different_ids() -> None:
    assert len({stable_id(a + b) for a in string.ascii_lowercase for b in string.ascii_lowercase}) == 26**2
