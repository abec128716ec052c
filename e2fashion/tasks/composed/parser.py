"""Finds slot values, negations and comparatives in a garment's caption or in what is asked to be different."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from e2fashion.tasks.composed.vocabulary import (
    CLAUSE_ENDS,
    COMPARATIVES,
    NEEDED,
    NEGATIONS,
    SLOT_NAMES,
    SLOTS,
    STRONG,
    TURNS,
)

_END = re.compile(r"[,;.]|\b(?:" + "|".join(word for word in CLAUSE_ENDS if word.isalpha()) + r")\b")


@dataclass(frozen=True)
class Found:
    """A value of a slot at characters ``start`` to ``end``; ``value`` None: the slot as a whole ("pattern")."""

    slot: str
    value: str | None
    start: int
    end: int


@dataclass(frozen=True)
class Move:
    """``steps`` on the scale of a slot (negative: towards its first value), and what to write for an unknown value."""

    slot: str
    steps: int
    otherwise: str


@dataclass(frozen=True)
class Instruction:
    """What an instruction asks for: values to set by slot, values to delete (None: all of the slot), moves on scales.

    ``left_over`` are its words that say none of that; ``colours`` says in whose words a colour was asked for.
    """

    set_values: dict[str, tuple[str, ...]]
    negated: tuple[tuple[str, str | None], ...]
    moves: tuple[Move, ...]
    left_over: str
    colours: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.set_values or self.negated or self.moves)


def find_values(text: str, protected: Sequence[str] = ()) -> list[Found]:
    """The slot values that stand in a text, from left to right; of overlapping phrases the longest.

    ``protected`` phrases (brands: "Red Tape") are passed over.
    """
    masked = _mask(text.lower(), protected)
    return [Found(*_phrases()[_spaced(match[0])], match.start(), match.end()) for match in _values().finditer(masked)]


def parse_instruction(text: str) -> Instruction:
    """Read an instruction, clause by clause: a negation or a comparative reaches to the next comma, "and" or verb."""
    lowered = text.lower()
    taken = [False] * len(lowered)
    moves = _moves(lowered, taken)
    negations = [
        (match, _clause_end(lowered, match.end()))
        for match in _alternatives(NEGATIONS).finditer(lowered)
        if not any(taken[match.start() : match.end()])
    ]
    set_values: dict[str, list[str]] = {}
    negated: list[tuple[str, str | None]] = []
    colours: dict[str, str] = {}
    for item in find_values(lowered):
        if any(taken[item.start : item.end]):
            continue
        # "no sleeves" is a value of its own: the negation is part of it and negates nothing else.
        inside = [match for match, _ in negations if item.start <= match.start() < item.end]
        before = [match for match, end in negations if match.end() <= item.start < end]
        _take(taken, item.start, item.end)
        for match in (*inside, *before):
            _take(taken, match.start(), match.end())
        if before:
            negated.append((item.slot, item.value))
        elif item.value is not None and item.value not in set_values.setdefault(item.slot, []):
            set_values[item.slot].append(item.value)
            if item.slot == "colour":
                colours[item.value] = _spaced(lowered[item.start : item.end])
    # What is wanted and refused at once is wanted: "not black but black and white".
    negated = [(slot, value) for slot, value in negated if value is None or value not in set_values.get(slot, [])]
    left = "".join(" " if used else letter for letter, used in zip(lowered, taken, strict=True))
    return Instruction(
        {slot: tuple(values) for slot, values in set_values.items() if values},
        tuple(dict.fromkeys(negated)),
        tuple(moves),
        " ".join(left.split()),
        colours,
    )


def _moves(text: str, taken: list[bool]) -> list[Move]:
    found = []
    for match in _alternatives(COMPARATIVES).finditer(text):
        word = _spaced(match[0])
        slot, direction, otherwise = COMPARATIVES[word]
        first, last = _clause_start(text, match.start()), _clause_end(text, match.end())
        near = re.findall(r"[a-z]+", text[first:last])
        # "sleeves are longer" has its noun before the comparative, "longer sleeves" behind it.
        if word in NEEDED and not set(NEEDED[word]) & set(near):
            continue
        for other in near:
            if (word, other) in TURNS:
                slot, values = TURNS[word, other]
                otherwise = values[direction]
        strong = set(re.findall(r"[a-z]+", text[max(first, match.start() - 12) : match.start()])) & set(STRONG)
        found.append(Move(slot, direction * (2 if strong else 1), otherwise))
        _take(taken, match.start(), match.end())
    return found


def _take(taken: list[bool], start: int, end: int) -> None:
    taken[start:end] = [True] * (end - start)


def _clause_end(text: str, start: int) -> int:
    match = _END.search(text, start)
    return match.start() if match else len(text)


def _clause_start(text: str, end: int) -> int:
    """Behind the last comma or "and" before a word; a verb starts no clause: "the sleeves are longer"."""
    found = [match.end() for match in re.finditer(r"[,;.]|\b(?:and|but)\b", text[:end])]
    return found[-1] if found else 0


def _mask(text: str, phrases: Sequence[str]) -> str:
    for phrase in phrases:
        if lowered := phrase.strip().lower():
            # A form feed is no letter and no phrase holds one: what it hides cannot be found.
            hidden = "\f" * len(lowered)
            text = re.sub(rf"(?<!\w){re.escape(lowered)}(?!\w)", hidden, text)
    return text


def _spaced(phrase: str) -> str:
    return " ".join(phrase.split())


@cache
def _phrases() -> dict[str, tuple[str, str | None]]:
    """Every phrase with its slot and value, regular plurals of single words among them."""
    known: dict[str, tuple[str, str | None]] = {}
    for slot, values in SLOTS.items():
        for value, others in values.items():
            for phrase in (value, *others):
                known[phrase] = (slot, value)
    for slot, names in SLOT_NAMES.items():
        known |= {name: (slot, None) for name in names if name not in known}
    return known | {
        f"{phrase}s": found
        for phrase, found in known.items()
        if phrase.isalpha() and found[0] in ("pattern", "print", "colour") and f"{phrase}s" not in known
    }


@cache
def _values() -> re.Pattern[str]:
    return _pattern(tuple(_phrases()))


def _alternatives(phrases: Sequence[str] | dict[str, tuple[str, int, str]]) -> re.Pattern[str]:
    return _pattern(tuple(phrases))


@cache
def _pattern(phrases: tuple[str, ...]) -> re.Pattern[str]:
    """Any of the phrases as whole words, longest first; blanks match any white space."""
    ordered = sorted(phrases, key=len, reverse=True)
    listed = "|".join(re.escape(phrase).replace(r"\ ", r"\s+") for phrase in ordered)
    return re.compile(rf"(?<![\w-])(?:{listed})(?![\w-])")
