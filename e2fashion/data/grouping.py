"""Batches of products that share a tag (a control): their texts differ in everything but this tag."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import chain
from typing import Any

from e2fashion.data.loader import EpochSampler, permutation


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


def _cut(items: list[int], size: int) -> list[list[int]]:
    """Consecutive parts of ``size`` items, the last one with what is left."""
    return [items[start : start + size] for start in range(0, len(items), size)]
