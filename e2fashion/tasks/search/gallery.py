"""Rows of embeddings wherever they lie: in one tensor, or in the memory-mapped shards of an index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Gallery(Protocol):
    """Rows of L2-normalised embeddings (N, C), wherever they lie."""

    def __len__(self) -> int: ...

    def chunk(self, start: int, stop: int) -> Tensor:
        """The rows from ``start`` to ``stop``: (rows, C) fp32."""
        ...

    def rows(self, places: Tensor) -> Tensor:
        """The rows at ``places`` (n,) int64: (n, C) fp32."""
        ...


class ShardGallery:
    """Rows of several fp16 matrices (n_i, C), all of them or chosen ones, as fp32: a :class:`Gallery`.

    Args:
        shards: one matrix or more.
        chosen: rows (N,) int64, counted through all shards; None: all rows.
    """

    def __init__(self, shards: Sequence[Tensor], chosen: Tensor | None = None) -> None:
        self._shards = list(shards)
        self._ends = torch.tensor([len(shard) for shard in shards]).cumsum(0)
        self._chosen = chosen

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._chosen is None else len(self._chosen)

    def stored_rows(self, places: Tensor) -> Tensor:
        """The rows, counted through all shards, of places (n,) in this gallery."""
        return places if self._chosen is None else self._chosen[places]

    def select(self, places: Tensor) -> ShardGallery:
        """A gallery of these places (n,) alone."""
        return ShardGallery(self._shards, self.stored_rows(places))

    def chunk(self, start: int, stop: int) -> Tensor:
        """Rows from ``start`` to ``stop``: (rows, C) fp32."""
        if self._chosen is not None:
            return self.rows(torch.arange(start, stop))
        parts = []
        first = 0
        for shard in self._shards:
            low, high = max(start - first, 0), min(stop - first, len(shard))
            if low < high:
                parts.append(shard[low:high].float())
            first += len(shard)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def rows(self, places: Tensor) -> Tensor:
        """Rows at ``places`` (n,): (n, C) fp32."""
        stored = self.stored_rows(places).contiguous()
        number = torch.searchsorted(self._ends, stored, right=True)
        found = torch.empty(len(places), self._shards[0].shape[1])
        for shard in number.unique().tolist():
            own = number == shard
            before = int(self._ends[shard]) - len(self._shards[shard])
            found[own] = self._shards[shard][stored[own] - before].float()
        return found
