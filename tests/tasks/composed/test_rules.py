"""The rule composer: values in captions and instructions, and properties of its results."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2fashion.tasks.composed.modes import orders_of
from e2fashion.tasks.composed.rules import COMPARATIVES, SCALES, SLOTS, find_values, parse_instruction, rewrite_slots


@pytest.mark.parametrize(
    ("caption", "instruction", "wanted"),
    [
        ("Tshirts . Puma . Puma Men Black T-shirt", "in navy blue", "Tshirts . Puma . Puma Men navy blue T-shirt"),
        ("a black and white dress with stripes", "is blue", "a blue dress with stripes"),
        ("a red floral midi dress", "is shorter and not floral", "a red knee length dress"),
        ("a red floral midi dress", "is darker with no sleeves", "a maroon floral midi dress, sleeveless"),
        ("a black shirt with a logo", "has no logo or print", "a black shirt"),
        ("a black shirt with short sleeves", "the sleeves are longer", "a black shirt with three-quarter sleeve"),
        ("a black shirt", "is a much lighter color", "a grey shirt"),
        ("plain grey top", "is red instead of grey, with stripes", "striped red top"),
        ("plain grey top", "is not plain but striped", "striped grey top"),
        ("a dress", "is less fitted", "a dress, loose fit"),
        ("a blue shirt with a v-neck", "has a higher neckline", "a blue shirt with a scoop neck"),
        ("a floral dress", "has no pattern", "a solid dress"),
        ("a grey sock", "in multi", "a multi sock"),
    ],
)  # fmt: skip
def test_the_instruction_wins(caption: str, instruction: str, wanted: str) -> None:
    assert rewrite_slots(caption, instruction)[0] == wanted


def test_the_trace_lists_all_changes() -> None:
    trace = rewrite_slots("a red floral midi dress", "is blue, shorter, elegant and not floral")[1]
    assert trace.parsed == {"colour": ("red",), "pattern": ("floral",), "length": ("midi",)}
    assert trace.overridden == {"colour": (("red",), ("blue",))}
    assert trace.deleted == (("pattern", "floral"),)
    assert trace.moved == {"length": (("midi",), ("knee length",))}
    assert "elegant" in trace.left_over
    assert trace.understood


def test_an_instruction_about_no_slot_is_the_text() -> None:
    text, trace = rewrite_slots("a blue shirt", "is more elegant")
    assert text == "is more elegant"
    assert not trace.understood


def test_a_protected_brand_is_no_color() -> None:
    assert rewrite_slots("Red Tape men black shoe", "in brown", protected=["Red Tape"])[0] == "Red Tape men brown shoe"
    assert rewrite_slots("Red Tape men shoe", "in brown")[0] == "brown Tape men shoe"


def test_tags_are_the_start_of_a_comparative() -> None:
    assert rewrite_slots("a shirt", "is darker", {"colour": "Blue"})[0] == "a shirt, navy blue"
    assert rewrite_slots("a shirt", "is darker")[0] == "a shirt, dark"


def test_lower_is_about_the_neck_only_with_a_word_for_it() -> None:
    assert not parse_instruction("is at a lower price")
    assert parse_instruction("is cut lower at the neck").moves[0].slot == "neck"


def test_every_phrase_is_parsed_as_its_value() -> None:
    for slot, values in SLOTS.items():
        for value, phrases in values.items():
            for phrase in (value, *phrases):
                result = [(item.slot, item.value) for item in find_values(phrase)]
                assert (slot, value) in result, phrase


def test_scales_and_comparatives_name_slots_and_values_that_exist() -> None:
    for slot, scales in SCALES.items():
        assert all(value in SLOTS[slot] for scale in scales for value in scale)
    assert {slot for slot, _, _ in COMPARATIVES.values()} <= set(SCALES)


VALUES = [(slot, value) for slot, values in SLOTS.items() for value in values]
VALUE = st.sampled_from(VALUES)
CAPTIONS = st.lists(
    st.one_of(VALUE.map(lambda v: v[1]), st.sampled_from(["a", "dress", "and", "with", ",", "nice"])), max_size=7
)
WISHES = st.one_of(VALUE.map(lambda v: f"is {v[1]}"), VALUE.map(lambda v: f"not {v[1]}"), st.just("is elegant"))
INSTRUCTIONS = st.lists(WISHES, min_size=1, max_size=3).map(" and ".join)


@settings(max_examples=150)
@given(CAPTIONS.map(" ".join), INSTRUCTIONS)
def test_asking_twice_changes_nothing_more(caption: str, instruction: str) -> None:
    once = rewrite_slots(caption, instruction)[0]
    if once:
        assert rewrite_slots(once, instruction)[0] == once


@settings(max_examples=150)
@given(CAPTIONS.map(" ".join), VALUE)
def test_what_is_negated_is_gone(caption: str, value: tuple[str, str]) -> None:
    asked = parse_instruction(f"not {value[1]}")
    text, trace = rewrite_slots(caption, f"not {value[1]}")
    assert asked.negated == (value,)
    assert trace.understood
    assert value not in {(item.slot, item.value) for item in find_values(text)}


@settings(max_examples=100)
@given(CAPTIONS.map(" ".join), VALUE)
def test_the_asked_value_is_the_only_one_of_its_slot(caption: str, value: tuple[str, str]) -> None:
    text = rewrite_slots(caption, f"is {value[1]}")[0]
    assert {item.value for item in find_values(text) if item.slot == value[0]} == {value[1]}


@given(st.lists(st.text(alphabet="abc ", min_size=1), max_size=3))
def test_both_orders_hold_the_same_texts_whichever_came_first(captions: list[str]) -> None:
    assert set(orders_of(captions)) == set(orders_of(captions[::-1]))
    assert orders_of(captions, both=False) == ((" and ".join(captions)),)
