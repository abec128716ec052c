"""Metrics as pure functions and torchmetrics classes."""

from e2fashion.metrics.bootstrap import Difference, paired_bootstrap
from e2fashion.metrics.comparison import Comparison, compare
from e2fashion.metrics.graded import err_at, ndcg_at, rbp
from e2fashion.metrics.ranking import ranks, ranks_among, ranks_by
from e2fashion.metrics.retrieval import (
    CrossModalRecall,
    Estimate,
    mean_reciprocal_rank,
    median_rank,
    recall_at,
    summarize,
)

__all__ = [
    "Comparison",
    "CrossModalRecall",
    "Difference",
    "Estimate",
    "compare",
    "err_at",
    "mean_reciprocal_rank",
    "median_rank",
    "ndcg_at",
    "paired_bootstrap",
    "ranks",
    "ranks_among",
    "ranks_by",
    "rbp",
    "recall_at",
    "summarize",
]
