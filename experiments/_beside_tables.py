"""Tables of the side evaluations of fine-tuned models: R@1 by groups of queries, and zero-shot classification."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from e2fashion.tables import Column, Table, pivot
from e2fashion.tasks.retrieval.tables import TITLES
from e2fashion.types import ResultRecord


def beside_tables(records: Sequence[ResultRecord]) -> dict[str, Table]:
    """By file suffix: R@1 by group, a table per division and direction; zero-shot metrics by label column."""
    tables: dict[str, Table] = {}
    grouped = [record for record in records if record.task == "retrieval_by_group"]
    for number, division in enumerate(dict.fromkeys(record.extra["division"] for record in grouped)):
        for direction in dict.fromkeys(record.direction for record in grouped):
            own = [r for r in grouped if (r.extra["division"], r.direction) == (division, direction)]
            caption = (
                f"{TITLES[direction]} {own[0].metric} by {division} (queries in brackets), protocol "
                f"`{own[0].protocol}` on {own[0].split}, a hit is any product with the same {own[0].positives}."
            )
            tables[f"_groups_{number}_{direction}"] = mean_table(own, _group, caption)
    if zero_shot := [record for record in records if record.task == "zero_shot"]:
        caption = (
            f"Zero-shot classification on {zero_shot[0].split} in percent: the label itself is its text, among all "
            "labels of the split (their number in brackets). 'Of the way' lies between the weights before and after "
            "fine-tuning."
        )
        tables["_zero_shot"] = mean_table(zero_shot, _label_metric, caption)
    return tables


def mean_table(records: Sequence[ResultRecord], column: Callable[[ResultRecord], str], caption: str) -> Table:
    """A row per model, a column per value of ``column``."""
    columns = [Column(title, title) for title in dict.fromkeys(map(column, records))]
    return pivot(records, ("model",), columns, row=lambda record: record.model, column=column, caption=caption)


def _group(record: ResultRecord) -> str:
    return f"{record.extra['group']} ({record.queries})"


def _label_metric(record: ResultRecord) -> str:
    return f"{record.extra['entity']} ({record.candidates:g}) {record.metric}"
