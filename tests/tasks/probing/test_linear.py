"""Logistic regression: scikit-learn's minimum, warm starts, convergence said and not assumed."""

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from e2fashion.metrics.classification import summarize_classes
from e2fashion.tasks.probing.linear import LogisticProblem, Standardizer
from e2fashion.types import E2FashionError


def problem(count: int = 400, width: int = 12, classes: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Standardized, strongly correlated features (N, C) of overlapping classes, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=generator)
    means = torch.randn(classes, width, generator=generator)
    mixing = torch.randn(width, width, generator=generator)
    features = (0.6 * means[labels] + torch.randn(count, width, generator=generator)) @ mixing
    return Standardizer.of(features)(features), labels


@pytest.mark.parametrize("strength", [1.0, 0.01, 1e-4])
def test_the_minimum_is_that_of_scikit_learn(strength: float) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    features, labels = problem()
    fit = LogisticProblem(features, labels, 5).fit(strength, tolerance=1e-6)
    model = linear_model.LogisticRegression(C=1 / (strength * len(features)), tol=1e-8, max_iter=10_000)
    model.fit(features.double().numpy(), labels.numpy())
    assert fit.converged
    assert objective(fit.weight.numpy(), fit.bias.numpy(), features, labels, strength) == pytest.approx(
        objective(model.coef_.T, model.intercept_, features, labels, strength), abs=1e-6
    )
    assert (fit.predict(features).numpy() == model.predict(features.numpy())).mean() > 0.99


@pytest.mark.parametrize("strength", [1e-3, 1e-4, 1e-5])
def test_weak_regularization_is_fitted_as_far_as_by_scikit_learn(strength: float) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    features, labels = problem(1500, 40, 20)
    fit = LogisticProblem(features[:1000], labels[:1000], 20).fit(strength)
    model = linear_model.LogisticRegression(C=1 / (strength * 1000), tol=1e-9, max_iter=100_000)
    model.fit(features[:1000].double().numpy(), labels[:1000].numpy())
    assert fit.converged
    assert fit.gradient <= 0.1 * strength
    predicted = torch.from_numpy(model.predict(features[1000:].double().numpy()))
    scores = [
        summarize_classes(labels[1000:], own, 20)["macro_f1"].value for own in (fit.predict(features[1000:]), predicted)
    ]
    assert scores[0] == pytest.approx(scores[1], abs=0.3)


def objective(weight: np.ndarray, bias: np.ndarray, features: Tensor, labels: Tensor, strength: float) -> float:
    scores = features.double() @ torch.from_numpy(weight).double() + torch.from_numpy(bias).double()
    loss = torch.nn.functional.cross_entropy(scores, labels)
    return float(loss) + strength / 2 * float((weight.astype(np.float64) ** 2).sum())


def test_the_gradient_that_is_reported_is_the_gradient() -> None:
    features, labels = problem()
    fit = LogisticProblem(features, labels, 5).fit(0.01, tolerance=1e-4)
    weight, bias = fit.weight.double().requires_grad_(), fit.bias.double().requires_grad_()
    loss = torch.nn.functional.cross_entropy(features.double() @ weight + bias, labels)
    (loss + 0.005 * weight.square().sum()).backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert bias.grad is not None
    largest = max(weight.grad.abs().max(), bias.grad.abs().max())
    assert fit.gradient == pytest.approx(float(largest), abs=1e-6)
    assert fit.gradient <= 1e-4


def test_a_warm_start_reaches_the_same_minimum_in_fewer_steps() -> None:
    features, labels = problem()
    cold = LogisticProblem(features, labels, 5)
    warm = list(cold.path([1e-3, 0.1, 0.01], tolerance=1e-5))
    assert [fit.strength for fit in warm] == [0.1, 0.01, 1e-3]
    alone = cold.fit(1e-3, tolerance=1e-5)
    assert warm[-1].iterations <= alone.iterations
    torch.testing.assert_close(warm[-1].weight, alone.weight, atol=0.02, rtol=0.02)
    assert cold.fit(1e-3, alone, tolerance=1e-5).iterations <= 1


def test_a_fit_that_did_not_converge_says_so() -> None:
    features, labels = problem()
    with pytest.warns(UserWarning, match=r"strength 0.0001 did not converge in 2 iterations.*Raise max_iterations"):
        fit = LogisticProblem(features, labels, 5).fit(1e-4, max_iterations=2)
    assert not fit.converged
    assert fit.gradient > 1e-4


def test_more_features_than_examples() -> None:
    features, labels = problem(10, 40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = LogisticProblem(features, labels, 5).fit(0.01)
    assert torch.equal(fit.predict(features), labels)


def test_a_constant_column_does_no_harm() -> None:
    features = torch.cat([torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), torch.ones(50, 1)], dim=1)
    scaled = Standardizer.of(features)(features)
    assert torch.equal(scaled[:, 3], torch.zeros(50))
    assert scaled[:, :3].mean(0).abs().max() < 1e-6
    assert LogisticProblem(scaled, torch.arange(50) % 2, 2).fit(0.1).converged


def test_one_class_is_refused() -> None:
    with pytest.raises(E2FashionError, match="needs two classes and has 1"):
        LogisticProblem(torch.randn(3, 2), torch.zeros(3, dtype=torch.int64), 1)
