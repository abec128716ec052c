"""Metrics as pure functions and torchmetrics classes, imported when they are first used."""

from typing import TYPE_CHECKING

from e2fashion.lazy import lazy_names

if TYPE_CHECKING:
    from e2fashion.metrics.bootstrap import Difference, Estimate, paired_bootstrap
    from e2fashion.metrics.ranking import Comparison, compare, ranks, ranks_among, ranks_by
    from e2fashion.metrics.retrieval import (
        CrossModalRecall,
        err_at,
        mean_reciprocal_rank,
        median_rank,
        ndcg_at,
        rbp,
        recall_at,
        summarize,
    )

__getattr__ = lazy_names(
    __name__,
    {
        "e2fashion.metrics.bootstrap": ("Difference", "Estimate", "paired_bootstrap"),
        "e2fashion.metrics.ranking": ("Comparison", "compare", "ranks", "ranks_among", "ranks_by"),
        "e2fashion.metrics.retrieval": (
            *("CrossModalRecall", "err_at", "mean_reciprocal_rank", "median_rank"),
            *("ndcg_at", "rbp", "recall_at", "summarize"),
        ),
    },
)
