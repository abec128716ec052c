"""The keys of measuring retrieval."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from e2fashion.options import Measuring
from e2fashion.tasks.localization.config import Method
from e2fashion.types import Split


@dataclass
class Sampling:
    """How the candidate lists of ``sample_100`` are drawn."""

    queries: int | None = None
    """``sample_100``: number of random queries; null: every product. Source: field."""
    draws: int = 1
    """``sample_100``: candidate lists per query, pooled. Source: field."""
    fill: Literal["report", "top_up"] = "report"
    """``sample_100``: where a sub-category has too few products, ``report`` keeps the list short and leaves out queries
    of unknown sub-category (paper), ``top_up`` adds products of other sub-categories (FashionSAP). Source: paper."""
    seed: int = 0
    """``sample_100``: seed of the candidate lists."""


@dataclass
class EvaluateConfig(Sampling, Measuring):
    """Retrieval between images and texts with one encoder."""

    protocol: list[str] = field(default_factory=lambda: ["full"])
    """``full``, ``full_regions``, ``full_multiview``, ``sample_100``, or protocols of an installed package. Source:
    paper; ``full_regions``: ours."""
    split: list[Split] = field(default_factory=lambda: ["val"])
    """Splits to measure on."""
    text: str | None = None
    """Template of the text; null: the one that the model was trained with, else the description."""
    with_tags: bool = True
    """Whether the template keeps its tags. Source: official code."""
    region_score_weight: float | None = None
    """``full_regions``: weight of the tags' similarity to their regions in the score; null: the one that is stored with
    the model, else chosen on val."""
    selection: list[Method] = field(default_factory=lambda: ["tokens"])
    """How the patches are chosen that are compared with the tags' true regions, where a catalogue has them:
    ``tokens`` (of an E2), ``attention``, ``rollout``, ``occlusion`` (slow); ``[]``: none."""
    candidates: str | None = None
    """``sample_100``: folder of the candidate lists; null: ``candidates/`` next to the records. Lists in the
    catalogue's ``candidates/`` are used as they are."""
