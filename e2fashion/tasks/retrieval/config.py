"""The keys of measuring retrieval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from e2fashion.options import Measuring


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
