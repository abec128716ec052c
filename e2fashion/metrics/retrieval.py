"""Cross-modal retrieval from ranks: recall, their sum, median rank and mean reciprocal rank, with intervals.

Of ranked lists with graded relevance nDCG, ERR and RBP, with trec_eval's and the authors' definitions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from e2fashion.metrics.bootstrap import Estimate, bootstrap, estimates, weighted_means
from e2fashion.metrics.ranking import compare
from e2fashion.types import E2FashionError

TOP_K = (1, 5, 10)
DIRECTIONS = ("i2t", "t2i")


def recall_at(ranks: Tensor, k: int) -> Tensor:
    """Share of the ranks (Q,) that are at most ``k``, in percent: ()."""
    return 100 * (ranks <= k).double().mean()


def median_rank(ranks: Tensor) -> Tensor:
    """The (lower) median of the ranks (Q,): ()."""
    return ranks.median()


def mean_reciprocal_rank(ranks: Tensor) -> Tensor:
    """Mean of one over the rank (Q,), between 0 and 1: ()."""
    return ranks.double().reciprocal().mean()


def precision_at(relevant: Tensor, k: int) -> Tensor:
    """Precision among the top ``k`` of each query in percent: ``relevant`` (Q, K) bool, best first, to (Q,) fp64.

    Items that a list shorter than ``k`` lacks count as irrelevant.
    """
    return 100 * relevant[:, :k].sum(1).double() / k


def hits_at(ranks: Tensor, k: int) -> Tensor:
    """Whether the first relevant item is among the top ``k``, in percent: ranks (Q,) from 1 to (Q,) fp64."""
    return 100 * (ranks <= k).double()


def summarize(
    ranks: Mapping[str, Tensor],
    unit: Mapping[str, Tensor] | None = None,
    top_k: Sequence[int] = TOP_K,
    resamples: int = 0,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Every metric of ranks by direction: ``<direction>/R@k`` and ``SumR`` in percent, ``/median_rank``, ``/MRR``.

    ``ranks`` maps a direction to its ranks (Q,), and ``unit`` to the product of each query (Q,) (default: query i is of
    product i, in both directions). SumR adds the R@k of all directions. With ``resamples`` > 0 each estimate has the
    95 % percentile interval of a seeded bootstrap over products; the queries of a product are drawn together.
    """
    ranks = {direction: item.cpu() for direction, item in ranks.items()}
    values: dict[str, float] = {}
    for direction, item in ranks.items():
        values |= {f"{direction}/R@{k}": float(recall_at(item, k)) for k in top_k}
        values[f"{direction}/median_rank"] = float(median_rank(item))
        values[f"{direction}/MRR"] = float(mean_reciprocal_rank(item))
    recalls = [name for name in values if "/R@" in name]
    values["SumR"] = sum(values[name] for name in recalls)
    if not resamples:
        return {name: Estimate(value) for name, value in values.items()}

    owners = {
        direction: (torch.arange(len(item)) if unit is None else unit[direction].cpu())
        for direction, item in ranks.items()
    }
    everyone, position = torch.cat(list(owners.values())).unique(return_inverse=True)
    rows = dict(zip(owners, position.split([len(item) for item in owners.values()]), strict=True))
    statistics = {
        direction: _resampled(item, rows[direction], len(everyone), top_k) for direction, item in ranks.items()
    }

    def statistic(weights: Tensor) -> Tensor:
        columns = torch.cat([compute(weights) for compute in statistics.values()], dim=1)
        sum_recall = columns[:, [list(values).index(name) for name in recalls]].sum(1, keepdim=True)
        return torch.cat([columns, sum_recall], dim=1)

    return estimates(values, bootstrap(statistic, len(everyone), resamples, seed))


def _resampled(ranks: Tensor, unit: Tensor, units: int, top_k: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """Recalls, median and reciprocal ranks of one direction as a function of the units' weights (R, units)."""
    hits = torch.stack([100.0 * (ranks <= k) for k in top_k] + [ranks.double().reciprocal()], dim=1)
    means = weighted_means(hits, unit, units)
    ordered, order = ranks.sort()
    owner = unit[order]

    def compute(weights: Tensor) -> Tensor:
        below = weights[:, owner].cumsum(1)
        middle = (below[:, -1:] / 2).contiguous()
        median = ordered[torch.searchsorted(below, middle).clamp(max=len(ordered) - 1)]
        mean = means(weights)
        return torch.cat([mean[:, :-1], median.double(), mean[:, -1:]], dim=1)

    return compute


class CrossModalRecall(Metric):
    """Image-to-text and text-to-image retrieval over all updates, see :func:`summarize`.

    ``compute`` returns scalars under the names of :func:`summarize`; with ``resamples`` > 0 also ``<name>/low``
    and ``<name>/high``. Sampler padding is not removed: repeated products count twice.
    """

    full_state_update = False
    higher_is_better = True

    def __init__(self, top_k: Sequence[int] = TOP_K, resamples: int = 0, seed: int = 0) -> None:
        super().__init__()
        self.top_k = tuple(top_k)
        self.resamples = resamples
        self.seed = seed
        for name in ("image_embeds", "text_embeds", "image_ids", "text_ids"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(
        self, image_embeds: Tensor, text_embeds: Tensor, image_ids: Tensor, text_ids: Tensor | None = None
    ) -> None:
        """Add images (M, C) and texts (T, C), L2-normalized, with int64 ids (M,) and (T,) (default: those of images).

        Or tokens (M, P, C) and (T, L, C) of one L for all batches and ranks (:func:`e2fashion.similarity.pad_tokens`).
        Equal ids are positives: number the products, or the equal texts (``Batch.text_group``).
        """
        for name, item in (
            ("image_embeds", image_embeds.detach()),
            ("text_embeds", text_embeds.detach()),
            ("image_ids", image_ids),
            ("text_ids", image_ids if text_ids is None else text_ids),
        ):
            getattr(self, name).append(item)

    def compute(self) -> dict[str, Tensor]:
        """All metrics as scalar tensors."""
        image, text, image_ids, text_ids = (
            dim_zero_cat(getattr(self, name)) for name in ("image_embeds", "text_embeds", "image_ids", "text_ids")
        )
        compared = compare(image, text)
        ids = {"i2t": (image_ids, text_ids), "t2i": (text_ids, image_ids)}
        ranks = {direction: compared.ranks(direction, *ids[direction]) for direction in DIRECTIONS}
        paired = len(image) == len(text)
        unit = None if paired else {"i2t": image_ids, "t2i": text_ids}
        result: dict[str, Tensor] = {}
        for name, estimate in summarize(ranks, unit, self.top_k, self.resamples, self.seed).items():
            result[name] = torch.tensor(estimate.value)
            if estimate.low is not None and estimate.high is not None:
                result |= {f"{name}/low": torch.tensor(estimate.low), f"{name}/high": torch.tensor(estimate.high)}
        return result


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

    The user continues to the next item with probability ``persistence``; a grade counts as ``grade / highest``;
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
