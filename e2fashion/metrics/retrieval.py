"""Cross-modal retrieval from ranks: recall, their sum, median rank and mean reciprocal rank, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from e2fashion.metrics.bootstrap import bootstrap, interval, weighted_means
from e2fashion.metrics.comparison import compare

TOP_K = (1, 5, 10)
DIRECTIONS = ("i2t", "t2i")


@dataclass(frozen=True)
class Estimate:
    """A value and, where it was resampled, the bounds of its 95 % interval."""

    value: float
    low: float | None = None
    high: float | None = None


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

    low, high = interval(bootstrap(statistic, len(everyone), resamples, seed))
    return {
        name: Estimate(value, float(low[column]), float(high[column]))
        for column, (name, value) in enumerate(values.items())
    }


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

    def __init__(
        self, top_k: Sequence[int] = TOP_K, resamples: int = 0, seed: int = 0, chunk: int | None = None
    ) -> None:
        super().__init__()
        self.top_k = tuple(top_k)
        self.resamples = resamples
        self.seed = seed
        self.chunk = chunk
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
        ranks = {
            "i2t": compared.ranks("i2t", image_ids, text_ids, self.chunk),
            "t2i": compared.ranks("t2i", text_ids, image_ids, self.chunk),
        }
        paired = len(image) == len(text)
        unit = None if paired else {"i2t": image_ids, "t2i": text_ids}
        result: dict[str, Tensor] = {}
        for name, estimate in summarize(ranks, unit, self.top_k, self.resamples, self.seed).items():
            result[name] = torch.tensor(estimate.value)
            if estimate.low is not None and estimate.high is not None:
                result |= {
                    f"{name}/low": torch.tensor(estimate.low),
                    f"{name}/high": torch.tensor(estimate.high),
                }
        return result
