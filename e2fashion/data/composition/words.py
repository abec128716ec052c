"""A composition text cut into clauses of words, percentages and colons."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from e2fashion.data.composition.fibres import find_material

COLON = ":"
_TOKEN = re.compile(
    r"(?P<percent>\d+(?:[.,]\d+)?)\s*(?:%|percent\b|per\s+cent\b|pct\b)"
    r"|(?P<colon>:)"
    r"|(?P<made>\b(?:made|crafted|woven|knitted)\s+(?:of|from|with|out\s+of)(?![^\W\d]))"
    r"|(?P<separator>[.;,/+&|\n•·]|\b(?:and|with)\b)"
    r"|(?P<word>[^\W_]+(?:['\u2019-][^\W_]+)*)"
)


@dataclass
class Clause:
    """What stands between two separators: ``words[0]``, a percentage, ``words[1]``, a percentage ... in lower case.

    A colon is a word of its own. ``stated`` marks the clause behind "made of".
    """

    words: list[list[str]] = field(default_factory=lambda: [[]])
    percentages: list[float] = field(default_factory=list)
    stated: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing was found between two separators."""
        return not self.percentages and not self.words[0]

    def all_words(self) -> list[str]:
        """The words without their colons."""
        return [word for words in self.words for word in words if word != COLON]


def clauses(text: str) -> Iterator[Clause]:
    """The clauses of ``text`` in order. Points, commas, slashes, line ends, "and" and "with" separate; brackets do not.

    A hyphen between two materials separates as well: a cotton-elastane blend.
    """
    clause = Clause()
    for token in _TOKEN.finditer(text.lower()):
        if token["percent"]:
            clause.percentages.append(float(token["percent"].replace(",", ".")))
            clause.words.append([])
        elif token["colon"] or token["word"]:
            pieces = _pieces(token["word"]) if token["word"] else [COLON]
            for number, piece in enumerate(pieces):
                if number:
                    yield clause
                    clause = Clause()
                clause.words[-1].append(piece)
        else:
            if not clause.is_empty:
                yield clause
            clause = Clause(stated=bool(token["made"]))
    if not clause.is_empty:
        yield clause


def _pieces(word: str) -> list[str]:
    pieces = word.split("-")
    named = [find_material([piece], mend=False) for piece in pieces]
    return pieces if all(named) else [word]
