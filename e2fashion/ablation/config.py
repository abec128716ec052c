"""The keys of comparisons and ablations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from e2fashion.config import keys_of, load_config
from e2fashion.training.config import RunConfig
from e2fashion.types import E2FashionError, Split


@dataclass
class CompareConfig:
    """Several runs trained on one catalogue, with one report.

    Every other key goes to every run, as in ``train.precision=bf16``.
    """

    data: str = MISSING
    """A prepared catalogue."""
    output: str = "runs/compare"
    """Folder of the report; each run gets a folder in it."""
    split: Split = "test"
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
    """Changes of each row: dotted keys of a run and their values, as in ``soft: {model.selection: soft, model.noise:
    none}``; ``{}`` is the base itself, ``model.entities.*.tokens`` means every entity of the base."""
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    """Each row is trained once with each seed."""
    baseline: str | None = None
    """Row that the others are compared with; null: no differences."""
    optional: list[str] = field(default_factory=list)
    """Rows that are left out, and listed, where the base lacks what they remove or change."""
    split: list[Split] = field(default_factory=lambda: ["val"])
    """Splits on which every run is evaluated."""
    name: str | None = None
    """Name of the report; null: the file's name."""
    output: str = "runs/ablate/${name}"
    """Folder of the report and of the runs, ``<row>/seed<k>``."""
    reuse: list[str] = field(default_factory=list)
    """Folders with finished runs to reuse instead of training runs of the same identity."""


def load_comparison(files: Sequence[Path], overrides: Sequence[str]) -> tuple[CompareConfig, list[RunConfig]]:
    """The comparison's configuration, and that of every run, whose folders are in the comparison's.

    Raises:
        E2FashionError: a mistake in a configuration, or two runs of the same name.
    """
    of_comparison = [override for override in overrides if override.partition("=")[0] in keys_of(CompareConfig)]
    config = load_config(CompareConfig, None, of_comparison)
    shared = [*(override for override in overrides if override not in of_comparison), f"data={config.data}"]
    runs = []
    for file in files:
        name = load_config(RunConfig, file, shared).name
        runs.append(load_config(RunConfig, file, [*shared, f"output={Path(config.output) / name}"]))
    names = [run.name for run in runs]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise E2FashionError(f"Two configurations are named '{doubled}'. Give each another name.")
    return config, runs
