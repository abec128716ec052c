"""Metrics of ranked lists with graded relevance: nDCG, ERR and RBP, with trec_eval's and the authors' definitions."""

from __future__ import annotations

import torch
from torch import Tensor

from e2fashion.types import E2FashionError


def ndcg_at(relevance: Tensor, judged: Tensor, k: int) -> Tensor:
    """Normalized discounted cumulative gain of the top ``k``, as trec_eval's ``ndcg_cut``: (Q,) fp64 from 0 to 1.

    ``relevance`` (Q, K) are the grades of the ranked items, best item first, ``judged`` (Q, M) those of all items that
    have a grade, in any order; pad both with 0. The gain is the grade, the discount ``log2(1 + rank)``. A query
    without a relevant item gets 0 (Järvelin and Kekäläinen, TOIS 2002).

    Raises:
        E2FashionError: negative grades, or a ``k`` below 1.
    """
    gains, all_gains = _grades(relevance, k), _grades(judged, k)
    ideal = _discounted(all_gains.sort(dim=1, descending=True).values[:, :k])
    return torch.where(ideal > 0, _discounted(gains[:, :k]) / ideal.clamp(min=torch.finfo(torch.float64).tiny), 0.0)


def err_at(relevance: Tensor, k: int, highest: float = 1.0) -> Tensor:
    """Expected reciprocal rank of the top ``k``: (Q,) fp64 from 0 to 1.

    The user stops at an item of grade g with the chance ``(2^g - 1) / 2^highest``; ``relevance`` (Q, K) as in
    :func:`ndcg_at`, ``highest`` the best possible grade (Chapelle et al., CIKM 2009).

    Raises:
        E2FashionError: negative grades, grades above ``highest``, or a ``k`` below 1.
    """
    grades = _grades(relevance, k, highest)[:, :k]
    stops = (2.0**grades - 1.0) / 2.0**highest
    passes = (1.0 - stops).cumprod(dim=1)
    reaches = torch.cat([torch.ones_like(passes[:, :1]), passes[:, :-1]], dim=1)
    return (reaches * stops / _positions(grades)).sum(1)


def rbp(relevance: Tensor, persistence: float, k: int | None = None, highest: float = 1.0) -> Tensor:
    """Rank-biased precision: (Q,) fp64 from 0 to 1; all K items, or the top ``k``.

    The user goes on to the next item with the chance ``persistence``; a grade counts as ``grade / highest``;
    ``relevance`` (Q, K) as in :func:`ndcg_at` (Moffat and Zobel, TOIS 2008).

    Raises:
        E2FashionError: a persistence outside (0, 1), negative grades, or grades above ``highest``.
    """
    if not 0.0 < persistence < 1.0:
        raise E2FashionError(f"persistence is {persistence}: give the chance to read on, between 0 and 1, such as 0.8")
    grades = _grades(relevance, 1 if k is None else k, highest)[:, :k] / highest
    return (1.0 - persistence) * (grades * persistence ** (_positions(grades) - 1.0)).sum(1)


def _grades(relevance: Tensor, k: int, highest: float = torch.inf) -> Tensor:
    """The grades in fp64, checked."""
    if k < 1:
        raise E2FashionError(f"k is {k}: give a number of items from 1")
    grades = relevance.double()
    if grades.numel() and not (float(grades.min()) >= 0 and float(grades.max()) <= highest):
        raise E2FashionError(
            f"relevance has grades from {float(grades.min()):g} to {float(grades.max()):g}: give grades from 0 "
            f"(irrelevant) to {highest:g}, the highest"
        )
    return grades


def _positions(grades: Tensor) -> Tensor:
    return torch.arange(1, grades.shape[1] + 1, dtype=torch.float64, device=grades.device)


def _discounted(gains: Tensor) -> Tensor:
    return (gains / (1.0 + _positions(gains)).log2()).sum(1)
