"""Text that comes from data, made harmless for each output format: terminal, Markdown, LaTeX.

A product's text may hold ANSI escape sequences, line breaks, or marks that reverse the direction of what follows; a
table, a report or a message must show them instead of obeying them. Each function here takes one text and returns one
line.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

#: Categories of characters that have no shape but an effect: controls, line and paragraph separators, surrogates.
_ACTIVE = ("Cc", "Zl", "Zp", "Cs")
#: Directional marks, embeddings, overrides and isolates. Other format characters, such as joiners, belong to scripts.
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

    ``keep`` may be a line break, and the tab between columns, for text of several lines that is ours.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(sign if sign in keep or not _is_active(sign) else _escaped(sign) for sign in text)


def markdown(text: str) -> str:
    """``text`` for a line or a table's cell of Markdown, without markup and HTML of its own."""
    return _MARKDOWN.sub(lambda match: f"\\{match[0]}", visible(text))


def markdown_code(text: str) -> str:
    """``text`` as a code span of Markdown, also in a table's cell."""
    text = visible(text).replace("|", "\\|")
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    space = " " if text[:1] in ("`", " ", "") or text[-1:] in ("`", " ") else ""
    return f"{fence}{space}{text}{space}{fence}"


def latex(text: str) -> str:
    r"""``text`` for LaTeX; one that begins with ``[`` or ``*`` does not become an argument of the ``\\`` before it."""
    escaped = "".join(_LATEX.get(sign, sign) for sign in visible(text))
    return f"{{{escaped[0]}}}{escaped[1:]}" if escaped[:1] in ("[", "*") and escaped else escaped


def _is_active(sign: str) -> bool:
    return unicodedata.category(sign) in _ACTIVE or sign in _BIDIRECTIONAL


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")
