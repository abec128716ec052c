"""Every key of what trains several runs and sets them side by side."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class CompareConfig:
    """Several runs trained on one catalogue, and the report that sets them side by side.

    ``overrides`` reach every run, as ``train.precision=bf16`` would.
    """

    data: str = MISSING
    output: str = "runs/compare"
    split: str = "test"
    gallery_products: int = 6


@dataclass
class AblationConfig:
    """A base run, the rows that differ from it, and the seeds that each row is trained with.

    ``base`` is a run configuration, relative to the file that names it. A row maps dotted keys of a run to values:
    ``soft: {model.selection: soft, model.noise: none}``; ``model.entities.*.tokens`` means every entity of the base.
    Rows named in ``optional`` are left out, and listed, where the base lacks what they remove or change.
    Differences are against the row ``baseline``. ``reuse`` names folders whose finished runs of the same identity count
    as done.
    """

    data: str = MISSING
    base: str = MISSING
    rows: dict[str, Any] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    baseline: str | None = None
    optional: list[str] = field(default_factory=list)
    split: str = "val"
    name: str | None = None
    output: str = "runs/ablate/${name}"
    reuse: list[str] = field(default_factory=list)
