"""Bootstrap over products: resampling weights, intervals, and paired differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

RESAMPLES = 1000
LEVEL = 0.95
BLOCK = 50


class Estimate(NamedTuple):
    """A value and, where it was resampled, the bounds of its 95 % interval."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Difference:
    """Mean of a minus mean of b with its interval; ``p_value`` is two-sided, against no difference."""

    value: float
    low: float
    high: float
    p_value: float


def resample_weights(units: int, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[Tensor]:
    """How often each of ``units`` is drawn, with replacement, in blocks (<= 50, units) fp32 of ``resamples`` rows.

    Equal seeds give equal draws, so that models are compared on the same resamples.
    """
    generator = torch.Generator().manual_seed(seed)
    for first in range(0, resamples, BLOCK):
        rows = min(BLOCK, resamples - first)
        drawn = torch.randint(units, (rows, units), generator=generator)
        drawn += units * torch.arange(rows)[:, None]
        yield torch.bincount(drawn.flatten(), minlength=rows * units).reshape(rows, units).float()


def bootstrap(statistic: Callable[[Tensor], Tensor], units: int, resamples: int = RESAMPLES, seed: int = 0) -> Tensor:
    """``statistic`` maps weights (R, units) to values (R, M); returns (resamples, M) in the order of draws."""
    return torch.cat([statistic(weights) for weights in resample_weights(units, resamples, seed)])


def interval(values: Tensor) -> tuple[Tensor, Tensor]:
    """The percentile interval of resampled ``values`` (resamples, M): lower and upper bound (M,)."""
    tail = (1 - LEVEL) / 2
    bounds = values.double().quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0)
    return bounds[0], bounds[1]


def estimates(values: Mapping[str, float], drawn: Tensor) -> dict[str, Estimate]:
    """M ``values`` by name with the intervals of their resampled values ``drawn`` (resamples, M), in the same order."""
    low, high = (bound.tolist() for bound in interval(drawn))
    return {name: Estimate(*item) for name, *item in zip(values, values.values(), low, high, strict=True)}


def weighted_means(values: Tensor, unit: Tensor, units: int) -> Callable[[Tensor], Tensor]:
    """Means of ``values`` (Q, M), whose row q belongs to unit ``unit[q]``, as a function of the units' weights.

    The rows of a unit are drawn together: views of one product are not independent queries.
    """
    sums = torch.zeros(units, values.shape[1], dtype=torch.float64).index_add_(0, unit, values.double())
    number = torch.bincount(unit, minlength=units).double()

    def means(weights: Tensor) -> Tensor:
        weights = weights.double()
        return (weights @ sums) / (weights @ number).clamp(min=1)[:, None]

    return means


def units_of(unit: Tensor | None, rows: int) -> tuple[Tensor, int]:
    """The units of ``rows`` numbered from 0 without gaps, and how many there are; None: each row is one."""
    numbers = torch.arange(rows) if unit is None else unit.unique(return_inverse=True)[1]
    return numbers, int(numbers.max()) + 1


def mean_estimate(values: Tensor, unit: Tensor | None = None) -> Estimate:
    """The mean of ``values`` (Q,) with the interval of a bootstrap over units (Q,); None: each value is one."""
    unit, units = units_of(unit, len(values))
    drawn = bootstrap(weighted_means(values[:, None], unit, units), units)
    return estimates({"mean": float(values.mean())}, drawn)["mean"]


def paired_bootstrap(
    a: Tensor, b: Tensor, unit: Tensor | None = None, resamples: int = 10_000, seed: int = 0
) -> Difference:
    """Paired comparison of a and b on the same queries; ``a`` and ``b`` (Q,) are scores per query, such as hits.

    ``unit`` (Q,) is the product of each query (default: all distinct). The p-value is twice the smaller share of
    resampled differences on either side of zero, at least ``1 / resamples``.
    """
    if a.shape != b.shape or a.dim() != 1 or not len(a):
        raise ValueError(f"scores of shapes {tuple(a.shape)} and {tuple(b.shape)} are not paired")
    unit, units = units_of(unit, len(a))
    difference = (a.double() - b.double())[:, None]
    drawn = bootstrap(weighted_means(difference, unit, units), units, resamples, seed)
    low, high = interval(drawn)
    one_side = min(float((drawn <= 0).double().mean()), float((drawn >= 0).double().mean()))
    return Difference(float(difference.mean()), float(low), float(high), min(1.0, max(2 * one_side, 1 / resamples)))
