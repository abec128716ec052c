"""The rule composer: slots of the reference's caption, overridden, deleted or moved by the instruction.

Reported as "CIReVL-style (rule composer)": it stands where CIReVL asks a language model, and needs none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from e2fashion.tasks.composed.parser import Found, Instruction, Move, find_values, parse_instruction
from e2fashion.tasks.composed.vocabulary import CONNECTORS, SCALES

_BETWEEN = re.compile(r"(?:\s|" + "|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in CONNECTORS) + r")*")
_DANGLING = re.compile(r"(?:\s|^)(?:with|in|and|or|&|/|of|a|an)(?=\s*(?:[,;.]|$))", re.IGNORECASE)
_LEADING = re.compile(r"^\s*(?:(?:and|or|with|in|of)\b|[&/,;.])\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Trace:
    """What the composer did: values parsed from the caption by slot, then old and new ones, and what it left.

    ``overridden`` and ``moved`` map a slot to (old values, new values); ``deleted`` lists (slot, value);
    ``left_over`` are words of the instruction that say nothing about a slot.
    """

    parsed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    overridden: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)
    deleted: tuple[tuple[str, str], ...] = ()
    moved: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)
    left_over: str = ""
    understood: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def rewrite_slots(
    caption: str,
    instruction: str,
    tags: Mapping[str, str | None] | None = None,
    protected: Sequence[str] = (),
) -> tuple[str, Trace]:
    """The caption as the instruction wants it, and what was done; the instruction alone where none of it was parsed.

    ``tags`` of the reference say where a comparative starts if the caption does not (``{"colour": "Blue"}``);
    ``protected`` phrases of the caption are left alone ("Red Tape" is a brand).
    """
    asked = parse_instruction(instruction)
    found = find_values(caption, protected)
    parsed = _by_slot(found)
    if not asked:
        return instruction, Trace(parsed=parsed, left_over=asked.left_over, understood=False)
    known = _tag_values(tags) | parsed
    moved = _moved(asked, known)
    wanted = {slot: new for slot, (_, new) in moved.items()} | asked.set_values
    deleted = tuple(
        (slot, value)
        for slot, values in parsed.items()
        if slot not in wanted
        for value in values
        if (slot, value) in asked.negated or (slot, None) in asked.negated
    )
    # A colour keeps the asker's word: an encoder knows "multi" of its catalogue, not what we call it.
    words = {slot: tuple(asked.colours.get(value, value) for value in values) for slot, values in wanted.items()}
    text = _rewrite(caption, found, words, set(deleted))
    overridden = {slot: (parsed.get(slot, ()), values) for slot, values in asked.set_values.items()}
    moved = {slot: change for slot, change in moved.items() if slot not in asked.set_values}
    return text, Trace(parsed, overridden, deleted, moved, asked.left_over)


def _by_slot(found: Sequence[Found]) -> dict[str, tuple[str, ...]]:
    values: dict[str, dict[str, None]] = {}
    for item in found:
        if item.value is not None:
            values.setdefault(item.slot, {})[item.value] = None
    return {slot: tuple(own) for slot, own in values.items()}


def _tag_values(tags: Mapping[str, str | None] | None) -> dict[str, tuple[str, ...]]:
    """Slot values that tags name, whatever their columns are called."""
    return _by_slot([item for value in (tags or {}).values() if value for item in find_values(value)])


def _moved(asked: Instruction, known: dict[str, tuple[str, ...]]) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    changes = {}
    for move in asked.moves:
        old = known.get(move.slot, ())
        new = tuple(dict.fromkeys(step(value, move) for value in old)) or (move.otherwise,)
        changes[move.slot] = (old, new)
    return changes


def step(value: str, move: Move) -> str:
    """The value ``move.steps`` further on its scale, at most its end; as it is where no scale holds it."""
    for scale in SCALES[move.slot]:
        if value in scale:
            return scale[min(len(scale) - 1, max(0, scale.index(value) + move.steps))]
    return value


def _rewrite(
    caption: str, found: Sequence[Found], wanted: Mapping[str, tuple[str, ...]], deleted: set[tuple[str, str]]
) -> str:
    """The caption with the first value of every wanted slot replaced, its others and the deleted ones taken out."""
    pieces, place = [], 0
    written: set[str] = set()
    for number, item in enumerate(found):
        replaced = item.slot in wanted
        if item.value is None or not (replaced or (item.slot, item.value) in deleted):
            continue
        pieces.append(caption[place : item.start])
        place = item.end
        if replaced and item.slot not in written:
            pieces.append(" ".join(wanted[item.slot]))
            written.add(item.slot)
        # "black and white" goes as one: the words between two values of a slot are theirs.
        if number + 1 < len(found) and found[number + 1].slot == item.slot:
            between = caption[place : found[number + 1].start]
            if _BETWEEN.fullmatch(between.lower()):
                place = found[number + 1].start
                pieces.append(" ")
    pieces.append(caption[place:])
    added = [" ".join(values) for slot, values in wanted.items() if slot not in written]
    return ", ".join(part for part in (_tidy("".join(pieces)), *added) if part)


def _tidy(text: str) -> str:
    """Without what a removed value left behind: doubled blanks and marks, "with" before nothing."""
    before = None
    while before != text:
        before = text
        text = " ".join(text.split())
        text = _LEADING.sub("", _DANGLING.sub("", text))
        text = re.sub(r"([,;.])(?:\s*[,;])+", r"\1", text)
        text = re.sub(r"\s+([,;])", r"\1", text)
    return text.strip(" ,;")
