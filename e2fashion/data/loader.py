"""Batches of a split: the order of products, items to tensors, and a loader that resumes within an epoch."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import PreTrainedTokenizerBase

from e2fashion.data.dataset import Item
from e2fashion.data.text import ABSENT_ID, Span, TextFitter, TextTemplate, stable_id
from e2fashion.types import Batch, E2FashionError, TextOverflow

if TYPE_CHECKING:
    import pytorch_lightning as pl

#: Texts whose tokens are kept in memory, about 0.5 GB.
MOST_KEPT_TEXTS = 1_000_000


class TagSwap:
    """The text of each product of a batch with one of its tags replaced by another value that the batch has.

    The tag is one that the template states; the description stays as it is. Column and value are drawn from the batch's
    product ids alone, whose order comes from seed and epoch.

    Raises:
        E2FashionError: the template states no tag.
    """

    def __init__(self, template: TextTemplate) -> None:
        if not template.columns:
            raise E2FashionError(
                f"loss.terms.swapped_tags swaps a tag that the text states, but text.template '{template.template}' "
                "states none. Name a tag column, as in text.template='{brand} . {description}', or set "
                "loss.terms.swapped_tags=null."
            )
        self.template = template

    def __call__(self, items: Sequence[Item]) -> list[tuple[str, Span] | None]:
        """The changed texts, with the ranges of their descriptions; None where the batch has no other value."""
        draw = random.Random("/".join(item.product_id for item in items))
        stated = [{c: v for c, v in item.text_tags.items() if v is not None and v.strip()} for item in items]
        values = {
            column: sorted({tags[column] for tags in stated if column in tags}) for column in self.template.columns
        }
        changed: list[tuple[str, Span] | None] = []
        for item, tags in zip(items, stated, strict=True):
            choices = [column for column in tags if len(values[column]) > 1]
            if not choices:
                changed.append(None)
                continue
            column = draw.choice(choices)
            other = draw.choice([value for value in values[column] if value != tags[column]])
            description = "" if item.description is None else item.text[slice(*item.description)]
            changed.append(self.template.render_placed({**tags, column: other}, description))
        return changed


class Collator:
    """Joins items into a :class:`~e2fashion.types.Batch`.

    Texts are brought to ``context_length`` tokens with the end token kept, and padded only to the longest of the batch:
    with causal attention and end-token pooling that changes no embedding. The distinct tags of a batch are tokenized
    raw, without a prompt (official code), and encoded once each, in the order in which they first appear.

    Args:
        tokenizer: one that puts its end token last.
        context_length: the most tokens that the text encoder takes, start and end token included.
        entities: their number E.
        overflow: what becomes of longer texts, see :class:`~e2fashion.data.text.TextFitter`.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        context_length: int,
        entities: int,
        overflow: TextOverflow = "truncate",
    ) -> None:
        fit = TextFitter(tokenizer, context_length, overflow)
        if tokenizer.pad_token_id is None:
            raise E2FashionError("The tokenizer has no pad token. Set tokenizer.pad_token (CLIP: the end token).")
        self.fit = fit
        self.entities = entities
        # int32 arrays: a quarter of a list of integers. Each text is tokenized once in a run, if they are not too many.
        self._token_ids: dict[tuple[str, Span], np.ndarray] = {}

    def __call__(self, items: Sequence[Item], swap: TagSwap | None = None) -> Batch:
        """B items to one batch; shapes as in :class:`~e2fashion.types.Batch`.

        Without any tag U is 0: ``tag_input_ids`` is (0, 1) and ``tag_index`` all zero. ``swap`` gives the texts
        with a swapped tag; None: the batch has none.
        """
        texts = [item.text for item in items]
        input_ids, attention_mask = self.tokenize(texts, [item.description for item in items])
        positions: dict[str, int] = {}
        tag_index = torch.zeros(len(items), self.entities, dtype=torch.long)
        tag_present = torch.zeros(len(items), self.entities, dtype=torch.bool)
        tag_value = torch.full((len(items), self.entities), ABSENT_ID, dtype=torch.long)
        for sample, item in enumerate(items):
            for entity, tag in enumerate(item.tags):
                if tag is not None:
                    tag_index[sample, entity] = positions.setdefault(tag, len(positions))
                    tag_present[sample, entity] = True
                    tag_value[sample, entity] = stable_id(tag)
        tag_input_ids, tag_attention_mask = self.tokenize(list(positions))
        batch = Batch(
            pixel_values=torch.stack([item.image for item in items]),
            input_ids=input_ids,
            attention_mask=attention_mask,
            tag_input_ids=tag_input_ids,
            tag_attention_mask=tag_attention_mask,
            tag_index=tag_index,
            tag_present=tag_present,
            tag_value=tag_value,
            text_group=torch.tensor([stable_id(text) for text in texts], dtype=torch.long),
            product_ids=[item.product_id for item in items],
        )
        if swap is not None:
            swapped = swap(items)
            own = [(item.text, item.description) for item in items]
            read = [own[place] if text is None else text for place, text in enumerate(swapped)]
            batch.swapped_input_ids, batch.swapped_attention_mask = self.tokenize(*zip(*read, strict=True))
            batch.swapped_present = torch.tensor([text is not None for text in swapped])
        return batch

    def tokenize(self, texts: Sequence[str], spans: Sequence[Span] | None = None) -> tuple[Tensor, Tensor]:
        """Token ids and attention mask, both int64 (len(texts), L) with L the longest; (0, 1) for no text.

        ``spans`` are the ranges of the descriptions in their texts (None: each is one).
        """
        wanted = list(zip(texts, spans or [None] * len(texts), strict=True))
        if len(self._token_ids) > MOST_KEPT_TEXTS:
            self._token_ids.clear()
        if unknown := [key for key in dict.fromkeys(wanted) if key not in self._token_ids]:
            fitted = self.fit([text for text, _ in unknown], [span for _, span in unknown])
            for key, text in zip(unknown, fitted, strict=True):
                self._token_ids[key] = np.asarray(text.ids, dtype=np.int32)
        return pad_ids([self._token_ids[key] for key in wanted], self.fit.tokenizer.pad_token_id)


def pad_ids(rows: Sequence[Sequence[int] | np.ndarray], pad_token_id: int) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, both int64 (len(rows), L) with L the longest; (0, 1) for no row."""
    length = max((len(row) for row in rows), default=1)
    ids = np.full((len(rows), length), pad_token_id, dtype=np.int64)
    mask = np.zeros((len(rows), length), dtype=np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
        mask[number, : len(row)] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batches of ``(index, epoch)``; the order of an epoch comes from (seed, epoch) alone.

    A global batch is ``batch_size * world_size`` consecutive indices of the epoch's order, of which every rank takes
    its own slice: two ranks of 32 see together what one of 64 sees. A last, smaller batch is dropped, or kept and
    shared out; in the second case ``even`` repeats first indices of the epoch until all ranks have equally many.

    Args:
        length: number of items.
        batch_size: items per rank and batch.
        seed: of the order.
        shuffle: False keeps the order 0, 1, 2, ... in every epoch.
        rank, world_size: of this process among the processes that train.
        drop_last: leave out the last batch where it is not full. A set smaller than one global batch keeps it.
        even: equal numbers on all ranks, as training needs; evaluation must not count an item twice.
        share: of the items that are used, drawn once by the seed; those of a smaller share are among those of a larger.

    Attributes:
        start_batch: batches of the coming epoch to skip without loading them; reset by ``set_epoch`` to another.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        even: bool = True,
        share: float = 1.0,
    ) -> None:
        if not 0.0 < share <= 1.0:
            raise E2FashionError(f"loader.train_share is {share}; give a number above 0 and up to 1, all products.")
        if length < 1:
            raise E2FashionError("There is nothing to load: the split holds no product. Prepare another catalogue.")
        if batch_size < 1:
            raise E2FashionError(f"loader.batch_size is {batch_size}; give a number above 0.")
        if not 0 <= rank < world_size:
            raise E2FashionError(f"rank is {rank}; give a number from 0 to world_size - 1 = {world_size - 1}.")
        used = max(1, round(share * length))
        self.members = permutation(length, f"share/{seed}")[:used] if used < length else None
        self.length = length = used
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.drop_last = drop_last and length >= batch_size * world_size
        self.even = even
        self.epoch = 0
        self.start_batch = 0

    @property
    def sampler(self) -> EpochSampler:
        """Itself: PyTorch Lightning announces epochs to ``batch_sampler.sampler``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next iteration belongs to."""
        if epoch != self.epoch:
            self.start_batch = 0
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches of a whole epoch, those that ``start_batch`` skips included."""
        full, rest = divmod(self.length, self.batch_size * self.world_size)
        if self.drop_last or rest == 0:
            return full
        return full + (1 if self.even or rest > self.rank else 0)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order, epoch = self.order(self.epoch), self.epoch
        global_size = self.batch_size * self.world_size
        for batch in range(self.start_batch, len(self)):
            members = order[batch * global_size : (batch + 1) * global_size]
            if self.even and (short := -len(members) % self.world_size):
                repeats = -(-short // len(order))
                members = members + (order * repeats)[:short]
            share = _share(members, self.rank, self.world_size)
            yield [(index, epoch) for index in share]

    def order(self, epoch: int) -> list[int]:
        """All indices in the order of an epoch, the same on every rank."""
        order = permutation(self.length, f"order/{self.seed}/{epoch}") if self.shuffle else list(range(self.length))
        return order if self.members is None else [self.members[position] for position in order]


class GroupedSampler(EpochSampler):
    """An :class:`EpochSampler` whose global batches have products of one group each, as far as the groups suffice.

    What a group has beyond whole batches is joined to mixed ones, group by group, so that they have few groups too.
    Every product is in one batch of an epoch; the ones that fill no batch, which ``drop_last`` leaves out, are drawn
    from all groups alike, those of the same epoch without groups. All orders come from (seed, epoch).

    Args:
        groups: the group of each item; None is one as well.
        batch_size: items per rank and batch.
        options: as of :class:`EpochSampler`.
    """

    def __init__(self, groups: Sequence[Hashable], batch_size: int, **options: Any) -> None:
        super().__init__(len(groups), batch_size, **options)
        self.groups = groups

    def order(self, epoch: int) -> list[int]:
        """All indices, batch after batch."""
        size, key, drawn = self.batch_size * self.world_size, f"{self.seed}/{epoch}", super().order(epoch)
        full = len(drawn) - len(drawn) % size
        members: dict[Hashable, list[int]] = {}
        for index in drawn[:full]:
            members.setdefault(self.groups[index], []).append(index)
        parts = [part for group in members.values() for part in _cut(group, size)]
        left = [part for part in parts if len(part) < size]
        mixed = chain.from_iterable(left[place] for place in permutation(len(left), f"groups/{key}"))
        batches = [part for part in parts if len(part) == size] + _cut(list(mixed), size)
        order = permutation(len(batches), f"batches/{key}")
        return [*chain.from_iterable(batches[place] for place in order), *drawn[full:]]


def permutation(length: int, key: str) -> list[int]:
    """The numbers below ``length`` in an order that depends on the ``key`` alone."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
    return torch.randperm(length, generator=generator).tolist()


def _share(members: list[int], rank: int, world_size: int) -> list[int]:
    """A rank's contiguous part; where the division leaves a rest, the first ranks take one more each."""
    each, rest = divmod(len(members), world_size)
    start = rank * each + min(rank, rest)
    return members[start : start + each + (1 if rank < rest else 0)]


def _cut(items: list[int], size: int) -> list[list[int]]:
    """Consecutive parts of ``size`` items, the last one with what is left."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def batches_done(data: pl.LightningDataModule) -> int:
    """Batches of the current epoch that the training loop has finished; not 0 only when it resumes."""
    if data.trainer is None or not data.trainer.training:
        return 0
    return data.trainer.fit_loop.epoch_loop.batch_progress.current.ready


class ResumableLoader(DataLoader[Item]):
    """A ``DataLoader`` that leaves out the batches of an epoch that a training loop has done.

    PyTorch Lightning asks for the iterator before it says which epoch comes and where a resumed one continues; order
    and first batch are therefore fixed only when the first batch is taken. How many batches are done is the loop's to
    say: a count of batches handed out would include one in which the run was interrupted.

    ``state_dict`` is saved in Lightning's checkpoints and holds what the order depends on.

    Args:
        dataset: items by ``(index, epoch)``.
        sampler: which batches there are.
        collate: items to a batch.
        workers: processes that prepare batches; 0 prepares them in this one.
        pin_memory: page-locked batches, for a GPU.
        batches_done: asked when an epoch's first batch is taken; None leaves ``sampler.start_batch`` as it is.
    """

    def __init__(
        self,
        dataset: Dataset[Item],
        sampler: EpochSampler,
        collate: Callable[[Sequence[Item]], Batch],
        workers: int = 0,
        pin_memory: bool = False,
        batches_done: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(
            dataset,
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=workers,
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
        )
        self.epoch_sampler = sampler
        self._batches_done = batches_done

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """The batches of the sampler's epoch that are not done yet."""
        if self._batches_done is not None:
            self.epoch_sampler.start_batch = self._batches_done()
        yield from super().__iter__()

    def state_dict(self) -> dict[str, int]:
        """What the order of products depends on, apart from the epoch."""
        return {key: getattr(self.epoch_sampler, key) for key in ("length", "batch_size", "seed", "world_size")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that a resumed epoch continues in the order in which it began.

        Raises:
            E2FashionError: other data, seed, batch size or number of processes.
        """
        for key, value in self.state_dict().items():
            if state_dict.get(key) != value:
                raise E2FashionError(
                    f"The run cannot be resumed: {key} was {state_dict.get(key)} and is {value}, so that the order of "
                    "products differs. Resume with the former value, or start a new run."
                )
