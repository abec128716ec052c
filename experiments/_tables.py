"""Tables of experiments: the records of its rows as Markdown, LaTeX and CSV, the published values beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from e2fashion.eval.published import PublishedRow
from e2fashion.eval.tables import RETRIEVAL_COLUMNS, Cell, Column, Table, retrieval_table, to_csv, to_latex, to_markdown
from e2fashion.records import append_records
from e2fashion.types import ResultRecord
from experiments._data import DATA_SETS
from experiments._experiment import Material
from experiments._significance import difference_records, difference_table

UNKNOWN = "n/a"
RECORDS = "records.jsonl"
HITS = {"product": "", "text": "_same_text"}
"""Notions of a hit, with what is added to a file's name."""


def retrieval_view(
    protocol: str = "full",
    split: str = "test",
    columns: Sequence[Column] = RETRIEVAL_COLUMNS,
    parameters: bool = False,
    figure: Callable[[Material], Path] | None = None,
    beside: Callable[[Material], tuple[list[ResultRecord], dict[str, Table]]] | None = None,
) -> Callable[[Material], list[Path]]:
    """A view: one table per notion of a hit, and of differences to the baseline.

    ``figure`` draws what goes with it; ``beside`` measures more, and gives its records and tables by file suffix.
    """

    def view(material: Material) -> list[Path]:
        tables: dict[str, Table] = {}
        for positives, suffix in HITS.items():
            if any((r.task, r.protocol, r.positives) == ("retrieval", protocol, positives) for r in material.records):
                table = retrieval_table(
                    material.records,
                    split=split,
                    protocol=protocol,
                    positives=positives,
                    models=list(material.folders),
                    columns=columns,
                    # Published numbers count the product alone as a hit.
                    published=_known(material) if positives == "product" else None,
                )
                table = _labelled(table, material, protocol)
                tables[suffix] = _with_parameters(table, material.records) if parameters else table
        differences = difference_records(material, split)
        for positives, suffix in HITS.items():
            if any(record.positives == positives for record in differences):
                tables[f"{suffix}_differences"] = difference_table(differences, positives)
        more, more_tables = beside(material) if beside else ([], {})
        tables |= more_tables
        material = replace(material, records=[*material.records, *differences, *more])
        files = write_tables(material, tables, source_notes(material.published))
        return [*files, figure(material)] if figure else files

    return view


def write_tables(material: Material, tables: dict[str, Table], notes: Sequence[str] = ()) -> list[Path]:
    """``<name>.md`` with every table, ``<name><suffix>.tex`` and ``.csv`` of each, and the records behind them."""
    name, folder = material.experiment.name, material.output
    folder.mkdir(parents=True, exist_ok=True)
    records = folder / RECORDS
    records.unlink(missing_ok=True)
    append_records(records, material.records)
    parts = [f"# {material.experiment.title}\n", material.caption]
    files = [folder / f"{name}.md"]
    for suffix, table in tables.items():
        parts.append(to_markdown(table))
        for ending, text in ((".tex", to_latex(table)), (".csv", to_csv(table))):
            file = folder / f"{name}{suffix}{ending}"
            file.write_text(text, encoding="utf-8")
            files.append(file)
    files[0].write_text("\n".join([*parts, *notes]) + "\n", encoding="utf-8")
    return [*files, records]


def _known(material: Material) -> dict[str, dict[Column, float]]:
    return {row.system: row.columns() for row in material.published}


def _labelled(table: Table, material: Material, protocol: str) -> Table:
    """The table with published rows marked, and with what they have otherwise than ours: data set, protocol."""
    titles = list(material.folders)
    labels = {}
    for row in material.published:
        other = [DATA_SETS[row.data].title] if row.data not in material.catalogues else []
        other += [row.protocol] if row.protocol not in (protocol, UNKNOWN) else []
        name = f"{row.system} (published)" if row.system in titles else row.system
        labels[name] = f"{row.system} ({', '.join(['published', *other])})"
    rows = [(Cell(labels.get(row[0].text, row[0].text)), *row[1:]) for row in table.rows]
    return replace(table, rows=tuple(rows))


def source_notes(rows: Sequence[PublishedRow]) -> list[str]:
    """Where each published row comes from, and what has to be known about it."""
    if not rows:
        return ["No published values of this table are known."]
    lines = [f"- {row.system}: {row.citation}" + (f" ({row.note})" if row.note else "") for row in rows]
    return ["Published rows (`experiments/published.yaml`); n/a is what could not be read:\n", *lines]


def _with_parameters(table: Table, records: Sequence[ResultRecord]) -> Table:
    counts = {record.model: record.value for record in records if record.metric == "parameters"}
    rows = [
        (row[0], Cell(f"{counts[row[0].text] / 1e6:.2f} M" if row[0].text in counts else "n/a"), *row[1:])
        for row in table.rows
    ]
    return replace(table, header=(table.header[0], "parameters", *table.header[1:]), rows=tuple(rows))
