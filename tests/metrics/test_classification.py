"""Accuracy and F1 on labels counted by hand, against torchmetrics, and their intervals."""

import pytest
import torch
from torchmetrics.functional.classification import multiclass_f1_score

from e2fashion.metrics.classification import accuracy, class_f1, summarize_classes

TRUTH = torch.tensor([0, 0, 0, 0, 1, 1, 2])
PREDICTED = torch.tensor([0, 0, 0, 1, 1, 2, 1])


def test_by_hand() -> None:
    # Class 0: 3 right, 4 true, 3 predicted; class 1: 1 right, 2 true, 3 predicted; class 2: none right.
    expected = torch.tensor([100 * 6 / 7, 100 * 2 / 5, 0.0], dtype=torch.float64)
    assert accuracy(TRUTH, PREDICTED).item() == pytest.approx(400 / 7)
    torch.testing.assert_close(class_f1(TRUTH, PREDICTED, 3), expected)
    result = summarize_classes(TRUTH, PREDICTED, 3)
    assert result["macro_f1"].value == pytest.approx(expected.mean().item())
    assert result["weighted_f1"].value == pytest.approx((4 * 600 / 7 + 2 * 40) / 7)


def test_a_class_that_nobody_has_or_predicts_leaves_the_mean() -> None:
    assert class_f1(TRUTH, PREDICTED, 5)[3:].isnan().all()
    assert summarize_classes(TRUTH, PREDICTED, 5) == summarize_classes(TRUTH, PREDICTED, 3)


@pytest.mark.parametrize("average", ["macro", "weighted"])
def test_against_torchmetrics(average: str) -> None:
    generator = torch.Generator().manual_seed(0)
    truth, predicted = torch.randint(6, (2, 300), generator=generator)
    expected = multiclass_f1_score(predicted, truth, num_classes=6, average=average)  # type: ignore[arg-type]
    result = summarize_classes(truth, predicted, 6)[f"{average}_f1"].value
    assert result == pytest.approx(100 * expected.item(), abs=1e-4)


def test_the_summary_holds_what_the_functions_say() -> None:
    result = summarize_classes(TRUTH, PREDICTED, 4)
    assert result["accuracy"].value == pytest.approx(accuracy(TRUTH, PREDICTED).item())
    assert result["macro_f1"].value == pytest.approx(class_f1(TRUTH, PREDICTED, 4).nanmean().item())
    assert result["accuracy"].low is None


def test_intervals_enclose_the_value_and_repeat() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(4, (200,), generator=generator)
    predicted = torch.where(torch.rand(200, generator=generator) < 0.7, truth, (truth + 1) % 4)
    result = summarize_classes(truth, predicted, 4, resamples=400)
    assert result == summarize_classes(truth, predicted, 4, resamples=400)
    for estimate in result.values():
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low < estimate.value < estimate.high
    accuracy_of = result["accuracy"]
    # The normal approximation of a share among 200.
    expected = 1.96 * (accuracy_of.value * (100 - accuracy_of.value) / 200) ** 0.5
    assert (accuracy_of.high - accuracy_of.low) / 2 == pytest.approx(expected, rel=0.15)  # type: ignore[operator]
