"""Texts as token ids that a text encoder can take, and what became of those that are too long for it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from e2fashion.data.text import leading_sentences
from e2fashion.types import E2FashionError, TextOverflow

#: The range of characters of the description in a text; None: the whole text is one.
Span = tuple[int, int] | None


@dataclass(frozen=True)
class FittedText:
    """``ids`` with start and end token, of a text of ``tokens``; ``dropped`` sentences left out; ``cut`` within one."""

    ids: list[int]
    tokens: int
    dropped: int = 0
    cut: bool = False


@dataclass(frozen=True)
class TextCounts:
    """Of ``distinct`` texts: how many are ``long``er than the context length, and what became of those.

    ``truncated`` lost tokens within a sentence; ``shortened`` lost whole sentences; a text may be both. ``stretched``
    are those longer than a checkpoint could read before its positions were stretched. ``longest`` is in tokens.
    """

    context_length: int
    overflow: TextOverflow = "truncate"
    distinct: int = 0
    long: int = 0
    truncated: int = 0
    shortened: int = 0
    stretched: int = 0
    longest: int = 0
    stretched_from: int | None = field(default=None, repr=False)

    def record(self) -> dict[str, Any]:
        """As plain values; what a model's positions were before is left out where they are as they were."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    def sentence(self) -> str:
        """For a log or a report."""
        sentence = (
            f"{self.long:,} of {self.distinct:,} distinct texts exceed {self.context_length} tokens (the longest has "
            f"{self.longest:,}): {self.truncated:,} cut within a sentence, {self.shortened:,} without their last "
            f"sentences (text.overflow={self.overflow})"
        )
        if self.stretched_from is None:
            return sentence
        return f"{sentence}; {self.stretched:,} exceed the {self.stretched_from} tokens before positions were stretched"


class TextFitter:
    """Texts to token ids, at most ``context_length`` of them, start and end token included.

    What is too long loses its last tokens before the end token (``truncate``; ``stretch``, whose positions are merely
    more), or whole sentences from the end of its description (``first_sentences``), so that the text before and
    after the description stays. Where its first sentence alone is too long that one is cut, and where even the rest
    leaves no room for it the text as a whole.

    Raises:
        E2FashionError: a context length without room for a token.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, context_length: int, overflow: TextOverflow = "truncate"
    ) -> None:
        if context_length < 3:
            raise E2FashionError(f"text.context_length is {context_length}; give at least 3 (start, one token, end).")
        self.tokenizer = tokenizer
        self.context_length = context_length
        self.overflow = overflow

    def __call__(self, texts: Sequence[str], spans: Sequence[Span] | None = None) -> list[FittedText]:
        """Every text, fitted; ``spans`` are the ranges of their descriptions."""
        if not texts:
            return []
        listed = spans or [None] * len(texts)
        encoded = self._encode(texts)
        return [self._fit(*item) for item in zip(texts, listed, encoded, strict=True)]

    def count(
        self, texts: Sequence[str], spans: Sequence[Span] | None = None, stretched_from: int | None = None
    ) -> TextCounts:
        """What becomes of ``texts``; ``stretched_from`` is the length that a checkpoint could read before."""
        fitted = self(texts, spans)
        return TextCounts(
            context_length=self.context_length,
            overflow=self.overflow,
            distinct=len(fitted),
            long=sum(text.tokens > self.context_length for text in fitted),
            truncated=sum(text.cut for text in fitted),
            shortened=sum(text.dropped > 0 for text in fitted),
            stretched=0 if stretched_from is None else sum(text.tokens > stretched_from for text in fitted),
            longest=max((text.tokens for text in fitted), default=0),
            stretched_from=stretched_from,
        )

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        encoded: Any = self.tokenizer(list(texts), add_special_tokens=True, truncation=False, verbose=False)
        return encoded["input_ids"]

    def _fit(self, text: str, span: Span, ids: list[int]) -> FittedText:
        if len(ids) <= self.context_length:
            return FittedText(ids, len(ids))
        if self.overflow == "first_sentences":
            return self._first_sentences(text, span or (0, len(text)), ids)
        return self._truncated(ids)

    def _truncated(self, ids: list[int]) -> FittedText:
        return FittedText([*ids[: self.context_length - 1], ids[-1]], len(ids), cut=True)

    def _first_sentences(self, text: str, span: tuple[int, int], whole: list[int]) -> FittedText:
        start, end = span
        before, description, behind = text[:start], text[start:end], text[end:]
        prefixes = leading_sentences(description)

        def shortened(sentences: int) -> list[int]:
            return self._encode([before + prefixes[sentences - 1] + behind])[0]

        kept = bisect_right(
            range(1, len(prefixes)), self.context_length, key=lambda sentences: len(shortened(sentences))
        )
        if kept:
            return FittedText(shortened(kept), len(whole), dropped=len(prefixes) - kept)
        # The first sentence alone is too long: its last tokens go, the text after the description stays.
        head, tail, empty = self._encode([before + prefixes[0], behind, ""])
        start = len(empty) - 1  # of the start token, which texts of a SigLIP lack
        room = self.context_length - (len(tail) - start)
        if room <= len(self._encode([before])[0]) - 1:
            return self._truncated(whole)
        return FittedText([*head[:-1][:room], *tail[start:]], len(whole), dropped=len(prefixes) - 1, cut=True)


def pad_ids(rows: Sequence[Sequence[int] | np.ndarray], pad_token_id: int) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, both int64 (len(rows), L) with L the longest; (0, 1) for no row."""
    length = max((len(row) for row in rows), default=1)
    ids = np.full((len(rows), length), pad_token_id, dtype=np.int64)
    mask = np.zeros((len(rows), length), dtype=np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
        mask[number, : len(row)] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)
