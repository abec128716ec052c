"""The list of an ablation's runs, and its report in Markdown, LaTeX and CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from e2fashion.ablation.plan import Ablation
from e2fashion.ablation.state import FoundRun
from e2fashion.disk import write_text
from e2fashion.escape import markdown, markdown_code
from e2fashion.records import RecordContext
from e2fashion.run_folder import RunFolder
from e2fashion.tables import (
    MISSING_VALUE,
    Cell,
    Column,
    Table,
    Value,
    to_frame,
    to_latex,
    to_markdown,
    with_columns,
    without_repeats,
)
from e2fashion.tasks.localization.measure import selection_tables
from e2fashion.tasks.retrieval.protocols import COMPARED, FullGallery
from e2fashion.tasks.retrieval.rankings import (
    BOTH,
    RETRIEVAL,
    Ranking,
    compare_rankings,
    load_rankings,
    pool_rankings,
    rankings_file,
)
from e2fashion.tasks.retrieval.tables import p_value, retrieval_table
from e2fashion.types import E2FashionError, ResultRecord


@dataclass(frozen=True)
class RowResult:
    """The results of one row.

    ``changes`` maps each dotted key that differs from the base to (the base's value, the row's value); ``records``
    are those of all finished seeds, with the row's name as their ``model``; ``folders`` and ``errors`` are by seed.
    ``added_parameters`` (of E2 relative to CLIP) and ``patches`` are None until a seed is finished.
    """

    name: str
    changes: dict[str, tuple[Any, Any]]
    records: list[ResultRecord] = field(default_factory=list)
    folders: dict[int, Path] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    added_parameters: int | None = None
    patches: int | None = None


def list_runs(ablation: Ablation, runs: Sequence[tuple[FoundRun, float | None]]) -> str:
    """Each run with its changes, its state, and an estimate of its time."""
    lines = [
        f"{ablation.name}: {len(ablation.changes)} rows of {ablation.base}, {len(runs)} runs in {ablation.folder}",
        "",
    ]
    width = max(len(item.run.name) for item, _ in runs)
    for item, seconds in runs:
        where = f", in {item.folder.path}" if item.folder.path != item.run.folder else ""
        time = "" if item.state == "done" else f"  {_duration(seconds)}"
        changed = ablation.overrides[item.run.row] or "as the base"
        lines.append(f"{item.run.name:<{width}}  {item.state}{where}{time}  {changed}")
    lines += [f"{name:<{width}}  left out: {reason}" for name, reason in ablation.left_out.items()]
    waiting = [seconds for item, seconds in runs if item.state != "done"]
    known = [seconds for seconds in waiting if seconds is not None]
    total = _duration(sum(known) if len(known) == len(waiting) else None) if waiting else "all runs are done"
    return "\n".join([*lines, "", f"{len(waiting)} of {len(runs)} left: {total}" if waiting else total])


def write_report(ablation: Ablation, results: Sequence[RowResult], data_fingerprint: str) -> None:
    """Write ``report.md``, ``report.tex`` and ``report.csv`` to the ablation's folder."""
    records = [record for result in results for record in result.records]
    kinds = dict.fromkeys((r.split, r.protocol, r.positives) for r in records if r.task == RETRIEVAL.task)
    tables: dict[str, Table] = {}
    frames = []
    for split, protocol, positives in kinds:
        table = retrieval_table(
            records, split=split, protocol=protocol, positives=positives, models=[result.name for result in results]
        )
        differences = (
            _differences(ablation, results, split, protocol, positives, data_fingerprint)
            if protocol in COMPARED
            else {}
        )
        table = _with_columns(table, ablation, results, differences)
        data = f"{Path(ablation.data).name} ({data_fingerprint[:12]})"
        table = replace(table, measured=replace(table.measured, data=data, scale=f"base {ablation.base}"))
        tables[f"{split}, `{protocol}`, a hit is the same {positives}"] = table
        frame = to_frame(table)
        for name, value in (("positives", positives), ("protocol", protocol), ("split", split)):
            frame.insert(0, name, value)
        frames.append(frame)
    shown = without_repeats(tables)
    markdown = [_head(ablation, results), *(f"## {title}\n\n{to_markdown(table)}" for title, table in shown.items())]
    markdown += [to_markdown(table) for table in selection_tables(records)]
    markdown += [_failures(results)] if any(result.errors for result in results) else []
    csv = pd.concat(frames).to_csv(index=False, float_format="%.10g", lineterminator="\n") if frames else ""
    latex = "\n".join(to_latex(table) for table in shown.values())
    for name, content in (("md", "\n".join(markdown)), ("tex", latex), ("csv", csv)):
        write_text(ablation.folder / f"report.{name}", content)


def _head(ablation: Ablation, results: Sequence[RowResult]) -> str:
    finished = sum(len(result.folders) for result in results)
    seeds = ", ".join(map(str, ablation.seeds))
    lines = [
        f"# Ablation {markdown(ablation.name)}\n",
        f"Base {markdown_code(ablation.base)}, seeds {seeds}; {finished} of {len(ablation.runs)} runs "
        "finished. Mean ± standard deviation over seeds; the model of the best epoch on val.\n",
        "| row | changes |\n|---|---|",
        *(f"| {markdown(row)} | {markdown_code(text) if text else '-'} |" for row, text in ablation.overrides.items()),
    ]
    lines += [f"| {markdown(name)} | left out: {markdown(reason)} |" for name, reason in ablation.left_out.items()]
    if ablation.baseline:
        lines.append(
            f"\nDifferences are against {markdown_code(ablation.baseline)}, in percentage points, with the 95 % "
            "interval and the two-sided p-value of a paired bootstrap over products with pooled hits of the common "
            "seeds: they hold for these trained models, not for other seeds."
        )
    return "\n".join(lines) + "\n"


def _failures(results: Sequence[RowResult]) -> str:
    lines = [
        f"- {markdown(f'{result.name}/seed{seed}: {error}')}"
        for result in results
        for seed, error in result.errors.items()
    ]
    return "## Failed\n\n" + "\n".join(lines) + "\n"


def _with_columns(
    table: Table, ablation: Ablation, results: Sequence[RowResult], differences: Mapping[str, ResultRecord]
) -> Table:
    """Add seeds, added parameters and patches after the name, and the difference at the end."""
    facts = {
        result.name: [
            Cell(str(len(result.folders))),
            Cell(MISSING_VALUE if result.added_parameters is None else f"{result.added_parameters:,}"),
            Cell(MISSING_VALUE if result.patches is None else str(result.patches)),
        ]
        for result in results
    }
    table = replace(table, header=("row", *table.header[1:]))
    table = with_columns(table, ("seeds", "added parameters", "patches"), facts, position=1)
    if not ablation.baseline:
        return table
    column = Column("SumR difference", None, best="", interval=True, signed=True)
    ends = {ablation.baseline: [Cell("-"), Cell("-")]}
    for name, record in differences.items():
        value = Value(record.value, None, record.low, record.high, 1)
        ends[name] = [Cell(column.shown(value), value=value), Cell(p_value([record]))]
    return with_columns(table, (column.title, "p"), ends)


def _differences(
    ablation: Ablation, results: Sequence[RowResult], split: str, protocol: str, positives: str, data_fingerprint: str
) -> dict[str, ResultRecord]:
    """The difference in SumR between each row and the baseline, over the seeds that both have finished."""
    baseline = next((result for result in results if result.name == ablation.baseline), None)
    differences: dict[str, ResultRecord] = {}
    for result in results:
        seeds = [seed for seed in result.folders if baseline and seed in baseline.folders]
        if baseline is None or result is baseline or not seeds:
            continue
        ours, theirs = ([RunFolder(row.folders[seed]) for seed in seeds] for row in (result, baseline))
        context = RecordContext(run="", model=result.name, split=split, data_fingerprint=data_fingerprint)
        records = compare_runs(ours, theirs, context, baseline.name, positives, protocol)
        differences[result.name] = next(record for record in records if record.direction == BOTH)
    return differences


def compare_runs(
    ours: Sequence[RunFolder],
    baseline: Sequence[RunFolder],
    context: RecordContext,
    against: str,
    positives: str | None = None,
    protocol: str = FullGallery.name,
) -> list[ResultRecord]:
    """Paired bootstrap differences to the runs of a baseline under a protocol of :data:`.COMPARED`, from kept ranks.

    The queries of all runs (seeds) are pooled: a product is drawn with all its queries and runs together.
    ``positives`` is one notion of a hit (None: all).

    Raises:
        E2FashionError: a run has kept no ranks; the message says how to get them.
    """

    def pooled(folders: Sequence[RunFolder]) -> list[Ranking]:
        rankings = []
        for folder in folders:
            file = rankings_file(folder.rankings, protocol, context.split, context.data_fingerprint)
            if not file.is_file():
                raise E2FashionError(
                    f"{folder.path} has kept no ranks of {context.split} ({file.name}): evaluate it again with "
                    f"`e2fashion evaluate {folder.path} data=<catalogue> protocol={protocol} split={context.split}`."
                )
            rankings.append([item for item in load_rankings(file)[0] if positives in (None, item.positives)])
        return pool_rankings(rankings)

    seeds = [folder.read_record().get("seed") for folder in ours]
    return compare_rankings(pooled(ours), pooled(baseline), context, protocol, against, extra={"seeds": seeds})


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "no estimate yet"
    minutes = round(seconds / 60)
    return f"about {minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"about {max(minutes, 1)} min"
