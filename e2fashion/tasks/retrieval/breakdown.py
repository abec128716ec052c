"""Recall by groups of queries: how often the brand occurs in training, how long the text is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch

from e2fashion.metrics.bootstrap import bootstrap, interval, weighted_means
from e2fashion.records import RecordContext, declare
from e2fashion.tasks.retrieval.rankings import Ranking
from e2fashion.types import E2FashionError, ResultRecord

UNKNOWN = "unknown"
BY_GROUP = declare("retrieval_by_group", identified_by=("division", "group"))


def bounded_groups(bounds: Sequence[int]) -> Callable[[int], str]:
    """Names of the ranges between whole numbers: ``[0, 1, 10]`` gives ``0``, ``1-9`` and ``10+``."""
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
    counts: dict[str, int] = {}
    for value in training:
        if value is not None:
            counts[value] = counts.get(value, 0) + 1
    name = bounded_groups(bounds)
    return [UNKNOWN if value is None else name(counts.get(value, 0)) for value in values]


def length_groups(texts: Sequence[str], bounds: Sequence[int] = (0, 5, 7, 9)) -> list[str]:
    """The group of every text by its number of words."""
    name = bounded_groups(bounds)
    return [name(len(text.split())) for text in texts]


def recall_by_group(
    rankings: Sequence[Ranking],
    groups: Mapping[str, Sequence[str]],
    context: RecordContext,
    protocol: str,
    k: int = 1,
    resamples: int = 1000,
) -> list[ResultRecord]:
    """R@k of the queries of each group, with its 95 % bootstrap interval over products.

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
                hits = 100.0 * (ranking.ranks[rows] <= k)[:, None].double()
                unit = ranking.product[rows].unique(return_inverse=True)[1]
                units = int(unit.max()) + 1
                low, high = interval(bootstrap(weighted_means(hits, unit, units), units, resamples))
                records.append(
                    BY_GROUP.record(
                        context,
                        f"R@{k}",
                        float(hits.mean()),
                        float(low[0]),
                        float(high[0]),
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
