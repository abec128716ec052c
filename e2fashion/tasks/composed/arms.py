"""One interface for every way of searching by a picture and a text: queries go in, one embedding each comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from e2fashion.tasks.composed.rewriting import (
    Concatenation,
    InstructionAlone,
    Question,
    Rewriter,
    Rewriting,
    RuleComposer,
    Tags,
    orders_of,
)
from e2fashion.types import E2FashionError

ARMS = ("image", "text", "sum", "concat", "slots", "llm")
TITLES = {
    "image": "image alone",
    "text": "instruction alone",
    "sum": "image + instruction",
    "concat": "caption, instruction",
    "slots": "CIReVL-style (rule composer)",
    "llm": "CIReVL-style (language model)",
}
"""What tables call the arms; CIReVL itself is a language model of its authors' choice behind their captioner."""

EmbedTexts = Callable[[Sequence[str]], Tensor]
"""Texts to L2-normalised embeddings (N, C)."""


@dataclass(frozen=True)
class ComposedQueries:
    """What the arms read of Q queries.

    ``image_embeds`` (Q, C), L2-normalised, of the references; ``instructions`` of each query none, one or several;
    ``captions`` of the references (empty: there are none) and what is known of their ``tags`` (empty: nothing).
    """

    image_embeds: Tensor
    instructions: Sequence[Sequence[str]]
    captions: Sequence[str] = ()
    tags: Sequence[Tags] = ()

    def __len__(self) -> int:
        return len(self.image_embeds)

    def questions(self, both_orders: bool = True) -> list[list[Question]]:
        """Per query one question for each order of its instructions."""
        return [
            [
                Question(self.captions[row] if self.captions else "", text, self.tags[row] if self.tags else {})
                for text in orders_of(own, both_orders)
            ]
            for row, own in enumerate(self.instructions)
        ]


@dataclass(frozen=True)
class Composition:
    """One L2-normalised embedding (Q, C) per query; ``rewritings`` holds what was embedded of each, if texts were."""

    embeds: Tensor
    rewritings: Sequence[Sequence[Rewriting]] = field(default_factory=tuple)

    @property
    def fallbacks(self) -> int:
        """Queries of which at least one order fell back on the instruction alone."""
        return sum(any(item.fell_back for item in own) for own in self.rewritings)


def check_arms(arms: Sequence[str]) -> None:
    """Refuse what is no arm, and no arms.

    Raises:
        E2FashionError: names the arm and lists those that there are.
    """
    if unknown := [arm for arm in arms if arm not in ARMS]:
        raise E2FashionError(f"there is no arm '{unknown[0]}': choose from {', '.join(ARMS)}")
    if not arms:
        raise E2FashionError(f"no arm was named: choose from {', '.join(ARMS)}")


def rewriters(protected: Sequence[str] = (), language_model: Rewriter | None = None) -> dict[str, Rewriter]:
    """The rewriter of every arm that searches by text; ``llm`` where there is a language model or its answers."""
    found: dict[str, Rewriter] = {
        "text": InstructionAlone(),
        "concat": Concatenation(),
        "slots": RuleComposer(protected),
    }
    return found | ({"llm": language_model} if language_model is not None else {})


def reads_captions(arm: str) -> bool:
    """Whether an arm needs captions of the references."""
    return arm in ("concat", "slots", "llm")


def compose(
    arm: str,
    queries: ComposedQueries,
    embed_texts: EmbedTexts,
    by_text: Mapping[str, Rewriter],
    both_orders: bool = True,
    weight: float = 0.5,
) -> Composition:
    """The queries' embeddings by one arm.

    The texts of both orders of a query's instructions are embedded and averaged, which makes the order irrelevant.
    ``weight`` is the picture's share in ``sum``: 1.0 is ``image`` and 0.0 is ``text``.

    Raises:
        E2FashionError: an unknown arm, one that needs captions where there are none, or ``llm`` without a model.
    """
    check_arms([arm])
    if arm == "image":
        return Composition(queries.image_embeds)
    if reads_captions(arm) and not queries.captions:
        raise E2FashionError(
            f"the arm '{arm}' rewrites captions of the reference pictures, and there are none: name texts to caption "
            "them from with memory=<catalogue, or a text file of one caption per line>"
        )
    rewriter = by_text.get("text" if arm == "sum" else arm)
    if rewriter is None:
        raise E2FashionError(
            f"the arm '{arm}' needs a language model: lm=<folder or hub name>, or answers=<JSON file> made elsewhere"
        )
    rewritings = _rewrite(queries.questions(both_orders), rewriter)
    text = _mean_text([[item.text for item in own] for own in rewritings], embed_texts, queries.image_embeds.shape[1])
    if arm == "sum":
        text = blend(queries.image_embeds, text, weight)
    return Composition(text, rewritings)


def blend(image_embeds: Tensor, text_embeds: Tensor, weight: float) -> Tensor:
    """The normalised weighted mean of L2-normalised (Q, C) and (Q, C), ``weight`` of it the picture's."""
    return F.normalize(weight * image_embeds + (1 - weight) * text_embeds, dim=-1)


def _rewrite(questions: list[list[Question]], rewriter: Rewriter) -> list[list[Rewriting]]:
    flat = rewriter.rewrite([question for own in questions for question in own])
    found, place = [], 0
    for own in questions:
        found.append(flat[place : place + len(own)])
        place += len(own)
    return found


def _mean_text(texts: Sequence[Sequence[str]], embed_texts: EmbedTexts, dimension: int) -> Tensor:
    """The normalised mean over each query's texts (Q, C); every distinct text is embedded once."""
    if not texts:
        return torch.empty(0, dimension)
    distinct = {text: row for row, text in enumerate(dict.fromkeys(text for own in texts for text in own))}
    embeds = embed_texts(list(distinct)).float()
    # Sorted, so that the sum does not hear of the order.
    return F.normalize(torch.stack([embeds[sorted(distinct[text] for text in own)].mean(0) for own in texts]), dim=-1)
