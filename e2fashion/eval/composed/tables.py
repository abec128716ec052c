"""Tables of text-guided retrieval: a line per arm and model, recalls per category and their mean, and differences."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from e2fashion.eval.composed.measure import COMPOSED, DIFFERENCES, MEAN, TOP_K
from e2fashion.eval.tables import MISSING_VALUE, Cell, Table, shown
from e2fashion.tasks.composed import ARMS, TITLES
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


def composed_table(records: Sequence[ResultRecord], known: Sequence[tuple[Cell, ...]] = ()) -> Table:
    """Records of one task as a table; ``known`` lines (published values) stand above, with no part in what is best.

    One category shows all R@k with intervals; several show R@10 and R@50 each, and of their mean.
    """
    categories = list(dict.fromkeys(record.direction for record in records if record.direction != MEAN))
    several = len(categories) > 1
    columns = _columns(records)
    models = list(dict.fromkeys(record.model for record in records))
    values: dict[tuple[str, str, str, str], list[ResultRecord]] = {}
    for record in records:
        values.setdefault((record.extra["arm"], record.model, record.direction, record.metric), []).append(record)
    rows = []
    for arm, model in ((arm, model) for arm in ARMS for model in models):
        if not any(key[:2] == (arm, model) for key in values):
            continue
        cells = []
        for column in columns:
            own = values.get((arm, model, *column), [])
            rivals = [_mean(values[key]) for key in values if key[2:] == column]
            cells.append(Cell(shown(own, 1, not several), bool(own) and len(rivals) > 1 and _mean(own) == max(rivals)))
        rows.append((Cell(TITLES[arm]), Cell(model), Cell(_notes(values, arm, model)), *cells))
    heads = [f"{category} {metric}" if several else metric for category, metric in columns]
    return Table(("arm", "model", "with", *heads), (*known, *rows), _caption(records))


def _columns(records: Sequence[ResultRecord]) -> list[tuple[str, str]]:
    """Category and metric of every column, the mean last."""
    categories = list(dict.fromkeys(record.direction for record in records))
    if len(categories) == 1:
        return [(categories[0], f"R@{k}") for k in TOP_K]
    ordered = [name for name in categories if name != MEAN] + [MEAN] * (MEAN in categories)
    return [(category, f"R@{k}") for category in ordered for k in TOP_K[-2:]]


def composed_difference_table(records: Sequence[ResultRecord]) -> Table:
    """What a model gains on the baseline under each arm, in percentage points: paired bootstrap over the units."""
    columns = list(dict.fromkeys((record.direction, record.metric.partition(" - ")[0]) for record in records))
    seeds = {record.seed for record in records}
    found: dict[tuple[str, str], dict[tuple[str, str], ResultRecord]] = {}
    for record in records:
        model = record.model if len(seeds) == 1 else f"{record.model}, seed {record.seed}"
        own = found.setdefault((record.extra["arm"], model), {})
        own[record.direction, record.metric.partition(" - ")[0]] = record
    rows = [
        (Cell(TITLES[arm]), Cell(model), *(Cell(_difference(own.get(column))) for column in columns))
        for (arm, model), own in sorted(found.items(), key=lambda item: ARMS.index(item[0][0]))
    ]
    several = len({direction for direction, _ in columns}) > 1
    heads = [f"{direction} {metric}" if several else metric for direction, metric in columns]
    first = records[0]
    caption = (
        f"Difference to {first.extra['against']} in percentage points, protocol `{first.protocol}` on {first.split}: "
        "paired bootstrap of the same queries, those of one unit drawn together; 95 % intervals, two-sided p."
    )
    return Table(("arm", "model", *heads), tuple(rows), caption)


def without_intervals(table: Table) -> Table:
    """The same table with values alone."""
    rows = [tuple(replace(cell, text=cell.text.partition(" [")[0]) for cell in row) for row in table.rows]
    return replace(table, rows=tuple(rows))


def _kind(record: ResultRecord) -> tuple[Any, ...]:
    settings = tuple(str(record.extra.get(name)) for name in ALIKE)
    return (record.split, record.protocol, record.data_fingerprint, *settings)


def _mean(records: Sequence[ResultRecord]) -> float:
    return round(statistics.fmean(record.value for record in records), 1)


def _difference(record: ResultRecord | None) -> str:
    if record is None:
        return MISSING_VALUE
    return f"{record.value:+.1f} [{record.low:+.1f}, {record.high:+.1f}], p {record.extra['p_value']:.3f}"


def _notes(values: dict[tuple[str, str, str, str], list[ResultRecord]], arm: str, model: str) -> str:
    """What an arm was run with: the weight it got, the model it asked, how often it fell back."""
    own = [record for key, listed in values.items() if key[:2] == (arm, model) for record in listed]
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
