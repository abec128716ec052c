"""Multinomial logistic regression to convergence: scipy's L-BFGS on an objective that PyTorch computes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from e2fashion.types import E2FashionError

TOLERANCE = 1e-4
"""Of the largest component of the mean objective's gradient: scikit-learn's default for lbfgs."""
FOLLOWS_BELOW = 1e-3
"""Strength below which the tolerance falls in proportion: weights are as uncertain as gradient over strength."""
MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class LogisticFit:
    """Weights (C, classes) and biases (classes,) fp32, and how their search ended.

    ``gradient`` is the largest component of the objective's gradient there; ``converged`` when it is at most the
    tolerance that was asked for.
    """

    weight: Tensor
    bias: Tensor
    strength: float
    iterations: int
    gradient: float
    converged: bool

    def predict(self, features: Tensor) -> Tensor:
        """The class (N,) int64 of standardized features (N, C)."""
        return (features @ self.weight + self.bias).argmax(1)


@dataclass(frozen=True)
class Standardizer:
    """Zero mean and unit deviation by column, as measured on ``train``; a constant column stays zero."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Standardizer:
        """The statistics of features (N, C)."""
        deviation = features.double().std(0, correction=0)
        deviation = torch.where(deviation > 0, deviation, 1.0)
        return cls(features.double().mean(0).float(), deviation.float())

    def __call__(self, features: Tensor) -> Tensor:
        """Features (N, C) on that scale."""
        return (features - self.mean) / self.deviation


def tolerance_at(strength: float, tolerance: float = TOLERANCE) -> float:
    """The largest component of the gradient at which a fit of this strength has converged."""
    return tolerance * min(1.0, strength / FOLLOWS_BELOW)


class LogisticProblem:
    """Mean cross-entropy of features (N, C) and int64 labels (N,) plus ``strength / 2`` times the squared weights.

    The bias is not penalized. L-BFGS searches in coordinates in which the features are uncorrelated: the minimum stays
    the same. On features of a small trained encoder that took a third to a twentieth of the iterations; on synthetic
    ones of a flatter spectrum it gained nothing and once took a third more.

    Raises:
        E2FashionError: fewer than two classes.
    """

    def __init__(self, features: Tensor, labels: Tensor, classes: int) -> None:
        if classes < 2:
            raise E2FashionError(f"a probe needs two classes and has {classes}: choose another entity")
        self.labels = labels
        self.classes = classes
        self.inputs = torch.cat([features, features.new_ones(len(features), 1)], dim=1).float()
        self.covariance = (self.inputs.T @ self.inputs).cpu().double() / len(features)

    def fit(
        self,
        strength: float,
        start: LogisticFit | None = None,
        tolerance: float = TOLERANCE,
        max_iterations: int = MAX_ITERATIONS,
    ) -> LogisticFit:
        """The minimum for one ``strength``, searched from ``start`` (None: zero).

        The search ends where no component of the gradient is above :func:`tolerance_at`. It computes in fp32, and in
        fp64 from where rounding stops it before that. Warns when it has not ended after ``max_iterations``.

        Raises:
            E2FashionError: without scipy.
        """
        weight = torch.zeros(self.inputs.shape[1], self.classes, dtype=torch.float64)
        if start is not None:
            weight = torch.cat([start.weight, start.bias[None]]).double()
        tolerance = tolerance_at(strength, tolerance)
        iterations, gradient = 0, float("inf")
        for dtype in (torch.float32, torch.float64):
            if iterations < max_iterations and gradient > tolerance:
                left = max_iterations - iterations
                weight, taken, gradient = self._search(weight, strength, tolerance, left, self.inputs.to(dtype))
                iterations += taken
        converged = gradient <= tolerance
        if not converged:
            warnings.warn(
                f"logistic regression of strength {strength:g} did not converge in {iterations} iterations: its "
                f"gradient is {gradient:.1e}, asked for {tolerance:.1e}. Raise max_iterations or the smallest strength",
                stacklevel=2,
            )
        return LogisticFit(weight[:-1].float(), weight[-1].float(), strength, iterations, gradient, converged)

    def path(
        self, strengths: Sequence[float], tolerance: float = TOLERANCE, max_iterations: int = MAX_ITERATIONS
    ) -> Iterator[LogisticFit]:
        """Fits from the strongest regularization to the weakest, each started from the one before."""
        last: LogisticFit | None = None
        for strength in sorted(strengths, reverse=True):
            last = self.fit(strength, last, tolerance, max_iterations)
            yield last

    def _search(
        self, start: Tensor, strength: float, tolerance: float, max_iterations: int, inputs: Tensor
    ) -> tuple[Tensor, int, float]:
        """L-BFGS from ``start`` (C + 1, classes): where it ended (fp64), its iterations, the largest gradient there."""
        try:
            from scipy.optimize import minimize
        except ImportError as error:
            raise E2FashionError("A probe needs scipy. Install it: pip install 'e2fashion[probe]'.") from error
        factor = self._curvature_factor(strength)
        coordinates = torch.linalg.inv(factor).T.to(inputs)
        penalty = inputs.new_full((len(start), 1), strength)
        penalty[-1] = 0.0
        seen: dict[str, float] = {}

        def weight_at(point: NDArray[np.float64]) -> Tensor:
            return coordinates @ torch.from_numpy(point).to(inputs).view(start.shape)

        def objective(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            weight = weight_at(point)
            loss, gradient = self._cross_entropy(weight, inputs)
            gradient += penalty * weight
            seen["gradient"] = float(gradient.abs().max())
            value = loss + 0.5 * float((penalty * weight.square()).sum())
            return value, (coordinates.T @ gradient).cpu().double().numpy().ravel()

        def stop(_: NDArray[np.float64]) -> None:
            # What L-BFGS-B accepts is the point that it has evaluated last.
            if seen["gradient"] <= tolerance:
                raise StopIteration

        first = (factor.T @ start).numpy().ravel()
        options = {"maxiter": max_iterations, "maxfun": 2 * max_iterations + 20, "ftol": 0.0, "gtol": 0.0}
        if objective(first)[1].any() and seen["gradient"] > tolerance:
            optimum = minimize(objective, first, jac=True, method="L-BFGS-B", options=options, callback=stop)
            objective(optimum.x)
            return weight_at(optimum.x).cpu().double(), int(optimum.nit), seen["gradient"]
        return start, 0, seen["gradient"]

    def _cross_entropy(self, weight: Tensor, inputs: Tensor) -> tuple[float, Tensor]:
        """Its mean, and its gradient (C + 1, classes)."""
        scores = inputs @ weight
        rows = torch.arange(len(scores), device=scores.device)
        normalizer = scores.logsumexp(1)
        loss = float((normalizer - scores[rows, self.labels]).cpu().double().mean())
        scores.sub_(normalizer[:, None]).exp_()
        scores[rows, self.labels] -= 1.0
        return loss, (inputs.T @ scores).div_(len(scores))

    def _curvature_factor(self, strength: float) -> Tensor:
        """Lower triangular L (C + 1, C + 1) fp64 with L L^T the objective's curvature near its start.

        That is ``covariance / classes`` plus ``strength`` for every class; in coordinates L^T @ weight it is the same
        in all directions.
        """
        ridge = torch.full((len(self.covariance),), strength + 1e-8, dtype=torch.float64)
        ridge[-1] = 1e-8
        return torch.linalg.cholesky(self.covariance / self.classes + torch.diag(ridge))
