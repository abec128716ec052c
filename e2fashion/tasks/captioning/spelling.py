"""Blanks around marks, which CLIP's tokenizer forgets: "t - shirt" is written "t-shirt"."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

PIECE = re.compile(r"\w+|[^\w\s]")
BEFORE, BEHIND = "before ", "behind "
"""Mark what is said of a mark with any neighbour; a piece has no blank, so that nothing else looks like it."""


@dataclass(frozen=True)
class Spelling:
    """``joined`` says of two neighbours ("t -", in lower case, one of them a mark) whether they stand together.

    "before -" and "behind -" say so of a mark whose neighbour was never seen with it. Learnt from the training captions
    (ours); {} leaves texts as they are.
    """

    joined: Mapping[str, bool]

    @classmethod
    def of(cls, captions: Iterable[str]) -> Spelling:
        """What most of ``captions`` do."""
        together: Counter[str] = Counter()
        seen: Counter[str] = Counter()
        for caption in captions:
            pieces = list(PIECE.finditer(caption.lower()))
            for left, right in pairwise(pieces):
                for name in _names(left.group(), right.group()):
                    seen[name] += 1
                    together[name] += left.end() == right.start()
        return cls({name: 2 * together[name] > number for name, number in seen.items()})

    def restore(self, text: str) -> str:
        """``text`` with the blanks around its marks as in training; other blanks stay."""
        if not self.joined:
            return text
        pieces = list(PIECE.finditer(text))
        written = ""
        for left, right in zip(pieces, [*pieces[1:], None], strict=True):
            written += left.group()
            if right is None:
                break
            names = _names(left.group().lower(), right.group().lower())
            known = next((self.joined[name] for name in names if name in self.joined), None)
            apart = left.end() < right.start() if known is None else not known
            written += " " if apart else ""
        return written


def _names(left: str, right: str) -> list[str]:
    """How a pair is called, from the pair itself to its marks alone; nothing of two words."""
    marks = [f"{BEHIND}{left}"] if _is_mark(left) else []
    marks += [f"{BEFORE}{right}"] if _is_mark(right) else []
    return [f"{left} {right}", *marks] if marks else []


def _is_mark(piece: str) -> bool:
    return not (piece[0].isalnum() or piece[0] == "_")
