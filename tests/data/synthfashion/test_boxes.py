"""Rectangles and erosion against their slow and obvious forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from e2fashion.data.synthfashion.drawing import eroded, largest_rectangle, rectangles
from e2fashion.data.synthfashion.garments import build_garment, build_trim
from e2fashion.data.synthfashion.products import Product, build_product
from e2fashion.data.synthfashion.render import Placement, Rendering, View, build_view, layout_of, paint, photograph
from e2fashion.types import Box

grids = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=7))


@settings(max_examples=150)
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


@settings(max_examples=100)
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


SIZE = 96
SHOTS = [(index, view) for index in range(12) for view in range(3)]


def shoot(index: int, view: int, *omit: str) -> tuple[Product, View, Rendering]:
    product, angle = build_product(index, 3, 0.0), build_view(index, view, 3)
    painted = paint(product.attributes, 2 * SIZE, omit)
    return product, angle, photograph(painted, product.attributes, angle, SIZE, omit)


def changed(index: int, view: int, *omit: str) -> np.ndarray:
    """Pixels (SIZE, SIZE) bool that differ when ``omit`` is left out."""
    pictures = [shoot(index, view, *left_out)[2].image for left_out in ((), omit)]
    first, second = (np.asarray(picture, dtype=np.int16) for picture in pictures)
    return np.abs(first - second).max(axis=-1) > 0


def pixels(box: Box) -> tuple[slice, slice]:
    left, top, right, bottom = (round(edge * SIZE) for edge in (box.left, box.top, box.right, box.bottom))
    return slice(top, bottom), slice(left, right)


def test_the_shots_hold_mirrored_turned_and_creased_views() -> None:
    views = [build_view(index, view, 3) for index, view in SHOTS]
    assert any(view.mirror for view in views)
    assert any(view.crease for view in views)
    assert max(abs(view.turn) for view in views) > 6


@pytest.mark.parametrize("column", ["brand", "season", "sub_category"])
def test_an_element_changes_nothing_outside_its_boxes(column: str) -> None:
    for index, view in SHOTS:
        difference = changed(index, view, column)
        for box in shoot(index, view)[2].regions[column]:
            difference[pixels(box)] = False
        assert not difference.any(), (index, view)


@pytest.mark.parametrize(("column", "slack"), [("brand", 2), ("season", 2), ("sub_category", 2)])
def test_boxes_are_tight(column: str, slack: int) -> None:
    for index, view in SHOTS:
        difference = changed(index, view, column)
        for box in shoot(index, view)[2].regions[column]:
            inside = difference[pixels(box)]
            rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
            height, width = inside.shape
            gaps = (rows[0], height - 1 - rows[-1], columns[0], width - 1 - columns[-1])
            assert max(gaps) <= slack, (index, view, gaps)


def test_composition_boxes_show_fabric_alone() -> None:
    for index, view in SHOTS:
        product, angle, picture = shoot(index, view)
        attributes = product.attributes
        garment = build_garment(attributes.sub_category, attributes.details, 2 * SIZE)
        trim = build_trim(attributes.season, attributes.sub_category, attributes.details, 2 * SIZE)
        fabric = Image.fromarray(garment.fabric & (np.asarray(trim.mask) == 0))
        placement = Placement.of(angle, layout_of(attributes, 2 * SIZE).middle, 2 * SIZE)
        seen = np.asarray(fabric.transform(fabric.size, Image.Transform.AFFINE, placement.inverse()))
        logo = changed(index, view, "brand")
        for box in picture.regions["composition"]:
            down, across = pixels(box)
            wide = np.s_[2 * down.start : 2 * down.stop, 2 * across.start : 2 * across.stop]
            assert seen[wide].all(), (index, view)
            assert not logo[down, across].any(), (index, view)


def test_composition_boxes_cover_a_share_of_the_picture() -> None:
    areas = [sum(box.area for box in shoot(*shot)[2].regions["composition"]) for shot in SHOTS]
    assert min(areas) > 0.01
    assert np.mean(areas) > 0.06


def test_every_shot_has_every_region() -> None:
    for shot in SHOTS:
        assert set(shoot(*shot)[2].regions) == {"brand", "season", "sub_category", "composition"}


def test_a_logo_covers_at_most_two_patches() -> None:
    for index in range(60):
        product = build_product(index, 0, 0.0)
        painted = Image.new("RGBA", (256, 256))
        for view in range(2):
            boxes = photograph(painted, product.attributes, build_view(index, view, 0), 128).regions["brand"]
            assert sum(box.area for box in boxes) <= 2 * (16 / 128) ** 2
