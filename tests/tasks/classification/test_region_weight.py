"""The region's share next to the whole image: what is chosen, and among equals."""

import pytest
import torch
from torch import Tensor

from e2fashion.tasks.classification.classifier import LabelEmbeds
from e2fashion.tasks.classification.classify import REGION_WEIGHTS, choose_region_weight
from e2fashion.tasks.classification.tables import named_features
from e2fashion.types import ResultRecord

LABELS = torch.tensor([0, 1, 0, 1])
RIGHT = torch.eye(2)[LABELS]
WRONG = 1 - RIGHT
NAMES = LabelEmbeds(torch.eye(2), torch.eye(2))


@pytest.mark.parametrize(
    ("images", "regions", "expected"),
    [
        (RIGHT, RIGHT, 0.5),  # all shares are equal
        (WRONG, RIGHT, 0.6),  # the first at which regions decide
        (RIGHT, WRONG, 0.4),
        (RIGHT, 0.1 * WRONG, 0.5),  # cosines of different sizes
        (0.1 * WRONG, RIGHT, 0.5),
        (10 * WRONG, RIGHT, 1.0),
    ],
)
def test_most_labels_are_right(images: Tensor, regions: Tensor, expected: float) -> None:
    assert choose_region_weight(NAMES, images, regions, LABELS) == expected
    assert expected in REGION_WEIGHTS


def test_a_true_value_that_is_not_among_the_labels_counts_for_no_share() -> None:
    assert choose_region_weight(NAMES, RIGHT, WRONG, torch.full((4,), -1)) == 0.5


def test_tables_name_the_shares_of_all_seeds() -> None:
    def record(seed: int, **extra: object) -> ResultRecord:
        return ResultRecord("run", "m", "zero_shot", "accuracy", 1.0, seed=seed, extra={"features": "both", **extra})

    seeds = [record(0, region_weight=0.6), record(1, region_weight=0.4), record(2, region_weight=0.6)]
    assert named_features(seeds) == "both (region 0.4, 0.6)"
    assert named_features([record(0)]) == "both"  # of a version that took the plain mean
