"""The rule composer: slots of the reference's caption, overridden, deleted or moved by the instruction.

Reported as "CIReVL-style (rule composer)": rules take the part of CIReVL's language model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_WORDS: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("vocabulary.yaml").read_text(encoding="utf-8"))
SLOTS: dict[str, dict[str, list[str]]] = _WORDS["slots"]
SCALES: dict[str, list[list[str]]] = _WORDS["scales"]
COMPARATIVES: dict[str, tuple[str, int, str]] = {word: tuple(move) for word, move in _WORDS["comparatives"].items()}


_END = re.compile(r"[,;.]|\b(?:" + "|".join(word for word in _WORDS["clause_ends"] if word.isalpha()) + r")\b")

_BETWEEN = re.compile(r"(?:\s|" + "|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in _WORDS["connectors"]) + r")*")
_DANGLING = re.compile(r"(?:\s|^)(?:with|in|and|or|&|/|of|a|an)(?=\s*(?:[,;.]|$))", re.IGNORECASE)
_LEADING = re.compile(r"^\s*(?:(?:and|or|with|in|of)\b|[&/,;.])\s*", re.IGNORECASE)


@dataclass(frozen=True)
class SlotValue:
    """A value of a slot, characters ``start`` to ``end`` of a text; None: the slot as a whole ("pattern")."""

    slot: str
    value: str | None
    start: int
    end: int


@dataclass(frozen=True)
class Move:
    """``steps`` on the scale of a slot (negative: towards its first value), and the text for an unknown value."""

    slot: str
    steps: int
    otherwise: str


@dataclass(frozen=True)
class Instruction:
    """What an instruction asks for: values to set by slot, values to delete (None: all of the slot), moves on scales.

    ``left_over`` is the rest of its text; ``colors`` has the instruction's name of each color.
    """

    set_values: dict[str, tuple[str, ...]]
    negated: tuple[tuple[str, str | None], ...]
    moves: tuple[Move, ...]
    left_over: str
    colors: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.set_values or self.negated or self.moves)


def find_values(text: str, protected: Sequence[str] = ()) -> list[SlotValue]:
    """The slot values in a text, from left to right; of overlapping phrases the longest.

    ``protected`` phrases (brands: "Red Tape") are ignored.
    """
    masked = _mask(text.lower(), protected)
    return [
        SlotValue(*_phrases()[_spaced(match[0])], match.start(), match.end())
        for match in _pattern(tuple(_phrases())).finditer(masked)
    ]


def parse_instruction(text: str) -> Instruction:
    """Parse an instruction by clauses: a negation or a comparative reaches to the next comma, "and" or verb."""
    lowered = text.lower()
    taken = [False] * len(lowered)
    moves = _moves(lowered, taken)
    negations = [
        (match, _clause_end(lowered, match.end()))
        for match in _pattern(tuple(_WORDS["negations"])).finditer(lowered)
        if not any(taken[match.start() : match.end()])
    ]
    set_values: dict[str, list[str]] = {}
    negated: list[tuple[str, str | None]] = []
    colors: dict[str, str] = {}
    for item in find_values(lowered):
        if any(taken[item.start : item.end]):
            continue
        # "no sleeves" is itself a value: the negation is part of it and negates nothing else.
        inside = [match for match, _ in negations if item.start <= match.start() < item.end]
        before = [match for match, end in negations if match.end() <= item.start < end]
        taken[item.start : item.end] = [True] * (item.end - item.start)
        for match in (*inside, *before):
            taken[match.start() : match.end()] = [True] * (match.end() - match.start())
        if before:
            negated.append((item.slot, item.value))
        elif item.value is not None and item.value not in set_values.setdefault(item.slot, []):
            set_values[item.slot].append(item.value)
            if item.slot == "colour":
                colors[item.value] = _spaced(lowered[item.start : item.end])
    # A value that is both set and negated is set: "not black but black and white".
    negated = [(slot, value) for slot, value in negated if value is None or value not in set_values.get(slot, [])]
    left = "".join(" " if used else letter for letter, used in zip(lowered, taken, strict=True))
    return Instruction(
        {slot: tuple(values) for slot, values in set_values.items() if values},
        tuple(dict.fromkeys(negated)),
        tuple(moves),
        " ".join(left.split()),
        colors,
    )


def _moves(text: str, taken: list[bool]) -> list[Move]:
    moves = []
    for match in _pattern(tuple(COMPARATIVES)).finditer(text):
        word = _spaced(match[0])
        slot, direction, otherwise = COMPARATIVES[word]
        first, last = _clause_start(text, match.start()), _clause_end(text, match.end())
        near = re.findall(r"[a-z]+", text[first:last])
        # "sleeves are longer" has its noun before the comparative, "longer sleeves" after it.
        if (needed := _WORDS["needed"].get(word)) and not set(needed) & set(near):
            continue
        if (turn := _WORDS["turns"].get(word)) and set(turn["words"]) & set(near):
            slot, otherwise = turn["slot"], turn["otherwise"]
        strong = set(re.findall(r"[a-z]+", text[max(first, match.start() - 12) : match.start()])) & set(
            _WORDS["strong"]
        )
        moves.append(Move(slot, direction * (2 if strong else 1), otherwise))
        taken[match.start() : match.end()] = [True] * (match.end() - match.start())
    return moves


def _clause_end(text: str, start: int) -> int:
    match = _END.search(text, start)
    return match.start() if match else len(text)


def _clause_start(text: str, end: int) -> int:
    """After the last comma or "and" before a word; a verb starts no clause: "the sleeves are longer"."""
    ends = [match.end() for match in re.finditer(r"[,;.]|\b(?:and|but)\b", text[:end])]
    return ends[-1] if ends else 0


def _mask(text: str, phrases: Sequence[str]) -> str:
    for phrase in phrases:
        if lowered := phrase.strip().lower():
            # A form feed is not a letter, and no phrase has one.
            hidden = "\f" * len(lowered)
            text = re.sub(rf"(?<!\w){re.escape(lowered)}(?!\w)", hidden, text)
    return text


def _spaced(phrase: str) -> str:
    return " ".join(phrase.split())


@cache
def _phrases() -> dict[str, tuple[str, str | None]]:
    """Every phrase with its slot and value, with regular plurals of single words."""
    known: dict[str, tuple[str, str | None]] = {}
    for slot, values in SLOTS.items():
        for value, others in values.items():
            for phrase in (value, *others):
                known[phrase] = (slot, value)
    for slot, names in _WORDS["slot_names"].items():
        known |= {name: (slot, None) for name in names if name not in known}
    return known | {
        f"{phrase}s": value
        for phrase, value in known.items()
        if phrase.isalpha() and value[0] in ("pattern", "print", "colour") and f"{phrase}s" not in known
    }


@cache
def _pattern(phrases: tuple[str, ...]) -> re.Pattern[str]:
    """Any of the phrases as whole words, longest first; spaces match any white space."""
    ordered = sorted(phrases, key=len, reverse=True)
    listed = "|".join(re.escape(phrase).replace(r"\ ", r"\s+") for phrase in ordered)
    return re.compile(rf"(?<![\w-])(?:{listed})(?![\w-])")


@dataclass(frozen=True)
class Trace:
    """What the composer did: values parsed from the caption by slot, and how they were changed.

    ``overridden`` and ``moved`` map a slot to (old values, new values); ``deleted`` lists (slot, value);
    ``left_over`` is the text of the instruction that is about no slot.
    """

    parsed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    overridden: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)
    deleted: tuple[tuple[str, str], ...] = ()
    moved: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)
    left_over: str = ""
    understood: bool = True


def rewrite_slots(
    caption: str, instruction: str, tags: Mapping[str, str | None] | None = None, protected: Sequence[str] = ()
) -> tuple[str, Trace]:
    """The caption changed by the instruction, and the trace; the instruction alone if nothing of it was parsed.

    ``tags`` of the reference are the start of a comparative if the caption has none (``{"colour": "Blue"}``);
    ``protected`` phrases of the caption are not changed ("Red Tape" is a brand).
    """
    wish = parse_instruction(instruction)
    spans = find_values(caption, protected)
    parsed = _by_slot(spans)
    if not wish:
        return instruction, Trace(parsed=parsed, left_over=wish.left_over, understood=False)
    of_tags = _by_slot([item for value in (tags or {}).values() if value for item in find_values(value)])
    known = of_tags | parsed
    moved = _moved(wish, known)
    wanted = {slot: new for slot, (_, new) in moved.items()} | wish.set_values
    deleted = tuple(
        (slot, value)
        for slot, values in parsed.items()
        if slot not in wanted
        for value in values
        if (slot, value) in wish.negated or (slot, None) in wish.negated
    )
    # A color keeps the instruction's name: the encoder has seen "multi" in its catalogue, not our name of it.
    texts = {slot: tuple(wish.colors.get(value, value) for value in values) for slot, values in wanted.items()}
    text = _rewrite(caption, spans, texts, set(deleted))
    overridden = {slot: (parsed.get(slot, ()), values) for slot, values in wish.set_values.items()}
    moved = {slot: change for slot, change in moved.items() if slot not in wish.set_values}
    return text, Trace(parsed, overridden, deleted, moved, wish.left_over)


def _by_slot(spans: Sequence[SlotValue]) -> dict[str, tuple[str, ...]]:
    values: dict[str, dict[str, None]] = {}
    for item in spans:
        if item.value is not None:
            values.setdefault(item.slot, {})[item.value] = None
    return {slot: tuple(listed) for slot, listed in values.items()}


def _moved(wish: Instruction, known: dict[str, tuple[str, ...]]) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    changes = {}
    for move in wish.moves:
        old = known.get(move.slot, ())
        new = tuple(dict.fromkeys(step(value, move) for value in old)) or (move.otherwise,)
        changes[move.slot] = (old, new)
    return changes


def step(value: str, move: Move) -> str:
    """The value ``move.steps`` further on its scale, at most its end; unchanged if no scale has it."""
    for scale in SCALES[move.slot]:
        if value in scale:
            return scale[min(len(scale) - 1, max(0, scale.index(value) + move.steps))]
    return value


def _rewrite(
    caption: str, spans: Sequence[SlotValue], wanted: Mapping[str, tuple[str, ...]], deleted: set[tuple[str, str]]
) -> str:
    """The caption with the first value of every wanted slot replaced, its others and the deleted ones taken out."""
    pieces, position = [], 0
    written: set[str] = set()
    for number, item in enumerate(spans):
        replaced = item.slot in wanted
        if item.value is None or not (replaced or (item.slot, item.value) in deleted):
            continue
        pieces.append(caption[position : item.start])
        position = item.end
        if replaced and item.slot not in written:
            pieces.append(" ".join(wanted[item.slot]))
            written.add(item.slot)
        # "black and white" is replaced as one: the connectors between two values of a slot belong to them.
        if number + 1 < len(spans) and spans[number + 1].slot == item.slot:
            between = caption[position : spans[number + 1].start]
            if _BETWEEN.fullmatch(between.lower()):
                position = spans[number + 1].start
                pieces.append(" ")
    pieces.append(caption[position:])
    added = [" ".join(values) for slot, values in wanted.items() if slot not in written]
    return ", ".join(part for part in (_tidy("".join(pieces)), *added) if part)


def _tidy(text: str) -> str:
    """Without the remains of removed values: doubled spaces and marks, "with" before nothing."""
    before = None
    while before != text:
        before = text
        text = " ".join(text.split())
        text = _LEADING.sub("", _DANGLING.sub("", text))
        text = re.sub(r"([,;.])(?:\s*[,;])+", r"\1", text)
        text = re.sub(r"\s+([,;])", r"\1", text)
    return text.strip(" ,;")
