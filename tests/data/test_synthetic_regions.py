"""Rectangles and erosion against their slow and obvious forms."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from e2fashion.data.synthfashion.drawing import eroded, largest_rectangle, rectangles

grids = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=7))


@settings(max_examples=150, deadline=None)
@given(grids)
def test_largest_rectangle_is_the_largest_of_all(grid: np.ndarray) -> None:
    height, width = grid.shape
    areas = [
        (bottom - top) * (right - left)
        for top in range(height)
        for bottom in range(top + 1, height + 1)
        for left in range(width)
        for right in range(left + 1, width + 1)
        if grid[top:bottom, left:right].all()
    ]
    result = largest_rectangle(grid)
    if result is None:
        assert not areas
    else:
        left, top, right, bottom = result
        assert grid[top:bottom, left:right].all()
        assert (right - left) * (bottom - top) == max(areas)


@settings(max_examples=100, deadline=None)
@given(grids, st.integers(1, 3))
def test_erosion_keeps_what_is_surrounded(mask: np.ndarray, reach: int) -> None:
    padded = np.pad(mask, reach)
    expected = [
        [padded[row : row + 2 * reach + 1, column : column + 2 * reach + 1].all() for column in range(mask.shape[1])]
        for row in range(mask.shape[0])
    ]
    assert (eroded(mask, reach) == np.array(expected)).all()


def test_rectangles_are_disjoint_and_not_small() -> None:
    grid = np.zeros((8, 8), dtype=bool)
    grid[:4, :5] = grid[5:, 2:6] = True
    grid[7, 7] = True
    assert rectangles(grid, most=3, smallest=4) == [(0, 0, 5, 4), (2, 5, 6, 8)]
