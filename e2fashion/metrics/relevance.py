"""Lists that were retrieved for queries with several right answers: precision and hits among the best k."""

from __future__ import annotations

from torch import Tensor


def precision_at(relevant: Tensor, k: int) -> Tensor:
    """Share of right ones among the best ``k`` of each query, in percent: (Q, K) bool, the best first, to (Q,) fp64.

    A list that is shorter than ``k`` lacks right ones: the share is of ``k``.
    """
    return 100 * relevant[:, :k].sum(1).double() / k


def hits_at(ranks: Tensor, k: int) -> Tensor:
    """Whether the first right one is among the best ``k``, in percent: ranks (Q,) from 1 to (Q,) fp64."""
    return 100 * (ranks <= k).double()
