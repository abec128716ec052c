"""Ablations: a base run, rows of changes, seeds; the runs, and the report that sets them side by side."""

from e2fashion.ablation.plan import Ablation, PlannedRun, load_ablation
from e2fashion.ablation.report import RowResult
from e2fashion.ablation.sweep import ablate, run_ablation

__all__ = ["Ablation", "PlannedRun", "RowResult", "ablate", "load_ablation", "run_ablation"]
