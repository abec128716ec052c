"""Ablations: a base run, rows of changes, seeds; the runs, and the report that sets them side by side."""

from typing import TYPE_CHECKING

from e2fashion.ablation.plan import Ablation, PlannedRun, load_ablation
from e2fashion.lazy import lazy_names

if TYPE_CHECKING:
    from e2fashion.ablation.report import RowResult
    from e2fashion.ablation.sweep import ablate, run_ablation

__all__ = ["Ablation", "PlannedRun", "RowResult", "ablate", "load_ablation", "run_ablation"]

__getattr__ = lazy_names(
    __name__,
    {"e2fashion.ablation.report": ("RowResult",), "e2fashion.ablation.sweep": ("ablate", "run_ablation")},
)
