"""Every key of what trains several runs and compares them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class CompareConfig:
    """Several runs trained on one catalogue, and one report of all.

    Every other key goes to every run, as in ``train.precision=bf16``.
    """

    data: str = MISSING
    """A prepared catalogue."""
    output: str = "runs/compare"
    """Folder of the report; each run gets a folder in it."""
    split: str = "test"
    """Split that the report is about."""
    gallery_products: int = 6
    """Rows of each figure of retrieved products."""


@dataclass
class AblationConfig:
    """A base run, the rows that differ from it, and the seeds that each row is trained with.

    Every other key goes to the base, and so to every row, as in ``train.precision=fp32``.
    """

    data: str = MISSING
    """A prepared catalogue."""
    base: str = MISSING
    """Run configuration that the rows change, relative to the file that names it."""
    rows: dict[str, Any] = field(default_factory=dict)
    """What each row changes: dotted keys of a run and their values, as in ``soft: {model.selection: soft, model.noise:
    none}``; ``{}`` is the base itself, ``model.entities.*.tokens`` means every entity of the base."""
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    """Each row is trained once with each seed."""
    baseline: str | None = None
    """Row that the others are compared with; null: no differences."""
    optional: list[str] = field(default_factory=list)
    """Rows that are left out, and listed, where the base lacks what they remove or change."""
    split: str = "val"
    """Splits on which every run is evaluated, separated by commas."""
    name: str | None = None
    """Name of the report; null: the file's name."""
    output: str = "runs/ablate/${name}"
    """Folder of the report and of the runs, ``<row>/seed<k>``."""
    reuse: list[str] = field(default_factory=list)
    """Folders whose finished runs of the same identity are not trained again."""
