"""Ranks of queries: their records, whole and by groups, their file, and the paired comparison of two models' ranks."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from e2fashion.disk import DamagedError, file_name
from e2fashion.disk.tensors import load_tensors, save_tensors
from e2fashion.metrics.bootstrap import RESAMPLES, mean_estimate, paired_bootstrap
from e2fashion.metrics.retrieval import TOP_K, summarize
from e2fashion.records import ENCODING, RecordContext, RecordKind, declare
from e2fashion.types import E2FashionError, ResultRecord

logger = logging.getLogger(__name__)

BOTH = "both"
"""Direction of a record that adds image-to-text and text-to-image."""

RETRIEVAL = declare(
    "retrieval",
    identified_by=(*ENCODING, "candidate_seed", "queries_per_draw", "draws", "fill"),
    reports=(
        *("ceiling", "fewest_candidates", "left_out", "region_score_weight", "short_lists", "texts"),
        "weight_chosen_on",
    ),
    extensible=True,  # protocols of other packages have further settings, which identify
)
RETRIEVAL_DIFFERENCE = declare("retrieval_difference", identified_by=("against",), reports=("p_value", "seeds"))


@dataclass(frozen=True)
class Ranking:
    """The ranks of one direction under one notion of a hit.

    ``ranks`` (Q,) int64 from 1; ``product`` (Q,) int64, the product of each query as an index into ``product_ids``;
    ``candidates`` (Q,) int64, how many there were to choose from. ``extra`` goes into every record of the ranking;
    ``metric_extra`` into that of one metric.
    """

    direction: str
    positives: str
    ranks: Tensor
    product: Tensor
    candidates: Tensor
    extra: Mapping[str, Any] = field(default_factory=dict)
    metric_extra: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def records_of(
    rankings: Sequence[Ranking],
    context: RecordContext,
    protocol: str,
    resamples: int = RESAMPLES,
    how: Mapping[str, Any] | None = None,
) -> list[ResultRecord]:
    """Every metric of every ranking, and SumR over the directions of each notion of a hit.

    ``how`` goes into every record's ``extra``, before what the rankings have.
    Intervals are the 95 % of a bootstrap over products with seed 0, the same draws for every model.
    """
    records: list[ResultRecord] = []
    for positives in dict.fromkeys(ranking.positives for ranking in rankings):
        alike = {ranking.direction: ranking for ranking in rankings if ranking.positives == positives}
        ranks = {name: ranking.ranks for name, ranking in alike.items()}
        products = {name: ranking.product for name, ranking in alike.items()}
        estimates = summarize(ranks, products, resamples=resamples)
        for name, estimate in estimates.items():
            direction, _, metric = name.rpartition("/")
            involved = [alike[direction]] if direction else list(alike.values())
            candidates = torch.cat([ranking.candidates for ranking in involved])
            extra = dict(how or {}) | dict(involved[0].extra) | dict(involved[0].metric_extra.get(metric, {}))
            if len(candidates.unique()) > 1:
                extra["fewest_candidates"] = int(candidates.min())
            if not direction:
                extra |= _summed_ceiling(involved)
            records.append(
                RETRIEVAL.record(
                    context,
                    metric,
                    *estimate,
                    protocol=protocol,
                    direction=direction or BOTH,
                    positives=positives,
                    queries=len(involved[0].ranks) if direction else sum(len(item.ranks) for item in involved),
                    candidates=float(candidates.double().mean()),
                    extra=extra,
                )
            )
    return records


def _summed_ceiling(rankings: Iterable[Ranking]) -> dict[str, float]:
    parts = [ranking.metric_extra.get(f"R@{k}", {}) for ranking in rankings for k in TOP_K]
    return {"ceiling": sum(part["ceiling"] for part in parts)} if all("ceiling" in part for part in parts) else {}


def rankings_file(folder: Path, protocol: str, split: str, data_fingerprint: str) -> Path:
    """Where the rankings of one protocol on one split of one catalogue are stored in a run's folder of rankings."""
    return folder / f"{file_name(f'{protocol}-{split}-{data_fingerprint[:12]}')}.safetensors"


def pool_rankings(rankings: Sequence[Sequence[Ranking]]) -> list[Ranking]:
    """The rankings of several runs (seeds, say) as one, their queries concatenated.

    A product keeps its number, so that a bootstrap draws it in all runs together.
    """
    kinds = dict.fromkeys((item.positives, item.direction) for run in rankings for item in run)
    pooled = []
    for positives, direction in kinds:
        alike = [item for run in rankings for item in run if (item.positives, item.direction) == (positives, direction)]
        ranks, product, candidates = (
            torch.cat([getattr(item, name) for item in alike]) for name in ("ranks", "product", "candidates")
        )
        pooled.append(Ranking(direction, positives, ranks, product, candidates))
    return pooled


def save_rankings(path: Path, rankings: Sequence[Ranking], product_ids: Sequence[str]) -> None:
    """Write the ranks of every query, so that two models can be compared query by query (safetensors)."""
    tensors = {
        f"{ranking.positives}/{ranking.direction}/{name}": getattr(ranking, name).clone()
        for ranking in rankings
        for name in ("ranks", "product", "candidates")
    }
    save_tensors(path, tensors, {"product_ids": json.dumps(list(product_ids))})


def load_rankings(path: Path, remedy: str = "Remove the file and evaluate again.") -> tuple[list[Ranking], list[str]]:
    """The rankings and product ids of :func:`save_rankings`; ``remedy`` ends the message of an error.

    Raises:
        DamagedError: the file is missing or damaged.
    """
    tensors, metadata = load_tensors(path, remedy)
    rankings = []
    try:
        product_ids: list[str] = json.loads(metadata["product_ids"])
        for key in sorted({name.rpartition("/")[0] for name in tensors}):
            positives, direction = key.split("/")
            ranks, product, candidates = (tensors[f"{key}/{name}"] for name in ("ranks", "product", "candidates"))
            rankings.append(Ranking(direction, positives, ranks, product, candidates))
    except (KeyError, ValueError, RecursionError) as error:
        raise DamagedError(f"{path} is damaged ({error!r}). {remedy}") from error
    return rankings, product_ids


def has_rankings(path: Path) -> bool:
    """Whether the file of :func:`save_rankings` exists and is intact; a warning that it is measured again if not."""
    try:
        load_rankings(path, "It is measured again.")
    except DamagedError as damage:
        if path.exists():
            logger.warning("%s", damage)
        return False
    return True


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

    Where both directions have the same products as queries, their SumR is compared too (direction ``both``). ``kind``
    declares the records; their ``extra`` names the baseline ``against`` which it was measured and holds the two-sided
    ``p_value``, after what is given.

    Raises:
        E2FashionError: the two rankings have different queries.
    """
    others = {(item.positives, item.direction): item for item in baseline}
    records = []

    def add(metric: str, ranking: Ranking, scores: Tensor, rivals: Tensor) -> None:
        difference = paired_bootstrap(scores, rivals, ranking.product, resamples)
        records.append(
            kind.record(
                context,
                f"{metric} - {against}",
                difference.value,
                difference.low,
                difference.high,
                protocol=protocol,
                direction=ranking.direction,
                positives=ranking.positives,
                queries=len(ranking.ranks),
                candidates=float(ranking.candidates.double().mean()),
                extra={**(extra or {}), "against": against, "p_value": difference.p_value},
            )
        )

    for ranking in ours:
        other = others.get((ranking.positives, ranking.direction))
        if other is None or not torch.equal(other.product, ranking.product):
            raise E2FashionError(
                f"'{context.model}' and '{against}' were asked different queries ({ranking.direction}, "
                f"{ranking.positives}): evaluate both on the same split with the same protocol and seed"
            )
        for k in top_k:
            add(f"R@{k}", ranking, _hits(ranking.ranks, k), _hits(other.ranks, k))
    for positives in dict.fromkeys(ranking.positives for ranking in ours):
        alike = [ranking for ranking in ours if ranking.positives == positives]
        if len(alike) < 2 or any(not torch.equal(ranking.product, alike[0].product) for ranking in alike):
            continue
        scores, rivals = (
            torch.stack([_hits(ranking.ranks, k) for ranking in run for k in top_k]).sum(0)
            for run in (alike, [others[positives, ranking.direction] for ranking in alike])
        )
        add("SumR", replace(alike[0], direction=BOTH), scores, rivals)
    return records


def _hits(ranks: Tensor, k: int) -> Tensor:
    return 100.0 * (ranks <= k)


UNKNOWN = "unknown"
BY_GROUP = declare("retrieval_by_group", identified_by=("division", "group"))


def bounded_groups(bounds: Sequence[int]) -> Callable[[int], str]:
    """Names of the ranges between whole numbers: ``[0, 1, 10]`` gives ``0``, ``1-9`` and ``10+``.

    Raises:
        E2FashionError: ``bounds`` are none, or do not increase.
    """
    if list(bounds) != sorted(set(bounds)) or not bounds:
        raise E2FashionError(f"bounds are {list(bounds)}: give increasing whole numbers, as in [0, 1, 10, 100]")

    def name(number: int) -> str:
        if number < bounds[0]:
            return f"<{bounds[0]}"
        for low, high in pairwise(bounds):
            if low <= number < high:
                return str(low) if high == low + 1 else f"{low}-{high - 1}"
        return f"{bounds[-1]}+"

    return name


def frequency_groups(
    training: Sequence[str | None], values: Sequence[str | None], bounds: Sequence[int] = (0, 1, 10, 100)
) -> list[str]:
    """The group of every value by how often ``training`` holds it; a missing value is ``unknown``.

    With the default bounds a value that training lacks is in the group ``0``.
    """
    counts, name = Counter(training), bounded_groups(bounds)
    return [UNKNOWN if value is None else name(counts[value]) for value in values]


def length_groups(texts: Sequence[str], bounds: Sequence[int] = (0, 5, 7, 9)) -> list[str]:
    """The group of every text by its number of words."""
    name = bounded_groups(bounds)
    return [name(len(text.split())) for text in texts]


def recall_by_group(
    rankings: Sequence[Ranking], groups: Mapping[str, Sequence[str]], context: RecordContext, protocol: str
) -> list[ResultRecord]:
    """R@1 of the queries of each group, with its 95 % bootstrap interval over products.

    ``groups`` maps the name of a division (``brand seen in training``) to the group of every product, in the order of
    ``Ranking.product``'s numbers. The gallery stays whole. ``task`` is ``retrieval_by_group``; ``extra`` holds
    ``division`` and ``group``.

    Raises:
        E2FashionError: a division that does not name a group for every product.
    """
    records = []
    for ranking in rankings:
        products = int(ranking.product.max()) + 1
        for division, names in groups.items():
            if len(names) < products:
                raise E2FashionError(f"'{division}' groups {len(names)} products, the ranking has {products}")
            of_query = [names[number] for number in ranking.product.tolist()]
            for group in sorted(set(of_query), key=_group_order):
                rows = torch.tensor([row for row, name in enumerate(of_query) if name == group])
                records.append(
                    BY_GROUP.record(
                        context,
                        "R@1",
                        *mean_estimate(_hits(ranking.ranks[rows], 1).double(), ranking.product[rows]),
                        protocol=protocol,
                        direction=ranking.direction,
                        positives=ranking.positives,
                        queries=len(rows),
                        candidates=float(ranking.candidates.double().mean()),
                        extra={"division": division, "group": group},
                    )
                )
    return records


def _group_order(name: str) -> tuple[bool, int, str]:
    digits = "".join(sign if sign.isdigit() else " " for sign in name).split()
    return (not digits, int(digits[0]) if digits else 0, name)
