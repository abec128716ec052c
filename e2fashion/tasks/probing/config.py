"""The keys of linear probes."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from e2fashion.options import FeatureKind, Measuring
from e2fashion.types import Split


@dataclass
class ProbeConfig(Measuring):
    """Linear probes of one encoder: how well its image features separate the values of an entity."""

    entity: list[str] = MISSING
    """Tag columns, or entities of the model."""
    features: list[FeatureKind] = field(default_factory=lambda: ["global"])
    """``global``, ``region`` (of the entity), ``both`` (concatenated)."""
    split: Split = "test"
    """Split on which the probe is measured; it is fitted on train, its regularization chosen on val."""
    min_examples: int = 10
    """Classes with fewer products in train are left out and counted."""
    fibre_columns: list[str] = field(default_factory=lambda: ["composition"])
    """Columns of compositions, whose classes are the dominant fibres."""
    shots: list[int] = field(default_factory=list)
    """Examples per class of the few-shot curve, as in ``[1, 4, 16]``; ``[]``: none."""
    draws: int = 5
    """Random draws of those examples, averaged."""
    strengths: list[float] = field(default_factory=lambda: [1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5])
    """Weights of half the squared norm, added to the mean cross-entropy; the best on val is taken."""
    tolerance: float = 1e-4
    """A fit has converged when no component of its gradient is larger; strengths below 0.001 lower it in proportion.
    Source: scikit-learn."""
    max_iterations: int = 1000
    """A fit that needs more is reported as not converged."""
    resamples: int = 1000
    """Bootstrap resamples of the confidence intervals."""
    seed: int = 0
    """Seed of the draws and the bootstrap."""
