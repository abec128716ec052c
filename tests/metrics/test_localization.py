"""Localisation by hand: coverage of overlapping boxes, ties, chance that is exact, and the two ends 0 and 1."""

from itertools import combinations, pairwise

import pytest
import torch

from e2fashion.metrics.localization import (
    best_iou,
    best_on_region,
    chance_iou,
    chance_share,
    patch_coverage,
    patches_on_region,
    share_on_region,
)
from e2fashion.types import Box

SIDE = 4
PATCHES = SIDE * SIDE


def lift(values: torch.Tensor, chances: torch.Tensor) -> torch.Tensor:
    return values.double().mean() / chances.double().mean()


def on(*patches: int, total: int = PATCHES) -> torch.Tensor:
    mask = torch.zeros(1, total, dtype=torch.bool)
    mask[0, list(patches)] = True
    return mask


def random_regions(products: int, seed: int = 0) -> torch.Tensor:
    corners = torch.rand(products, 2, generator=torch.Generator().manual_seed(seed)) * 0.7
    boxes = [Box(float(x), float(y), float(x) + 0.3, float(y) + 0.2) for x, y in corners]
    return patches_on_region(torch.stack([patch_coverage([box], SIDE) for box in boxes]))


def test_coverage_of_one_box() -> None:
    covered = patch_coverage([Box(0.25, 0.0, 0.625, 0.125)], SIDE)
    assert covered.nonzero().flatten().tolist() == [1, 2]
    assert covered[1:3].tolist() == pytest.approx([0.5, 0.25])


def test_what_two_boxes_share_is_counted_once() -> None:
    first, second = Box(0.0, 0.0, 0.6, 0.5), Box(0.3, 0.2, 0.9, 0.8)
    union = first.area + second.area - 0.3 * 0.3
    assert float(patch_coverage([first, second], SIDE).mean()) == pytest.approx(union)
    assert patch_coverage([first, second], SIDE).allclose(patch_coverage([second, first, first], SIDE))


def test_coverage_equals_a_count_of_points() -> None:
    boxes = [Box(0.11, 0.23, 0.57, 0.71), Box(0.4, 0.05, 0.93, 0.39)]
    points = [(index + 0.5) / 120 for index in range(120)]
    slow = torch.zeros(PATCHES)
    for y in points:
        for x in points:
            if any(b.left < x < b.right and b.top < y < b.bottom for b in boxes):
                slow[int(y * SIDE) * SIDE + int(x * SIDE)] += 1
    assert patch_coverage(boxes, SIDE).allclose(slow.double() / 30**2, atol=0.03)


def test_no_box_covers_nothing() -> None:
    assert not patch_coverage([], SIDE).any()
    assert not patches_on_region(torch.zeros(2, PATCHES)).any()


@pytest.mark.parametrize(
    ("coverage", "expected"),
    [
        ([1.0, 0.5, 0.49, 0.0], [True, True, False, False]),  # whole patches: at least half covered
        ([0.2, 0.1, 0.09, 0.0], [True, True, False, False]),  # a logo smaller than a patch
        ([0.1, 0.1, 0.1, 0.1], [True, True, True, True]),
    ],
)
def test_a_patch_is_on_a_region_by_the_best_covered_one(coverage: list[float], expected: list[bool]) -> None:
    assert patches_on_region(torch.tensor([coverage])).tolist() == [expected]


def test_share_of_selected_patches() -> None:
    assert share_on_region(torch.tensor([[5, 0, 5, 9]]), on(5, 9)).tolist() == [0.75]
    assert share_on_region(torch.tensor([[5, -1, 0, -1]]), on(0, 5)).tolist() == [0.5]  # two picks of no patch


def test_the_pointing_game_reads_the_highest_patch() -> None:
    maps = torch.zeros(1, PATCHES)
    maps[0, 7] = 0.4
    assert best_on_region(maps, on(7, 8)).tolist() == [1.0]
    assert best_on_region(maps, on(8)).tolist() == [0.0]
    assert best_on_region(maps, on(7, 8), count=2).item() == pytest.approx((1 + 1 / 15) / 2)


def test_ties_count_as_a_random_order() -> None:
    maps = torch.tensor([[0.4, 0.3, 0.3, 0.0]])
    assert best_on_region(maps, on(1, total=4), count=2).item() == pytest.approx(0.25)
    assert best_iou(maps, on(0, 1, total=4)).item() == pytest.approx((1.0 + 1 / 3) / 2)


def test_iou_by_hand() -> None:
    maps = torch.tensor([[0.4, 0.3, 0.2, 0.1]])
    assert best_iou(maps, on(0, 2, total=4)).item() == pytest.approx(1 / 3)
    assert best_iou(maps, on(2, 3, total=4)).item() == 0.0


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_chance_of_an_iou_is_the_mean_over_all_sets(size: int) -> None:
    region = set(range(size))
    found = [len(region & set(drawn)) for drawn in combinations(range(5), size)]
    mean = sum(hits / (2 * size - hits) for hits in found) / len(found)
    assert chance_iou(on(*region, total=5)).item() == pytest.approx(mean)


def test_a_flat_map_scores_chance() -> None:
    regions, flat = random_regions(20), torch.full((20, PATCHES), 1 / PATCHES)
    assert best_on_region(flat, regions).allclose(chance_share(regions))
    assert best_on_region(flat, regions, count=3).allclose(chance_share(regions))
    assert best_iou(flat, regions).allclose(chance_iou(regions))


def test_a_perfect_selection_scores_one() -> None:
    regions = random_regions(20)
    inside = regions.double().argmax(-1, keepdim=True)
    assert share_on_region(inside, regions).tolist() == [1.0] * 20
    assert best_on_region(regions.double(), regions).tolist() == [1.0] * 20
    assert best_iou(regions.double(), regions).tolist() == pytest.approx([1.0] * 20)


def test_uniformly_random_patches_have_a_lift_of_one() -> None:
    regions = random_regions(2000)
    selected = torch.randint(PATCHES, (2000, 4), generator=torch.Generator().manual_seed(1))
    assert float(lift(share_on_region(selected, regions), chance_share(regions))) == pytest.approx(1.0, abs=0.1)
    maps = torch.rand(2000, PATCHES, generator=torch.Generator().manual_seed(2))
    assert float(lift(best_on_region(maps, regions), chance_share(regions))) == pytest.approx(1.0, abs=0.15)
    assert float(lift(best_iou(maps, regions), chance_iou(regions))) == pytest.approx(1.0, abs=0.1)


def test_the_order_of_products_does_not_matter() -> None:
    regions, order = random_regions(30), torch.randperm(30, generator=torch.Generator().manual_seed(0))
    maps = torch.rand(30, PATCHES, generator=torch.Generator().manual_seed(3))
    for metric in (best_on_region, best_iou):
        assert metric(maps[order], regions[order]).equal(metric(maps, regions)[order])
    shuffled = lift(best_on_region(maps[order], regions[order]), chance_share(regions[order]))
    assert shuffled.item() == pytest.approx(lift(best_on_region(maps, regions), chance_share(regions)).item())


def test_raising_a_patch_on_the_region_never_lowers_a_score() -> None:
    regions = random_regions(30)
    maps = torch.rand(30, PATCHES, generator=torch.Generator().manual_seed(4))
    raised = [maps + step * regions for step in (0.0, 0.3, 0.6, 1.0)]
    for lower, higher in pairwise(raised):
        assert bool((best_on_region(higher, regions, 2) >= best_on_region(lower, regions, 2)).all())
        assert bool((best_iou(higher, regions) >= best_iou(lower, regions)).all())
