"""The query modes of text-guided retrieval behind one interface: queries go in, one embedding each comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from e2fashion.tasks.composed.config import Mode
from e2fashion.tasks.composed.rules import rewrite_slots
from e2fashion.types import E2FashionError

MODES: tuple[Mode, ...] = get_args(Mode)
TITLES = {
    "image": "image alone",
    "text": "instruction alone",
    "sum": "image + instruction",
    "concat": "caption, instruction",
    "slots": "CIReVL-style (rule composer)",
    "llm": "CIReVL-style (language model)",
}
"""The modes in tables; CIReVL itself is a language model of its authors' choice with their captioner."""
CAPTION_MODES = ("concat", "slots", "llm")
"""The modes that rewrite captions of the references."""
NO_LANGUAGE_MODEL = (
    "the mode 'llm' needs a language model: lm=<folder or hub name>, or answers=<JSON file> made elsewhere"
)


@dataclass(frozen=True)
class Question:
    """A reference's caption, the instruction in one order, and the known ``tags`` of the reference."""

    caption: str
    instruction: str
    tags: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Rewriting:
    """The text to search for; ``fell_back``: it is the instruction alone, as the mode found nothing better.

    ``trace`` holds the steps that made it.
    """

    text: str
    fell_back: bool = False
    trace: Mapping[str, Any] = field(default_factory=dict)


Rewriter: TypeAlias = Callable[[Sequence[Question]], list[Rewriting]]
"""Questions to texts, one each, in order."""
EmbedTexts: TypeAlias = Callable[[Sequence[str]], Tensor]
"""Texts to L2-normalized embeddings (N, C)."""


@dataclass(frozen=True)
class ComposedQueries:
    """Q queries: ``image_embeds`` (Q, C) of the references, L2-normalized, and none, one or several ``instructions``.

    ``captions`` of the references and their ``tags`` are empty where they are not known.
    """

    image_embeds: Tensor
    instructions: Sequence[Sequence[str]]
    captions: Sequence[str] = ()
    tags: Sequence[Mapping[str, str | None]] = ()

    def questions(self, both_orders: bool = True) -> list[list[Question]]:
        """Per query one question for each order of its instructions."""
        return [
            [
                Question(self.captions[row] if self.captions else "", text, self.tags[row] if self.tags else {})
                for text in orders_of(instructions, both_orders)
            ]
            for row, instructions in enumerate(self.instructions)
        ]


@dataclass(frozen=True)
class Composition:
    """One L2-normalized embedding (Q, C) per query; ``rewritings`` are the texts embedded for it, if any."""

    embeds: Tensor
    rewritings: Sequence[Sequence[Rewriting]] = ()

    @property
    def fallbacks(self) -> int:
        """Queries of which at least one order fell back on the instruction alone."""
        return sum(any(item.fell_back for item in of_query) for of_query in self.rewritings)


def orders_of(instructions: Sequence[str], both: bool = True) -> tuple[str, ...]:
    """The instructions of a query joined by "and", in both orders or as they are; nothing becomes ``("",)``."""
    joined = " and ".join(instructions)
    return tuple(dict.fromkeys((joined, " and ".join(reversed(instructions))))) if both else (joined,)


def rewriters(protected: Sequence[str] = (), language_model: Rewriter | None = None) -> dict[str, Rewriter]:
    """The rewriter of every mode that searches by text; ``protected`` are phrases that ``slots`` does not change."""

    def instruction(question: Question) -> Rewriting:
        # Without an instruction the query asks for more of the same.
        return Rewriting(question.instruction or question.caption)

    def concatenation(question: Question) -> Rewriting:
        return Rewriting(", ".join(part for part in (question.caption, question.instruction) if part))

    def slots(question: Question) -> Rewriting:
        if not question.instruction:
            return Rewriting(question.caption)
        text, trace = rewrite_slots(question.caption, question.instruction, question.tags, protected)
        # An empty text, of which everything was deleted, cannot be searched.
        return Rewriting(text or question.instruction, not trace.understood or not text, asdict(trace))

    def each(rewrite: Callable[[Question], Rewriting]) -> Rewriter:
        return lambda questions: [rewrite(question) for question in questions]

    by_mode = {"text": each(instruction), "concat": each(concatenation), "slots": each(slots)}
    return by_mode | ({"llm": language_model} if language_model is not None else {})


def compose(
    mode: Mode,
    queries: ComposedQueries,
    embed_texts: EmbedTexts,
    by_text: Mapping[str, Rewriter],
    both_orders: bool = True,
    weight: float = 0.5,
) -> Composition:
    """The embeddings of queries in one mode; ``by_text`` as :func:`rewriters` returns it.

    The texts of both orders of a query's instructions are embedded and averaged, so that the order plays no part.
    ``weight`` is the image's share in ``sum``: 1.0 is ``image`` and 0.0 is ``text``.

    Raises:
        E2FashionError: an unknown mode, one that needs captions without any, or ``llm`` without a model.
    """
    if mode not in MODES:
        raise E2FashionError(f"there is no mode '{mode}': choose from {', '.join(MODES)}")
    if mode == "image":
        return Composition(queries.image_embeds)
    if mode in CAPTION_MODES and not queries.captions:
        raise E2FashionError(
            f"the mode '{mode}' rewrites captions of the reference images, and there are none: name texts to caption "
            "them from with memory=<catalogue, or a text file of one caption per line>"
        )
    rewriter = by_text.get("text" if mode == "sum" else mode)
    if rewriter is None:
        raise E2FashionError(NO_LANGUAGE_MODEL)
    questions = queries.questions(both_orders)
    answers = iter(rewriter([question for of_query in questions for question in of_query]))
    rewritings = [[next(answers) for _ in of_query] for of_query in questions]
    text = _mean_text([[item.text for item in of_query] for of_query in rewritings], embed_texts)
    return Composition(blend(queries.image_embeds, text, weight) if mode == "sum" else text, rewritings)


def blend(image_embeds: Tensor, text_embeds: Tensor, weight: float) -> Tensor:
    """The normalized weighted mean of L2-normalized (Q, C) and (Q, C); ``weight`` is the image's share."""
    return F.normalize(weight * image_embeds + (1 - weight) * text_embeds, dim=-1)


def _mean_text(texts: Sequence[Sequence[str]], embed_texts: EmbedTexts) -> Tensor:
    """The normalized mean over each query's texts (Q, C); every distinct text is embedded once."""
    rows = {text: row for row, text in enumerate(dict.fromkeys(text for of_query in texts for text in of_query))}
    embeds = embed_texts(list(rows)).float()
    # Sorted, so that the sum does not depend on the order of instructions.
    means = [embeds[sorted(rows[text] for text in of_query)].mean(0) for of_query in texts]
    return F.normalize(torch.stack(means), dim=-1)
