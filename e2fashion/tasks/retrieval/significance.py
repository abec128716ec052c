"""Is one model better than another? Paired bootstrap over the products that both were asked about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from e2fashion.metrics.bootstrap import Difference, paired_bootstrap
from e2fashion.metrics.retrieval import TOP_K
from e2fashion.records import RecordContext, RecordKind, declare
from e2fashion.tasks.retrieval.rankings import BOTH, Ranking
from e2fashion.types import E2FashionError, ResultRecord

RETRIEVAL_DIFFERENCE = declare("retrieval_difference", identified_by=("against",), reports=("p_value",))


def compare_rankings(
    ours: Sequence[Ranking],
    baseline: Sequence[Ranking],
    context: RecordContext,
    protocol: str,
    against: str,
    top_k: Sequence[int] = TOP_K,
    resamples: int = 2_000,
    kind: RecordKind = RETRIEVAL_DIFFERENCE,
    extra: Mapping[str, Any] | None = None,
) -> list[ResultRecord]:
    """One record per direction, notion of a hit and k: the difference in R@k in percentage points.

    Where both directions ask about the same products, their SumR is compared too (direction ``both``). ``kind``
    declares them; ``extra`` names the baseline ``against`` which it was measured and holds the two-sided ``p_value``,
    behind what is given.

    Raises E2FashionError when the two were not asked the same queries.
    """
    others = {(item.positives, item.direction): item for item in baseline}
    records = []
    for ranking in ours:
        other = others.get((ranking.positives, ranking.direction))
        if other is None or not torch.equal(other.product, ranking.product):
            raise E2FashionError(
                f"'{context.model}' and '{against}' were asked different queries ({ranking.direction}, "
                f"{ranking.positives}): evaluate both on the same split with the same protocol and seed"
            )
        for k in top_k:
            found = paired_bootstrap(_hits(ranking.ranks, k), _hits(other.ranks, k), ranking.product, resamples)
            records.append(_record(kind, found, f"R@{k}", ranking, context, protocol, against, extra))
    for positives in dict.fromkeys(ranking.positives for ranking in ours):
        own = [ranking for ranking in ours if ranking.positives == positives]
        if len(own) < 2 or any(not torch.equal(ranking.product, own[0].product) for ranking in own):
            continue
        scores, rivals = (
            torch.stack([_hits(ranking.ranks, k) for ranking in run for k in top_k]).sum(0)
            for run in (own, [others[positives, ranking.direction] for ranking in own])
        )
        found = paired_bootstrap(scores, rivals, own[0].product, resamples)
        summed = replace(own[0], direction=BOTH)
        records.append(_record(kind, found, "SumR", summed, context, protocol, against, extra))
    return records


def _hits(ranks: Tensor, k: int) -> Tensor:
    return 100.0 * (ranks <= k)


def _record(
    kind: RecordKind,
    found: Difference,
    metric: str,
    ranking: Ranking,
    context: RecordContext,
    protocol: str,
    against: str,
    extra: Mapping[str, Any] | None,
) -> ResultRecord:
    return kind.record(
        context,
        f"{metric} - {against}",
        found.value,
        found.low,
        found.high,
        protocol=protocol,
        direction=ranking.direction,
        positives=ranking.positives,
        queries=len(ranking.ranks),
        candidates=float(ranking.candidates.double().mean()),
        extra={**(extra or {}), "against": against, "p_value": found.p_value},
    )
