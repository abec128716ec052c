"""Resized pictures in memory, shared by the loader's processes."""

from __future__ import annotations

import mmap
from typing import Any

import torch
from torch import Tensor


class ImageCache:
    """uint8 pictures (3, S, S) by row, as many as fit; whichever process makes one first makes it for all.

    The memory is an anonymous shared mapping: it is taken up as pictures arrive, forked workers write into the same
    pages, and the size limit of ``/dev/shm`` does not apply. Processes that are spawned instead of forked get an
    empty cache of no capacity.

    Args:
        rows: number of pictures there are.
        size: S.
        max_bytes: upper bound of the memory.
    """

    def __init__(self, rows: int, size: int, max_bytes: int) -> None:
        bytes_each = 3 * size * size
        self.size = size
        self.capacity = min(rows, max_bytes // bytes_each)
        if self.capacity > 0:
            self._pictures = _shared_bytes(self.capacity * bytes_each).view(self.capacity, 3, size, size)
            self._filled = _shared_bytes(self.capacity)

    @property
    def bytes(self) -> int:
        """Memory that the full cache takes up."""
        return self.capacity * 3 * self.size * self.size

    def get(self, row: int) -> Tensor | None:
        """The picture (3, S, S) of a row, a view that must not be written to, or None."""
        return self._pictures[row] if row < self.capacity and self._filled[row] else None

    def put(self, row: int, picture: Tensor) -> None:
        """Keep a picture (3, S, S) if there is room for its row."""
        if row < self.capacity:
            self._pictures[row] = picture
            # The flag comes last: a process that sees it sees the whole picture.
            self._filled[row] = 1

    def __len__(self) -> int:
        return int(self._filled.sum()) if self.capacity else 0

    def __getstate__(self) -> dict[str, Any]:
        return {"size": self.size, "capacity": 0}


def _shared_bytes(count: int) -> Tensor:
    return torch.frombuffer(mmap.mmap(-1, count), dtype=torch.uint8)
