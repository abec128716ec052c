"""Metrics as pure functions and torchmetrics classes."""

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
