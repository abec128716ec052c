"""Every key of what measures a trained encoder: retrieval and linear probes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from omegaconf import MISSING

from e2fashion.schema.common import Measuring


@dataclass
class EvaluateConfig(Measuring):
    """Retrieval between images and texts with one encoder."""

    protocol: str = "full"
    """``full``, ``full_multiview``, ``sample_100``, separated by commas. Source: paper."""
    split: str = "val"
    """``train``, ``val``, ``test``, separated by commas."""
    text: str | None = None
    """Template of the text; null: the one that the model was trained with, else the description."""
    with_tags: bool = True
    """Whether the template keeps its tags. Source: official code."""
    selection: str = "tokens"
    """How the patches are found that are compared with the tags' true regions, where a catalogue knows them:
    ``tokens`` (of an E2), ``attention``, ``rollout``, ``occlusion`` (slow), separated by commas; empty: none."""
    queries: int | None = None
    """``sample_100``: number of queries; null: all. Source: field."""
    draws: int = 1
    """``sample_100``: candidate lists per query, pooled. Source: field."""
    fill: Literal["report", "top_up"] = "report"
    """``sample_100``: report a sub-category that is too small, or ``top_up`` from others. Source: paper."""
    seed: int = 0
    """``sample_100``: seed of the candidate lists."""
    candidates: str | None = None
    """``sample_100``: folder that keeps the candidate lists; null: ``candidates/`` next to the records. Lists in the
    catalogue's ``candidates/`` are used as they are."""


@dataclass
class ProbeConfig(Measuring):
    """Linear probes of one encoder: how well its image features separate the values of an entity."""

    entity: str = MISSING
    """Tag columns, or entities of the model, separated by commas."""
    features: str = "global"
    """``global``, ``region`` (of the entity), ``both`` (concatenated), separated by commas."""
    split: str = "test"
    """Split on which the probe is measured; it is fitted on train, its regularization chosen on val."""
    min_examples: int = 10
    """Classes with fewer products in train are left out and counted."""
    fibre_columns: str = "composition"
    """Columns of compositions, separated by commas, whose classes are the dominant fibres."""
    shots: str = ""
    """Examples per class of the few-shot curve, as in ``1,4,16``; empty: none."""
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


@dataclass
class ReportConfig:
    """Tables of what was measured already."""

    output: str | None = None
    """Markdown file of the tables, figures of probes next to it; null: they are only printed."""
