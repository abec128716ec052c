"""Text from data has no effect but to be read, in every output format."""

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from e2fashion.escape import latex, markdown, markdown_code, visible

SIGNS = st.characters(exclude_categories=()) | st.sampled_from(
    "\x1b\n\r\x85\u2028\u202e\u2066|\\`*_<>&#$%{}~^[]()!:;a "
)
TEXTS = st.text(SIGNS, max_size=40)
BIDIRECTIONAL = {"L", "R", "AL", "EN", "ES", "ET", "AN", "CS", "NSM", "BN", "S", "WS", "ON", "", "B"}


def is_harmless(sign: str) -> bool:
    return (
        unicodedata.category(sign) not in ("Cc", "Zl", "Zp", "Cs") and unicodedata.bidirectional(sign) in BIDIRECTIONAL
    )


@given(TEXTS)
@example("\x1b[31mred\x1b[0m \u202egnp.exe\u202c")
def test_what_is_shown_holds_nothing_that_acts(text: str) -> None:
    shown = visible(text)
    assert all(map(is_harmless, shown))
    assert shown == visible(shown)
    shown.encode("utf-8")  # surrogates cannot be encoded
    assert visible(text, keep="\n").split("\n") == [visible(line) for line in text.split("\n")]


@given(st.text(st.characters(categories=("L", "N", "P", "S", "M"))))
def test_a_text_of_letters_and_signs_is_shown_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_escapes_are_those_of_python() -> None:
    assert visible("a\x1b[1m\nb\u202e\u2028") == r"a\x1b[1m\nb\u202e\u2028"
    joined = "\u0632\u0647\u200c\u0631 \U0001f469\u200d\U0001f9b0"  # joiners belong to the script
    assert visible(joined) == joined


@given(TEXTS)
def test_markdown_shows_the_text_and_nothing_else(text: str) -> None:
    shown = markdown(text)
    assert re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", shown) == visible(text)
    bare = re.sub(r"\\.", "", shown)
    assert not set("|<>`*~\n") & set(bare)
    assert not re.search(r"\]\(|\]\[|&#?\w+;", bare)


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_a_row_of_a_table_keeps_its_cells(texts: list[str]) -> None:
    for escape in (markdown, markdown_code):
        row = f"| {' | '.join(map(escape, texts))} |"
        assert len(re.split(r"(?<!\\)\|", re.sub(r"\\\\", "", row) if escape is markdown else row)) == len(texts) + 2
        assert "\n" not in row


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("kagl_small_e2", "kagl_small_e2"),
        ("_private_", r"\_private\_"),
        ("**bold** | <img src=x>", r"\*\*bold\*\* \| \<img src=x\>"),
        ("[a](http://b)", r"[a]\(http://b)"),
        ("12.3 ± 0.4 [11.9, 12.7]", "12.3 ± 0.4 [11.9, 12.7]"),
        ("H&M &lt;", r"H&M \&lt;"),
        ("C:\\x\n\x1b", r"C:\\x\\n\\x1b"),
    ],
)
def test_markdown_escapes_what_would_act(text: str, shown: str) -> None:
    assert markdown(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"), [("a", "`a`"), ("a`b", "``a`b``"), ("`", "`` ` ``"), ("a|b\n", "`a\\|b\\n`")]
)
def test_a_code_span_holds_its_text(text: str, shown: str) -> None:
    assert markdown_code(text) == shown


@given(TEXTS)
def test_latex_has_no_command_of_the_text(text: str) -> None:
    shown = latex(text)
    known = r"\\text(?:backslash|asciitilde|asciicircum|less|greater|bar)\{\}|\$\\pm\$|\\[&%$#_{}]|^\{[\[*]\}"
    bare = re.sub(known, "", shown)
    assert not set("\\&%$#_{}~^<>|") & set(bare)
    assert not shown.startswith(("[", "*"))
    assert "\n" not in shown


def test_latex_is_what_it_was_for_plain_values() -> None:
    assert latex("E2_a & 50 % ± 1") == r"E2\_a \& 50 \% $\pm$ 1"
    assert latex("[0.1, 0.2]") == "{[}0.1, 0.2]"
