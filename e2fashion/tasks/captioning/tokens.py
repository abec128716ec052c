"""Captions and prompts as token ids, padded by mask, and token ids as captions again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from e2fashion.tasks.captioning.spelling import Spelling
from e2fashion.types import E2FashionError

NO_SPELLING = Spelling({})


@dataclass
class CaptionBatch:
    """What a decoder is trained on in one step.

    ``embeds`` (B, C) L2-normalised; ``input_ids`` (B, L): prompt, start, caption, end, filled up behind;
    ``attention_mask`` (B, L) bool, False behind the end; ``targets`` (B, L) bool, True where a token has to be told
    from what stands before it: the caption and its end.
    """

    embeds: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.embeds)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> CaptionBatch:
        """The same batch with every tensor on ``device``."""
        moved = {item.name: getattr(self, item.name).to(device, non_blocking=non_blocking) for item in fields(self)}
        return replace(self, **moved)


@dataclass(frozen=True)
class CaptionTokens:
    """A tokenizer with its start and end token, and bounds in tokens.

    ``length`` bounds a caption with its end token, ``prompt_length`` a prompt. GPT-2 has one token for start and end.
    ``stop`` is a text of one token behind which a caption ends too (CapDec: a full stop); None: only its end token.
    ``spelling`` restores the blanks that a tokenizer forgets.
    """

    tokenizer: PreTrainedTokenizerBase
    length: int
    prompt_length: int = 24
    stop: str | None = None
    spelling: Spelling = NO_SPELLING

    def __post_init__(self) -> None:
        if self.length < 2:
            raise E2FashionError(f"length is {self.length}; give a number from 2: a caption and its end token.")
        for name, value in (("bos_token", self.tokenizer.bos_token_id), ("eos_token", self.tokenizer.eos_token_id)):
            if value is None:
                raise E2FashionError(f"The language model's tokenizer has no {name}, by which captions begin and end.")
        if self.stop is not None and len(self._ids([self.stop])[0]) != 1:
            raise E2FashionError(f"stop is '{self.stop}', which is not one token; give a mark such as '.', or null.")

    @property
    def start(self) -> int:
        """The token before a caption."""
        return int(self.tokenizer.bos_token_id)

    @property
    def end(self) -> int:
        """The token behind a caption."""
        return int(self.tokenizer.eos_token_id)

    @property
    def ends(self) -> list[int]:
        """All tokens behind which nothing more is told."""
        return [self.end] + ([] if self.stop is None else self._ids([self.stop])[0])

    def captions(self, texts: Sequence[str]) -> list[list[int]]:
        """Every text as start, its tokens, end; cut so that ``length`` tokens stand behind the start."""
        return [[self.start, *ids[: self.length - 1], self.end] for ids in self._ids(texts)]

    def count_cut(self, texts: Sequence[str]) -> int:
        """How many texts are longer than ``length``."""
        return sum(len(ids) > self.length - 1 for ids in self._ids(texts))

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Every prompt's tokens, cut at ``prompt_length``; an empty one has none."""
        return [ids[: self.prompt_length] for ids in self._ids(texts)]

    def texts(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Generated tokens as captions, special ones left out."""
        decoded = self.tokenizer.batch_decode([list(row) for row in rows], skip_special_tokens=True)
        return [self.spelling.restore(" ".join(text.split())) for text in decoded]

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        listed = list(texts)
        if not listed:
            return []
        found: list[list[int]] = self.tokenizer(listed, add_special_tokens=False, verbose=False)["input_ids"]
        return found

    def batch(self, embeds: Tensor, captions: Sequence[list[int]], prompts: Sequence[list[int]]) -> CaptionBatch:
        """A training batch of ``embeds`` (B, C) with what :meth:`captions` and :meth:`prompts` made."""
        rows = [[*prompt, *caption] for prompt, caption in zip(prompts, captions, strict=True)]
        before = torch.tensor([len(prompt) + 1 for prompt in prompts])
        lengths = torch.tensor([len(row) for row in rows])
        places = torch.arange(int(lengths.max()))
        # Filled with the end token and told apart by mask: every id may be a real token.
        ids = torch.full((len(rows), len(places)), self.end)
        for row, values in enumerate(rows):
            ids[row, : len(values)] = torch.tensor(values)
        present = places < lengths[:, None]
        return CaptionBatch(embeds, ids, present, present & (places >= before[:, None]))


def in_batches(number: int, size: int) -> Iterator[slice]:
    """Slices of at most ``size`` that cover ``number`` items."""
    return (slice(start, start + size) for start in range(0, number, size))
