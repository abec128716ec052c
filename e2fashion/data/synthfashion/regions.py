"""Where fabric is seen and nothing else: large upright rectangles inside a mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rectangle = tuple[int, int, int, int]
"""Cells (left, top, right, bottom) of a grid, the last two exclusive."""


def eroded(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Pixels of ``mask`` (H, W) whose square of ``2 * reach + 1`` pixels lies in it wholly; (H, W)."""
    side = 2 * reach + 1
    total = np.zeros((mask.shape[0] + side, mask.shape[1] + side), dtype=np.int32)
    total[reach + 1 : reach + 1 + mask.shape[0], reach + 1 : reach + 1 + mask.shape[1]] = mask
    total = total.cumsum(axis=0).cumsum(axis=1)
    window = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    return np.asarray(window == side * side)


def largest_rectangle(grid: NDArray[np.bool_]) -> Rectangle | None:
    """The largest rectangle of true cells in a grid (H, W); None if no cell is true.

    ``tall[row, column]`` is the height of the column of true cells that ends there; its minimum over ``wide``
    neighbours is the height of the best rectangle of that width, and is widened cell by cell.
    """
    rows = np.arange(grid.shape[0], dtype=np.int32)[:, None]
    tall = rows - np.maximum.accumulate(np.where(grid, np.int32(-1), rows), axis=0)
    lowest = tall
    best, found = 0, None
    for wide in range(1, grid.shape[1] + 1):
        if wide > 1:
            lowest = np.minimum(lowest[:, :-1], tall[:, wide - 1 :])
        place = int(lowest.argmax())
        row, column = divmod(place, lowest.shape[1])
        height = int(lowest[row, column])
        if height == 0:
            break
        if height * wide > best:
            best, found = height * wide, (column, row + 1 - height, column + wide, row + 1)
    return found


def rectangles(grid: NDArray[np.bool_], most: int, smallest: int) -> list[Rectangle]:
    """Up to ``most`` disjoint rectangles, the largest first; only the first may have under ``smallest`` cells."""
    grid = grid.copy()
    found: list[Rectangle] = []
    while len(found) < most:
        rectangle = largest_rectangle(grid)
        if rectangle is None:
            break
        left, top, right, bottom = rectangle
        if found and (right - left) * (bottom - top) < smallest:
            break
        found.append(rectangle)
        grid[top:bottom, left:right] = False
    return found
