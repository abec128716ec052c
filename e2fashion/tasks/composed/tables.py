"""Tables of text-guided retrieval: a line per arm and model, recalls per category and their mean, and differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from e2fashion.published import PublishedRow
from e2fashion.tables import Column, KnownRow, Table, pivot
from e2fashion.tasks.composed.arms import ARMS, TITLES
from e2fashion.tasks.composed.measure import COMPOSED, DIFFERENCES, MEAN, TOP_K
from e2fashion.tasks.retrieval.tables import compared_metric, p_value
from e2fashion.types import ResultRecord

ALIKE = ("line", "instruction", "pad_aspect")
"""Settings of the task: what differs in them stands in different tables."""


def composed_tables(records: Sequence[ResultRecord]) -> list[Table]:
    """One table per split, protocol, catalogue and setting of the task, each followed by its differences."""
    kinds: dict[tuple[Any, ...], list[ResultRecord]] = {}
    for record in records:
        if record.task in (COMPOSED.task, DIFFERENCES.task):
            kinds.setdefault(_kind(record), []).append(record)
    tables = []
    for alike in kinds.values():
        if measured := [record for record in alike if record.task == COMPOSED.task]:
            tables.append(composed_table(measured))
        if compared := [record for record in alike if record.task == DIFFERENCES.task]:
            tables.append(composed_difference_table(compared))
    return tables


def composed_table(records: Sequence[ResultRecord], known: Sequence[KnownRow] = ()) -> Table:
    """Records of one task as a table; ``known`` rows (published values) stand above.

    One category shows all R@k with intervals; several show R@10 and R@50 each, and of their mean.
    """
    several = len({record.direction for record in records if record.direction != MEAN}) > 1
    return pivot(
        records,
        ("arm", "model", "with"),
        [
            Column(f"{category} {metric}" if several else metric, (category, metric), interval=not several)
            for category, metric in _columns(records)
        ],
        row=_arm_and_model,
        column=lambda record: (record.direction, record.metric),
        rows=_rows(records),
        labels=lambda key, own: (TITLES.get(key[0], key[0]), key[1], _notes(own)),
        known=known,
        caption=_caption(records),
    )


def known_composed_rows(published: Sequence[PublishedRow]) -> list[KnownRow]:
    """Published values as rows of the table."""
    return [KnownRow(("published", row.label(), row.note), row.columns()) for row in published]


def _arm_and_model(record: ResultRecord) -> tuple[str, str]:
    return record.extra["arm"], record.model


def _rows(records: Sequence[ResultRecord]) -> list[tuple[str, str]]:
    """Arms in their order, within them models in that of the records."""
    models = list(dict.fromkeys(record.model for record in records))
    there = set(map(_arm_and_model, records))
    arms = dict.fromkeys((*ARMS, *(arm for arm, _ in there)))
    return [(arm, model) for arm in arms for model in models if (arm, model) in there]


def _columns(records: Sequence[ResultRecord]) -> list[tuple[str, str]]:
    """Category and metric of every column, the mean last."""
    categories = list(dict.fromkeys(record.direction for record in records))
    if len(categories) == 1:
        return [(categories[0], f"R@{k}") for k in TOP_K]
    ordered = [name for name in categories if name != MEAN] + [MEAN] * (MEAN in categories)
    return [(category, f"R@{k}") for category in ordered for k in TOP_K[-2:]]


def composed_difference_table(records: Sequence[ResultRecord]) -> Table:
    """What a model gains on the baseline under each arm, in percentage points: paired bootstrap over the units."""
    columns = list(dict.fromkeys((record.direction, compared_metric(record)) for record in records))
    several = len({direction for direction, _ in columns}) > 1
    seeds = {record.seed for record in records}
    first = records[0]

    def row(record: ResultRecord) -> tuple[str, str]:
        return record.extra["arm"], record.model if len(seeds) == 1 else f"{record.model}, seed {record.seed}"

    def shown(direction: str, metric: str) -> Column:
        title = f"{direction} {metric}" if several else metric
        return Column(title, (direction, metric), best="", interval=True, signed=True, note=_with_p)

    return pivot(
        records,
        ("arm", "model"),
        [shown(*column) for column in columns],
        row=row,
        column=lambda record: (record.direction, compared_metric(record)),
        rows=sorted({row(record): None for record in records}, key=lambda key: (*ARMS, key[0]).index(key[0])),
        labels=lambda key, _: (TITLES.get(key[0], key[0]), key[1]),
        caption=f"Difference to {first.extra['against']} in percentage points, protocol `{first.protocol}` on "
        f"{first.split}: paired bootstrap of the same queries, those of one unit drawn together; 95 % intervals, "
        "two-sided p.",
    )


def _with_p(records: Sequence[ResultRecord]) -> str:
    return f", p {p_value(records)}"


def _kind(record: ResultRecord) -> tuple[Any, ...]:
    settings = tuple(str(record.extra.get(name)) for name in ALIKE)
    return (record.split, record.protocol, record.data_fingerprint, *settings)


def _notes(own: Sequence[ResultRecord]) -> str:
    """What an arm was run with: the weight it got, the model it asked, how often it fell back."""
    extra = own[0].extra
    notes = [f"picture's share {extra['weight']:g}"] if "weight" in extra else []
    notes += [extra["language_model"]] if extra.get("language_model") else []
    per_category = {record.direction: record for record in own if record.direction != MEAN}
    fallbacks = sum(record.extra.get("fallbacks", 0) for record in per_category.values())
    if fallbacks:
        asked = sum(record.queries for record in per_category.values())
        notes.append(f"{fallbacks} of {asked} by the instruction alone")
    return ", ".join(notes)


def _caption(records: Sequence[ResultRecord]) -> str:
    first = records[0]
    parts = []
    for category in dict.fromkeys(record.direction for record in records if record.direction != MEAN):
        own = next(record for record in records if record.direction == category)
        said = f"{own.queries:,} queries of {own.extra['units']:,} units among {own.candidates:,.0f} pictures"
        parts.append(said if category == "all" else f"{category}: {said}")
    read_captions = [record for record in records if "memory" in record.extra]
    told = {record.extra.get("captioner") or f"the nearest of {record.extra['memory']}" for record in read_captions}
    captions = f" Captions: {'; '.join(sorted(told))}." if told else ""
    orders = {record.extra["both_orders"] for record in records if "both_orders" in record.extra}
    averaged = " Both orders of two captions averaged." if orders == {True} and first.protocol != "other_colour" else ""
    line = first.extra.get("line")
    same = f" A line: the same {line} but for the colour." if line else ""
    return (
        f"Protocol `{first.protocol}` on {first.split}; the reference stays in the gallery. {'; '.join(parts)}."
        f"{same}{captions}{averaged}"
    )
