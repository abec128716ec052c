"""Captions and prompts as token ids, padded by mask, and token ids as captions again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import pairwise
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from e2fashion.data.loader import EpochSampler, ResumableLoader, batches_done
from e2fashion.tasks.captioning.memory import SupportMemory
from e2fashion.types import E2FashionError

PIECE = re.compile(r"\w+|[^\w\s]")
BEFORE, AFTER = "before ", "behind "
"""Prefixes of a rule for one mark and any neighbor; a piece has no space, so that no pair looks like them."""


@dataclass(frozen=True)
class Spelling:
    """Spaces around marks, which CLIP's tokenizer drops: "t - shirt" is written "t-shirt".

    ``joined`` says of two neighbors ("t -", in lower case, one of them a mark) whether there is no space between them;
    "before -" and "behind -" say so for neighbors that were never seen with the mark. Learned from the training
    captions (ours); {} leaves texts as they are.
    """

    joined: Mapping[str, bool]

    @classmethod
    def of(cls, captions: Iterable[str]) -> Spelling:
        """The majority in ``captions``."""
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
        """``text`` with the spaces around its marks as in training; other spaces stay."""
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
    """The rules that apply to a pair, the most specific first; none for two words."""
    marks = [f"{AFTER}{left}"] if _is_mark(left) else []
    marks += [f"{BEFORE}{right}"] if _is_mark(right) else []
    return [f"{left} {right}", *marks] if marks else []


def _is_mark(piece: str) -> bool:
    return not (piece[0].isalnum() or piece[0] == "_")


NO_SPELLING = Spelling({})


@dataclass
class CaptionBatch:
    """What a decoder is trained on in one step.

    ``embeds`` (B, C) L2-normalized; ``input_ids`` (B, L): prompt, start, caption, end, padding; ``attention_mask``
    (B, L) bool, False on padding; ``targets`` (B, L) bool, True on tokens that are predicted: the caption and its end.
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
    ``stop`` is a text of one token after which a caption ends too (CapDec: a full stop); None: only its end token.
    ``spelling`` restores the spaces that a tokenizer drops.
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
        """The token after a caption."""
        return int(self.tokenizer.eos_token_id)

    @property
    def ends(self) -> list[int]:
        """All tokens that end a caption."""
        return [self.end] + ([] if self.stop is None else self._ids([self.stop])[0])

    def captions(self, texts: Sequence[str]) -> list[list[int]]:
        """Every text as start, its tokens, end; cut to ``length`` tokens after the start."""
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
        ids: list[list[int]] = self.tokenizer(listed, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def batch(self, embeds: Tensor, captions: Sequence[list[int]], prompts: Sequence[list[int]]) -> CaptionBatch:
        """A training batch of ``embeds`` (B, C) with results of :meth:`captions` and :meth:`prompts`."""
        rows = [[*prompt, *caption] for prompt, caption in zip(prompts, captions, strict=True)]
        before = torch.tensor([len(prompt) + 1 for prompt in prompts])
        lengths = torch.tensor([len(row) for row in rows])
        positions = torch.arange(int(lengths.max()))
        # The mask marks padding, not its id: every id may be a real token.
        ids = torch.full((len(rows), len(positions)), self.end)
        for row, values in enumerate(rows):
            ids[row, : len(values)] = torch.tensor(values)
        present = positions < lengths[:, None]
        return CaptionBatch(embeds, ids, present, present & (positions >= before[:, None]))


@dataclass(frozen=True)
class TrainingExample:
    """A row of the memory, and the prompt before its caption; empty: none."""

    row: int
    prompt: str = ""


class TrainingExamples(Dataset[int]):
    """Examples by number, and batches of them: a memory's embeddings with its captions, tokenized once."""

    def __init__(self, memory: SupportMemory, examples: Sequence[TrainingExample], tokens: CaptionTokens) -> None:
        if not examples:
            raise E2FashionError("There are no captions to train on: every product's is empty.")
        self.memory = memory
        self.tokens = tokens
        self.rows = [example.row for example in examples]
        self._captions = tokens.captions(memory.captions)
        prompts = list(dict.fromkeys(example.prompt for example in examples))
        ids = dict(zip(prompts, tokens.prompts(prompts), strict=True))
        self._prompts = [ids[example.prompt] for example in examples]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: tuple[int, int]) -> int:
        """The number, of a number and an epoch."""
        return item[0]

    def batch(self, numbers: Sequence[int]) -> CaptionBatch:
        """The examples of these numbers."""
        rows = [self.rows[number] for number in numbers]
        captions = [self._captions[row] for row in rows]
        return self.tokens.batch(self.memory.embeds[rows], captions, [self._prompts[number] for number in numbers])

    def mean_embed(self) -> Tensor:
        """The mean of the examples' embeddings, each as often as it occurs: (C,)."""
        embeds = self.memory.embeds
        counts = torch.bincount(torch.tensor(self.rows), minlength=len(embeds)).to(embeds.dtype)
        return counts @ embeds / counts.sum()


class CaptionData(pl.LightningDataModule):
    """Loaders over texts that are embedded already; the order of an epoch comes from (seed, epoch)."""

    def __init__(self, train: TrainingExamples, val: TrainingExamples, batch_size: int, seed: int) -> None:
        super().__init__()
        self.train, self.val = train, val
        self.batch_size, self.seed = batch_size, seed

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled; a last smaller batch is dropped."""
        return self._loader(self.train, shuffle=True)

    def val_dataloader(self) -> ResumableLoader:
        """In order."""
        return self._loader(self.val, shuffle=False)

    def _loader(self, examples: TrainingExamples, shuffle: bool) -> ResumableLoader:
        sampler = EpochSampler(len(examples), self.batch_size, seed=self.seed, shuffle=shuffle, drop_last=shuffle)
        done = partial(batches_done, self) if shuffle else None
        items: Any = examples  # of another type than the loader's, as its batches are
        return ResumableLoader(items, sampler, items.batch, batches_done=done)
