"""From a reference's caption and an instruction to the text of a query: what the arms that search by text do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from e2fashion.tasks.composed.slots import rewrite_slots

Tags = Mapping[str, str | None]


@dataclass(frozen=True)
class Question:
    """A reference's caption, what shall be different from it in one order, and the ``tags`` that are known of it."""

    caption: str
    instruction: str
    tags: Tags = field(default_factory=dict)


@dataclass(frozen=True)
class Rewriting:
    """The text to search for; ``fell_back`` says that it is the instruction alone because nothing better was found.

    ``trace`` is what there is to say of how it came about.
    """

    text: str
    fell_back: bool = False
    trace: Mapping[str, Any] = field(default_factory=dict)


class Rewriter(Protocol):
    """Turns questions into texts, one each, in order."""

    reads_captions: bool

    def rewrite(self, questions: Sequence[Question]) -> list[Rewriting]:
        """One rewriting per question."""
        ...


class InstructionAlone:
    """The instruction as it is; the caption where there is none, which asks for more of the same."""

    reads_captions = False

    def rewrite(self, questions: Sequence[Question]) -> list[Rewriting]:
        """The instructions."""
        return [Rewriting(question.instruction or question.caption) for question in questions]


class Concatenation:
    """Caption and instruction behind one another (ours)."""

    reads_captions = True

    def rewrite(self, questions: Sequence[Question]) -> list[Rewriting]:
        """Caption, comma, instruction."""
        return [
            Rewriting(", ".join(part for part in (question.caption, question.instruction) if part))
            for question in questions
        ]


class RuleComposer:
    """:func:`e2fashion.tasks.composed.slots.rewrite_slots`; ``protected`` are phrases of captions to leave alone."""

    reads_captions = True

    def __init__(self, protected: Sequence[str] = ()) -> None:
        self.protected = tuple(protected)

    def rewrite(self, questions: Sequence[Question]) -> list[Rewriting]:
        """The rewritten captions, with the composer's trace."""
        found = []
        for question in questions:
            if not question.instruction:
                found.append(Rewriting(question.caption))
                continue
            text, trace = rewrite_slots(question.caption, question.instruction, question.tags, self.protected)
            # Where everything was deleted nothing is left to search for.
            fell_back = not trace.understood or not text
            found.append(Rewriting(text or question.instruction, fell_back, trace.as_dict()))
        return found


def orders_of(instructions: Sequence[str], both: bool = True) -> tuple[str, ...]:
    """A product's instructions as one, joined by "and": in both orders, or as they stand; nothing becomes ``("",)``."""
    if len(instructions) < 2:
        return (instructions[0] if instructions else "",)
    joined = " and ".join(instructions)
    return tuple(dict.fromkeys((joined, " and ".join(reversed(instructions))))) if both else (joined,)
