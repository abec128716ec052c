"""One linear probe fitted to convergence, of the size that the brands of a large catalogue need."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from e2fashion.tasks.probing.linear import TOLERANCE, LogisticProblem, Standardizer
from scripts.bench.harness import Context, Result

TARGET_SECONDS = 60
PRODUCTS, WIDTH, CLASSES = 50_000, 512, 500
STRENGTH = 1e-3


@dataclass(frozen=True)
class ProbeData:
    """Standardized features (N, C) fp32 of train and held-out examples, and their classes (N,) int64."""

    features: Tensor
    labels: Tensor
    held_out: Tensor
    held_out_labels: Tensor


def draw(products: int = PRODUCTS, width: int = WIDTH, classes: int = CLASSES) -> ProbeData:
    """Gaussian classes that overlap, in features that are correlated as those of encoders are.

    Variance falls with the square of the rank of its direction, within and between classes alike; class sizes fall with
    their rank, as brands do.
    """
    generator = torch.Generator().manual_seed(0)
    decay = (1 + torch.arange(width)).float().reciprocal()
    axes = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q
    means = 0.45 * torch.randn(classes, width, generator=generator)
    sizes = (10 + torch.arange(classes)).float().reciprocal()
    count = products + products // 10
    labels = torch.multinomial(sizes, count, replacement=True, generator=generator)
    labels[:classes] = torch.arange(classes)
    features = (means[labels] + torch.randn(count, width, generator=generator)) * decay @ axes
    standardize = Standardizer.of(features[:products])
    features = standardize(features)
    return ProbeData(features[:products], labels[:products], features[products:], labels[products:])


def probe(context: Context) -> list[Result]:
    """Fit once: a fit takes long enough to need no repetition."""
    data = draw()
    start = time.perf_counter()
    fit = LogisticProblem(data.features, data.labels, CLASSES).fit(STRENGTH)
    seconds = time.perf_counter() - start
    accuracy = 100 * float((fit.predict(data.held_out) == data.held_out_labels).float().mean())
    claim = (
        f"{PRODUCTS:,} x {WIDTH}, {CLASSES} classes, until no component of the mean objective's gradient is above "
        f"{TOLERANCE:g}"
    )
    measured = f"{seconds:.1f} s" + ("" if fit.converged else ", not converged")
    detail = (
        f"synthetic Gaussian classes; one strength ({STRENGTH:g}), started from zero; {fit.iterations} iterations, "
        f"gradient {fit.gradient:.1e}, accuracy on held-out examples {accuracy:.1f} %"
    )
    passed = fit.converged and seconds < TARGET_SECONDS
    return [Result("probe", claim, f"under {TARGET_SECONDS} s", measured, passed, detail)]
