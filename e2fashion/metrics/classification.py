"""Classification metrics from labels: accuracy and F1 (by class, macro, weighted), with bootstrap intervals."""

from __future__ import annotations

import torch
from torch import Tensor

from e2fashion.metrics.bootstrap import Estimate, bootstrap, estimates

METRICS = ("accuracy", "macro_f1", "weighted_f1")


def accuracy(truth: Tensor, predicted: Tensor) -> Tensor:
    """Share of the predictions (N,) that equal the true label (N,), in percent: ()."""
    return 100 * (truth == predicted).double().mean()


def class_f1(truth: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """F1 of every class in percent (classes,) from int64 labels (N,); NaN for classes that do not occur."""
    return _f1(*_counts(truth, predicted, classes, torch.ones(1, len(truth))))[0]


def summarize_classes(
    truth: Tensor, predicted: Tensor, classes: int, resamples: int = 0, seed: int = 0
) -> dict[str, Estimate]:
    """:data:`METRICS` in percent of int64 labels (N,) below ``classes``.

    With ``resamples`` > 0 each has the 95 % percentile interval of a seeded bootstrap over the N examples; classes
    missing from a resample are left out of its mean.
    """
    truth, predicted = truth.cpu(), predicted.cpu()

    def statistic(weights: Tensor) -> Tensor:
        true_positives, support, chosen = _counts(truth, predicted, classes, weights)
        f1 = _f1(true_positives, support, chosen)
        hit = 100 * true_positives.sum(1) / support.sum(1)
        return torch.stack([hit, f1.nanmean(1), (f1.nan_to_num() * support).sum(1) / support.sum(1)], dim=1)

    values = dict(zip(METRICS, statistic(torch.ones(1, len(truth)))[0].tolist(), strict=True))
    if not resamples:
        return {name: Estimate(value) for name, value in values.items()}
    return estimates(values, bootstrap(statistic, len(truth), resamples, seed))


def _counts(truth: Tensor, predicted: Tensor, classes: int, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """True positives, true and predicted examples by class, (R, classes) fp64 each, under weights (R, N)."""
    weights = weights.double()
    empty = torch.zeros(len(weights), classes, dtype=torch.float64)
    true_positives = empty.index_add(1, truth, weights * (truth == predicted))
    return true_positives, empty.index_add(1, truth, weights), empty.index_add(1, predicted, weights)


def _f1(true_positives: Tensor, support: Tensor, chosen: Tensor) -> Tensor:
    """F1 from counts (R, classes) in percent; NaN for classes that do not occur."""
    return 200 * true_positives / (support + chosen)
