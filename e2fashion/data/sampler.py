"""The order of products in every epoch: seeded, resumable, shared out among ranks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from e2fashion.types import E2FashionError


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
    ) -> None:
        if length < 1:
            raise E2FashionError("There is nothing to load: the split holds no product. Prepare another catalogue.")
        if batch_size < 1:
            raise E2FashionError(f"loader.batch_size is {batch_size}; give a number above 0.")
        if not 0 <= rank < world_size:
            raise E2FashionError(f"rank is {rank}; give a number from 0 to world_size - 1 = {world_size - 1}.")
        self.length = length
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
        if not self.shuffle:
            return list(range(self.length))
        digest = hashlib.blake2b(f"order/{self.seed}/{epoch}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
        return torch.randperm(self.length, generator=generator).tolist()


def _share(members: list[int], rank: int, world_size: int) -> list[int]:
    """A rank's contiguous part; where the division leaves a rest, the first ranks take one more each."""
    each, rest = divmod(len(members), world_size)
    start = rank * each + min(rank, rest)
    return members[start : start + each + (1 if rank < rest else 0)]
