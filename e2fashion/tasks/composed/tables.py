"""Results of text-guided retrieval: tables of recalls and differences per mode and model, and a figure of queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from e2fashion.figures import ImageArray, RetrievedRow, draw_retrieved
from e2fashion.published import PublishedRow
from e2fashion.tables import Column, KnownRow, Table, pivot
from e2fashion.tasks.composed.measure import COMPOSED, DIFFERENCES, MEAN, TOP_K
from e2fashion.tasks.composed.modes import MODES, TITLES
from e2fashion.tasks.retrieval.tables import compared_metric, p_value
from e2fashion.types import ResultRecord

ALIKE = ("line", "instruction", "pad_aspect", "similarity", "changes")
"""Settings of the task: records that differ in them are in different tables."""
SHOWN = 5
"""Results of a query in the figure."""


def composed_tables(records: Sequence[ResultRecord]) -> list[Table]:
    """One table per split, protocol, catalogue and setting of the task, each followed by its differences."""
    measured, compared = (kind.grouped(records, _kind) for kind in (COMPOSED, DIFFERENCES))
    tables = []
    for kind in dict.fromkeys(_kind(record) for record in records if record.task in (COMPOSED.task, DIFFERENCES.task)):
        if kind in measured:
            tables.append(composed_table(measured[kind]))
        if kind in compared:
            tables.append(composed_difference_table(compared[kind]))
    return tables


def composed_table(records: Sequence[ResultRecord], known: Sequence[KnownRow] = ()) -> Table:
    """Records of one task as a table, below ``known`` rows (published values).

    A single category has all R@k with intervals; several have R@10 and R@50 each, and of their mean.
    """
    several = len({record.direction for record in records if record.direction != MEAN}) > 1
    return pivot(
        records,
        ("mode", "model", "with"),
        [
            Column(f"{category} {metric}" if several else metric, (category, metric), interval=not several)
            for category, metric in _columns(records)
        ],
        row=_mode_and_model,
        column=lambda record: (record.direction, record.metric),
        rows=_rows(records),
        labels=lambda key, alike: (TITLES.get(key[0], key[0]), key[1], _notes(alike)),
        known=known,
        caption=_caption(records),
    )


def known_composed_rows(published: Sequence[PublishedRow]) -> list[KnownRow]:
    """Published values as rows of the table."""
    return [KnownRow(("published", row.label(), row.note), row.columns()) for row in published]


def _mode_and_model(record: ResultRecord) -> tuple[str, str]:
    return record.extra["arm"], record.model


def _rows(records: Sequence[ResultRecord]) -> list[tuple[str, str]]:
    """Modes in their order, for each the models in that of the records."""
    models = list(dict.fromkeys(record.model for record in records))
    keys = set(map(_mode_and_model, records))
    modes = dict.fromkeys((*MODES, *(mode for mode, _ in keys)))
    return [(mode, model) for mode in modes for model in models if (mode, model) in keys]


def _columns(records: Sequence[ResultRecord]) -> list[tuple[str, str]]:
    """Category and metric of every column, the mean last."""
    categories = list(dict.fromkeys(record.direction for record in records))
    if len(categories) == 1:
        return [(categories[0], f"R@{k}") for k in TOP_K]
    ordered = [name for name in categories if name != MEAN] + [MEAN] * (MEAN in categories)
    return [(category, f"R@{k}") for category in ordered for k in TOP_K[-2:]]


def composed_difference_table(records: Sequence[ResultRecord]) -> Table:
    """The difference to the baseline in each mode, in percentage points: paired bootstrap over the units."""
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
        ("mode", "model"),
        [shown(*column) for column in columns],
        row=row,
        column=lambda record: (record.direction, compared_metric(record)),
        rows=sorted({row(record): None for record in records}, key=lambda key: (*MODES, key[0]).index(key[0])),
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


def _notes(records: Sequence[ResultRecord]) -> str:
    """Settings and outcomes of a mode: its weight, its language model, how often it fell back."""
    extra = records[0].extra
    notes = [f"image's share {extra['weight']:g}"] if "weight" in extra else []
    notes += [extra["language_model"]] if extra.get("language_model") else []
    per_category = {record.direction: record for record in records if record.direction != MEAN}
    fallbacks = sum(record.extra.get("fallbacks", 0) for record in per_category.values())
    if fallbacks:
        queries = sum(record.queries for record in per_category.values())
        notes.append(f"{fallbacks} of {queries} by the instruction alone")
    return ", ".join(notes)


def _caption(records: Sequence[ResultRecord]) -> str:
    first = records[0]
    parts = []
    for category in dict.fromkeys(record.direction for record in records if record.direction != MEAN):
        record = next(record for record in records if record.direction == category)
        numbers = f"{record.queries:,} queries of {record.extra['units']:,} units among {record.candidates:,.0f} images"
        parts.append(numbers if category == "all" else f"{category}: {numbers}")
    with_captions = [record.extra for record in records if "memory" in record.extra]
    captioners = {extra.get("captioner") or f"the nearest of {extra['memory']}" for extra in with_captions}
    captions = f" Captions: {'; '.join(sorted(captioners))}." if captioners else ""
    orders = {record.extra["both_orders"] for record in records if "both_orders" in record.extra}
    averaged = " Both orders of two captions averaged." if orders == {True} and first.protocol != "other_colour" else ""
    score = " Compared by the regional score." if first.extra.get("similarity") else ""
    line = first.extra.get("line")
    same = f" A line: the same {line}, another {first.extra.get('changes', 'color')}." if line else ""
    return (
        f"Protocol `{first.protocol}` on {first.split}; the reference stays in the gallery. {'; '.join(parts)}."
        f"{same}{score}{captions}{averaged}"
    )


def draw_composed(
    traces: Mapping[str, Sequence[Mapping[str, Any]]],
    images: Callable[[Sequence[str]], Mapping[str, ImageArray]],
    file: Path,
    queries: int,
    title: str,
    units: Sequence[int],
) -> None:
    """A row per query: the reference, the instruction, and the best images of every label, hits in green.

    ``traces`` are those of each label (model or mode) of the same queries; ``images`` returns pixels by id. The queries
    are spread evenly over the units, one each, whatever their results.
    """
    first = next(iter(traces.values()))
    row_of = {unit: row for row, unit in reversed(list(enumerate(units)))}
    candidates = sorted(row_of.values())
    number = min(queries, len(candidates))
    chosen = [candidates[item * len(candidates) // number] for item in range(number)]
    shown = min(SHOWN, *(len(listed[row]["found"]) for listed in traces.values() for row in chosen))
    needed = [first[row]["reference"] for row in chosen]
    needed += [name for listed in traces.values() for row in chosen for name in listed[row]["found"][:shown]]
    pixels = images(list(dict.fromkeys(needed)))
    lines = []
    for row in chosen:
        entry = first[row]
        best = {
            label: [
                (pixels[name], bool(hit))
                for name, hit in list(zip(listed[row]["found"], listed[row]["hits"], strict=True))[:shown]
            ]
            for label, listed in traces.items()
        }
        ranks = {label: int(listed[row]["rank"]) for label, listed in traces.items()}
        text = " and ".join(entry["instructions"]) or "(no instruction)"
        lines.append(RetrievedRow(f"this, but: {text}", pixels[entry["reference"]], best, ranks))
    draw_retrieved(lines, file, title)
