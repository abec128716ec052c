"""Views of experiments: tables of the rows with the published values, in Markdown, LaTeX and CSV; curves over a key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from e2fashion.ablation.report import compare_runs
from e2fashion.config import load_config
from e2fashion.plots import Point, draw_curves
from e2fashion.published import PublishedRow
from e2fashion.records import RecordContext, append_records
from e2fashion.run_folder import RunFolder
from e2fashion.tables import (
    MISSING_VALUE,
    Cell,
    Table,
    summarize,
    to_csv,
    to_latex,
    to_markdown,
    with_columns,
    without_repeats,
)
from e2fashion.tasks.retrieval.protocols import COMPARED, FullGallery
from e2fashion.tasks.retrieval.rankings import BOTH, RETRIEVAL
from e2fashion.tasks.retrieval.tables import RETRIEVAL_COLUMNS, Metric, difference_table, retrieval_table
from e2fashion.training.config import RunConfig
from e2fashion.types import ResultRecord
from experiments.common.experiment import Material

RECORDS = "records.jsonl"
HITS = {"product": "", "text": "_same_text"}
"""Notions of a hit, with the suffix of their files."""


def retrieval_view(
    protocol: str = "full",
    split: str = "test",
    columns: Sequence[Metric] = RETRIEVAL_COLUMNS,
    parameters: bool = False,
    facts: Mapping[str, Callable[[RunFolder], str]] | None = None,
    curve: tuple[Callable[[RunConfig], float], str] | None = None,
    side: Callable[[Material], tuple[list[ResultRecord], dict[str, Table]]] | None = None,
) -> Callable[[Material], list[Path]]:
    """A view: one table per notion of a hit, and of differences to the baseline.

    Differences are under ``protocol`` where runs keep its ranks, else under :class:`.FullGallery`.
    ``facts`` are columns that describe a row's first run, by title; ``curve`` is a number of each row's run, and its
    name, over which :func:`draw_rows` draws a figure of the same records; ``side`` evaluates more, and returns records,
    and tables by file suffix.
    """

    def view(material: Material) -> list[Path]:
        tables: dict[str, Table] = {}
        for positives, suffix in HITS.items():
            if any((r.task, r.protocol, r.positives) == ("retrieval", protocol, positives) for r in material.records):
                # Published numbers count the product alone as a hit.
                published = material.published if positives == "product" else ()
                table = retrieval_table(
                    material.records,
                    split=split,
                    protocol=protocol,
                    positives=positives,
                    columns=columns,
                    published={row.system: row.columns() for row in published},
                    labels={row.system: _label(row, protocol) for row in published},
                )
                tables[suffix] = _with_facts(table, material, facts or {}, parameters)
        differences = difference_records(material, split, protocol if protocol in COMPARED else FullGallery.name)
        for positives, suffix in HITS.items():
            if any(record.positives == positives for record in differences):
                tables[f"{suffix}_differences"] = difference_table(differences, positives)
        more, more_tables = side(material) if side else ([], {})
        tables |= more_tables
        material = replace(material, records=[*material.records, *differences, *more])
        files = write_tables(material, tables, source_notes(material.published))
        return [*files, draw_rows(material, *curve, protocol, split)] if curve else files

    return view


def difference_records(material: Material, split: str, protocol: str) -> list[ResultRecord]:
    """Every row against the experiment's baseline, or its own, in their common seeds, see :func:`compare_runs`.

    Empty for rows without a baseline, or without runs of it.
    """
    given = material.experiment.baseline
    baselines = given if isinstance(given, Mapping) else dict.fromkeys(material.folders, given)
    fingerprint = next(iter(material.catalogues.values())).fingerprint
    records = []
    for title, folders in material.folders.items():
        baseline = baselines.get(title)
        if baseline is None or baseline not in material.folders:
            continue
        ours, theirs = by_seed(folders), by_seed(material.folders[baseline])
        seeds = [seed for seed in ours if seed in theirs and ours[seed].path != theirs[seed].path]
        if seeds:
            context = RecordContext(run="", model=title, split=split, data_fingerprint=fingerprint)
            pairs = [ours[seed] for seed in seeds], [theirs[seed] for seed in seeds]
            records += compare_runs(*pairs, context, baseline, protocol=protocol)
    return records


def by_seed(folders: Sequence[RunFolder]) -> dict[int, RunFolder]:
    """The runs of a row by their seed."""
    return {int(folder.read_record()["seed"]): folder for folder in folders}


def write_tables(material: Material, tables: dict[str, Table], notes: Sequence[str] = ()) -> list[Path]:
    """``<name>.md`` with every table, ``<name><suffix>.tex`` and ``.csv`` of each, and the records behind them.

    Of tables with equal cells only the first is written.
    """
    name, folder = material.experiment.name, material.output
    folder.mkdir(parents=True, exist_ok=True)
    records = folder / RECORDS
    records.unlink(missing_ok=True)
    append_records(records, material.records)
    parts = [f"# {material.experiment.title}: {material.measured_on}\n", material.caption]
    files = [folder / f"{name}.md"]
    for suffix, table in without_repeats(tables).items():
        measured = replace(table.measured, data=material.measured_on, scale=material.scale, smoke=material.smoke)
        table = replace(table, measured=measured)
        parts.append(to_markdown(table))
        for ending, text in ((".tex", to_latex(table)), (".csv", to_csv(table))):
            file = folder / f"{name}{suffix}{ending}"
            file.write_text(text, encoding="utf-8")
            files.append(file)
    files[0].write_text("\n".join([*parts, *notes]) + "\n", encoding="utf-8")
    return [*files, records]


def draw_rows(
    material: Material, number: Callable[[RunConfig], float], x_label: str, protocol: str, split: str
) -> Path:
    """SumR (a hit is the same product) over ``number``, a curve for E2 and one for runs without entities (CLIP-FT).

    Whiskers: one standard deviation over seeds, or the 95 % interval of a single one.
    """
    curves: dict[str, list[Point]] = {}
    for title, folders in material.folders.items():
        seeds = [
            record
            for record in material.records
            if (record.model, record.metric, record.direction) == (title, "SumR", BOTH)
            and (record.task, record.protocol, record.positives, record.split)
            == (RETRIEVAL.task, protocol, "product", split)
        ]
        config = load_config(RunConfig, folders[0].config)
        name = "E2" if any(config.model.entities.values()) else "CLIP-FT"
        curves.setdefault(name, []).append(Point.of(number(config), summarize(seeds)))
    return draw_curves(curves, material.output / f"{material.experiment.name}.png", x_label, "SumR", log_x=True)


def _label(row: PublishedRow, protocol: str) -> str:
    """The name of a published row, with its protocol where that is another than ours."""
    return row.label(*([row.protocol] if row.protocol not in (protocol, MISSING_VALUE) else []))


def source_notes(rows: Sequence[PublishedRow]) -> list[str]:
    """The source of each published row, and its note."""
    if not rows:
        return ["No published values of this table are known."]
    lines = [f"- {row.system}: {row.citation}" + (f" ({row.note})" if row.note else "") for row in rows]
    return ["Published rows (`experiments/published.yaml`); n/a is what could not be read:\n", *lines]


def _with_facts(
    table: Table, material: Material, facts: Mapping[str, Callable[[RunFolder], str]], parameters: bool
) -> Table:
    """The table with ``facts`` and parameters behind the model."""
    counts = {record.model: record.value for record in material.records if record.metric == "parameters"}
    runs = material.folders
    cells = {
        title: [
            *(Cell(fact(runs[title][0]) if title in runs else MISSING_VALUE) for fact in facts.values()),
            *([Cell(f"{counts[title] / 1e6:.2f} M" if title in counts else MISSING_VALUE)] if parameters else []),
        ]
        for title in dict.fromkeys(record.model for record in material.records)
    }
    return with_columns(table, [*facts, *(["parameters"] if parameters else [])], cells, position=1)
