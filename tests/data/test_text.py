import string
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import siglip_tokenizer

from e2fashion.data.loader import Collator
from e2fashion.data.text import TextFitter, TextTemplate, leading_sentences, listed_texts, stable_id
from e2fashion.models.tokenizer import train_tokenizer
from e2fashion.types import E2FashionError, TextOverflow

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
        ("{}", r"'\{\}' is not a field"),
        ("{brand!r}", r"'\{brand!r\}' is not a field"),
        ("{brand:>4}", r"'\{brand:>4\}' is not a field"),
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


SENTENCES = ["A red shirt of cotton.", "It has long sleeves!", "Wash it cold, at 30 degrees or less.", "Made in Italy."]
TOKENIZER = train_tokenizer([*SENTENCES, "Nike Summer"] * 2, kind="bpe", vocabulary=700)
MODES: tuple[TextOverflow, ...] = ("truncate", "first_sentences", "stretch")
WORDS = st.lists(st.sampled_from(["a", "red", "shirt", ".", "has", "!", "long\nsleeves"]), max_size=40).map(" ".join)


def tokens(text: str) -> list[int]:
    return TOKENIZER(text)["input_ids"]  # type: ignore[return-value]


def fitter(context_length: int, overflow: TextOverflow = "first_sentences") -> TextFitter:
    return TextFitter(TOKENIZER, context_length, overflow)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", [""]),
        ("One", ["One"]),
        ("One. Two! Three", ["One.", "One. Two!", "One. Two! Three"]),
        ("3.5 cm wide... No?", ["3.5 cm wide...", "3.5 cm wide... No?"]),
        ('He said "so." Then went. ', ['He said "so."', 'He said "so." Then went. ']),
        ("Cotton\n\nSlim fit\nRed", ["Cotton", "Cotton\n\nSlim fit", "Cotton\n\nSlim fit\nRed"]),
        ("棉质。红色", ["棉质。", "棉质。红色"]),
    ],
)
def test_sentences_end_at_marks_before_white_space_and_at_lines(text: str, sentences: list[str]) -> None:
    assert leading_sentences(text) == sentences


@given(WORDS)
def test_sentences_are_growing_beginnings_that_end_with_the_text(text: str) -> None:
    result = leading_sentences(text)
    assert result[-1] == text
    assert all(later.startswith(earlier) and len(later) > len(earlier) for earlier, later in pairwise(result))


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_whole_sentences_are_kept_from_the_front_while_they_fit(kept: int) -> None:
    text, beginning = " ".join(SENTENCES), tokens(" ".join(SENTENCES[:kept]))
    for spare in (0, 1):
        fitted = fitter(len(beginning) + spare)([text])[0]
        assert (fitted.ids, fitted.dropped, fitted.cut) == (beginning, 4 - kept, False)
        assert fitted.tokens == len(tokens(text))


def test_a_first_sentence_that_is_too_long_is_cut_as_ever() -> None:
    text = " ".join(SENTENCES)
    fitted, cut = (fitter(5, overflow)([text])[0] for overflow in ("first_sentences", "truncate"))
    assert fitted.ids == cut.ids == [*tokens(text)[:4], TOKENIZER.eos_token_id]
    assert fitted.cut
    assert (fitted.dropped, cut.dropped) == (3, 0)


def test_what_stands_around_the_description_stays() -> None:
    text, place = TextTemplate("{season} . {description} {brand}").render_placed(
        {"season": "Summer", "brand": "Nike"}, " ".join(SENTENCES)
    )
    wanted = tokens(f"Summer . {SENTENCES[0]} Nike")
    assert fitter(len(wanted))([text], [place])[0].ids == wanted
    # Too short even for the first sentence: its end goes, the brand does not.
    fitted = fitter(len(wanted) - 2)([text], [place])[0]
    brand = tokens(" Nike")[1:]
    assert fitted.cut
    assert fitted.ids == [*tokens(f"Summer . {SENTENCES[0]}")[: len(wanted) - 2 - len(brand)], *brand]
    # Too short for anything of the description: the text as a whole is cut.
    least = len(tokens("Summer . ")) - 1 + len(brand)
    assert fitter(least)([text], [place])[0].ids == [*tokens(text)[: least - 1], TOKENIZER.eos_token_id]


def test_texts_without_a_start_token_keep_all_that_stands_behind_the_description() -> None:
    tokenizer = siglip_tokenizer(["red shirt long sleeves Nike Summer"])
    text, place = TextTemplate("{description} {brand}").render_placed({"brand": "Nike"}, "red shirt long sleeves")
    fitted = TextFitter(tokenizer, 4, "first_sentences")([text], [place])[0]
    assert tokenizer.convert_ids_to_tokens(fitted.ids) == ["red", "shirt", "Nike", "<eos>"]


@settings(max_examples=40)
@given(WORDS, st.integers(min_value=3, max_value=30))
def test_every_mode_fits_and_leaves_short_texts_alone(text: str, context_length: int) -> None:
    whole = tokens(text)
    for overflow in MODES:
        fitted = fitter(context_length, overflow)([text])[0]
        assert (fitted.ids[0], fitted.ids[-1]) == (TOKENIZER.bos_token_id, TOKENIZER.eos_token_id)
        assert len(fitted.ids) <= context_length
        assert (fitted.ids == whole) == (len(whole) <= context_length)
        assert bool(fitted.dropped or fitted.cut) == (len(whole) > context_length)


@settings(max_examples=20)
@given(st.lists(WORDS, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_a_text_s_tokens_do_not_depend_on_its_batch(texts: list[str], random: object) -> None:
    order = sorted(range(len(texts)), key=lambda _: random.random())  # type: ignore[attr-defined]
    collate = Collator(TOKENIZER, 12, 0, "first_sentences")
    ids, mask = collate.tokenize([texts[place] for place in order])
    for row, place in enumerate(order):
        alone = fitter(12)([texts[place]])[0].ids
        assert ids[row][mask[row].bool()].tolist() == alone


def test_equal_texts_with_descriptions_at_other_places_are_not_mixed_up() -> None:
    text = "Red. Cotton. Nike"
    collate = Collator(TOKENIZER, len(tokens("Red. Nike")), 0, "first_sentences")
    first, second = (collate.tokenize([text], [place])[0][0].tolist() for place in ((0, 12), (0, len(text))))
    assert first == tokens("Red. Nike")
    assert second == tokens("Red.")


def test_counts_say_what_became_of_long_texts() -> None:
    texts = [SENTENCES[0], " ".join(SENTENCES), "shirt " * 30]
    length = len(tokens(SENTENCES[0]))
    counts = fitter(length).count(texts)
    assert (counts.distinct, counts.long, counts.shortened, counts.truncated) == (3, 2, 1, 1)
    assert counts.longest == max(len(tokens(text)) for text in texts)
    assert "2 of 3 distinct texts exceed" in counts.sentence()
    assert "stretched_from" not in counts.record()
    stretched = fitter(length, "stretch").count(texts, stretched_from=3)
    assert (stretched.stretched, stretched.truncated) == (3, 2)
    assert "3 exceed the 3 tokens before positions were stretched" in stretched.sentence()


def test_no_text_and_no_room() -> None:
    assert fitter(8)([]) == []
    with pytest.raises(E2FashionError, match=r"text\.context_length is 2; give at least 3"):
        fitter(2)


@pytest.mark.parametrize(("texts", "listed"), [("a", ["a"]), (iter("ab"), ["a", "b"]), ([], [])])
def test_one_text_or_several_are_a_list(texts: Any, listed: list[str]) -> None:
    assert listed_texts(texts) == listed


@pytest.mark.parametrize(("texts", "shown"), [(3, "3"), (["a", None], "None"), (b"a", "b'a'"), (None, "None")])
def test_what_is_not_a_text_is_refused(texts: Any, shown: str) -> None:
    with pytest.raises(E2FashionError, match=f"{shown} is not a text: give a str, or a list of them"):
        listed_texts(texts)
