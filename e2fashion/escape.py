"""Escape text from data for the terminal, Markdown and LaTeX, and find invisible and control characters.

A product's text may hold ANSI escape sequences, line breaks, or directional marks; tables, reports and messages must
print them instead of interpreting them. Each escaping function takes one text and returns one line.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

#: C0 controls except tab, line feed and carriage return; DEL; C1 controls.
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_C1_CONTROLS = re.compile(r"[\x80-\x9f]")
#: Invisible, but neither white space nor of the category Cf: joiners, fillers, variation selectors.
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
#: Trimmed from the ends of a value: zero-width space, word joiner, byte order mark.
_EMPTY_ENDS = "\u200b\u2060\ufeff"
_ENDS = re.compile(rf"^[\s{_EMPTY_ENDS}]+|[\s{_EMPTY_ENDS}]+$")
#: Categories without a glyph but with an effect: controls, line and paragraph separators, surrogates.
_ACTIVE = ("Cc", "Zl", "Zp", "Cs")
#: Directional marks, embeddings, overrides and isolates. Other format characters, such as joiners, are part of scripts.
_BIDIRECTIONAL = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"

_MARKDOWN = re.compile(r"[\\|<>`*~]|(?<=\])(?=[(\[:])|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)")
_LATEX = {
    "\\": r"\textbackslash{}",
    "±": r"$\pm$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def visible(text: str, keep: Literal["", "\n", "\n\t"] = "") -> str:
    r"""``text`` with control characters, line separators and directional marks as escapes, as in ``\x1b`` or ``\n``.

    ``keep`` exempts line breaks and tabs, for our own text of several lines.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        sign.encode("unicode_escape").decode("ascii")
        if (unicodedata.category(sign) in _ACTIVE or sign in _BIDIRECTIONAL) and sign not in keep
        else sign
        for sign in text
    )


def markdown(text: str) -> str:
    """``text`` for a line or a table cell of Markdown, its markup and HTML escaped."""
    return _MARKDOWN.sub(lambda match: f"\\{match[0]}", visible(text))


def markdown_code(text: str) -> str:
    """``text`` as a Markdown code span, also within a table cell."""
    text = visible(text).replace("|", "\\|")
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    space = " " if text[:1] in ("`", " ", "") or text[-1:] in ("`", " ") else ""
    return f"{fence}{space}{text}{space}{fence}"


def latex(text: str) -> str:
    r"""``text`` for LaTeX; a leading ``[`` or ``*`` is protected from becoming an argument of a preceding ``\\``."""
    escaped = "".join(_LATEX.get(sign, sign) for sign in visible(text))
    return f"{{{escaped[0]}}}{escaped[1:]}" if escaped[:1] in ("[", "*") and escaped else escaped


def is_blank(text: str) -> bool:
    """Whether a text has no visible character."""
    return not text or text.isspace() or all(map(_is_invisible, text))


def trimmed(text: str) -> str:
    """``text`` without the white space, zero-width spaces and byte order marks at its ends."""
    return _ENDS.sub("", text)


def first_control(text: str) -> str | None:
    """The first control character except tab and line ends, or None."""
    match = _CONTROLS.search(text)
    return match.group() if match else None


def is_c1_control(character: str) -> bool:
    """Whether it is one of U+0080 to U+009F, which are letters and quotation marks in cp1252."""
    return bool(_C1_CONTROLS.fullmatch(character))


def _is_invisible(character: str) -> bool:
    return (
        character.isspace() or unicodedata.category(character) in ("Cf", "Cc") or bool(_INVISIBLE.fullmatch(character))
    )
