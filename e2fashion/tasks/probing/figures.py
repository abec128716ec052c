"""Figures of linear probes: a bar per model and kind of features in every entity, and few-shot curves."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from e2fashion.disk import file_name, write_text
from e2fashion.plots import Point, draw_bars, draw_curves
from e2fashion.tasks.probing.probe import ALL, PROBE
from e2fashion.types import E2FashionError, ResultRecord

MAJORITY = "majority class"
LABELS = {"accuracy": "accuracy (%)", "macro_f1": "macro-F1 (%)", "weighted_f1": "weighted F1 (%)"}
Place = tuple[str, str]
"""Split and catalogue fingerprint: what probes must share to stand in one figure."""


def probe_places(records: Sequence[ResultRecord]) -> list[Place]:
    """Where the probes among ``records`` were measured, in the order of the records."""
    return list(
        dict.fromkeys((record.split, record.data_fingerprint) for record in records if record.task == PROBE.task)
    )


def draw_probes(records: Sequence[ResultRecord], file: Path, metric: str = "accuracy") -> Path:
    """A group of bars per entity, a bar per model (and kind of features where there are several), the majority last.

    Whiskers are the 95 % interval of a single record, or one standard deviation either side over several seeds.

    Raises:
        E2FashionError: no probes among the records, or probes on several splits or catalogues.
    """
    chosen = [
        record for record in _one_place(records, file) if record.metric == metric and record.extra["shots"] == ALL
    ]
    bars: dict[str, dict[str, Point]] = {}
    majority: dict[str, Point] = {}
    for series, entity, own in _series(chosen):
        group = f"{entity}\n{own[0].extra['classes']} classes"
        bars.setdefault(series, {})[group] = _point(0.0, own)
        majority[group] = Point(0.0, own[0].extra["majority"][metric])
    return draw_bars(bars | {MAJORITY: majority}, file, LABELS[metric])


def draw_few_shots(records: Sequence[ResultRecord], entity: str, file: Path, metric: str = "accuracy") -> Path:
    """A curve per model (and kind of features) of one entity over the examples per class, on a logarithmic axis.

    Whiskers are one standard deviation over draws either side; the whole of train is left to the bars.

    Raises:
        E2FashionError: no few-shot probe of the entity among the records.
    """
    chosen = [
        record
        for record in _one_place(records, file)
        if record.metric == metric and record.extra["entity"] == entity and record.extra["shots"] != ALL
    ]
    curves: dict[str, list[Point]] = {}
    for shots in dict.fromkeys(record.extra["shots"] for record in chosen):
        for series, _, own in _series([record for record in chosen if record.extra["shots"] == shots]):
            mean = statistics.fmean(record.value for record in own)
            spread = statistics.fmean(record.extra["deviation"][metric] for record in own)
            curves.setdefault(series, []).append(Point(float(shots), mean, mean - spread, mean + spread))
    return draw_curves(curves, file, f"examples per {entity} class", LABELS[metric], log_x=True)


def add_probe_figures(records: Sequence[ResultRecord], report: Path) -> str:
    """Draw bars, and few-shot curves of every entity that has any, beside a report; returns what is added to its text.

    One figure per split, catalogue and kind of features; nothing without probes. What cannot be drawn (too many models,
    no matplotlib) is said there.
    """
    lines: list[str] = []
    for number, place in enumerate(probe_places(records)):
        there = [r for r in records if r.task == PROBE.task and (r.split, r.data_fingerprint) == place]
        for kind in dict.fromkeys(record.extra["features"] for record in there):
            own = [record for record in there if record.extra["features"] == kind]
            stem = f"{report.stem}_probe" + (f"_{number + 1}" if number else "") + f"_{kind}"
            few = dict.fromkeys(record.extra["entity"] for record in own if record.extra["shots"] != ALL)
            folder, on = report.parent / "figures", f"{kind} features on {place[0]}"
            try:
                bars = draw_probes(own, folder / f"{file_name(stem)}.png")
                lines.append(f"![linear probes of {on}](figures/{bars.name})\n")
                for entity in few:
                    curves = draw_few_shots(own, entity, folder / f"{file_name(f'{stem}_{entity}')}_few_shots.png")
                    lines.append(f"![few-shot probes of {entity}, {on}](figures/{curves.name})\n")
            except E2FashionError as error:
                lines.append(f"No figure: {error}.\n")
    if not lines:
        return ""
    text = "\n" + "\n".join(lines)
    write_text(report, (report.read_text(encoding="utf-8") if report.is_file() else "") + text)
    return text


def _one_place(records: Sequence[ResultRecord], file: Path) -> list[ResultRecord]:
    places = probe_places(records)
    if len(places) != 1:
        found = "; ".join(f"{split} of catalogue {fingerprint[:12]}" for split, fingerprint in places) or "no probes"
        raise E2FashionError(f"{file.name} needs probes on one split of one catalogue and got {found}.")
    return [record for record in records if record.task == PROBE.task]


def _series(records: Sequence[ResultRecord]) -> list[tuple[str, str, list[ResultRecord]]]:
    """Name, entity and records (several seeds) of every bar; features are named where a figure has several kinds."""
    several = len({record.extra["features"] for record in records}) > 1
    found: dict[tuple[str, str], list[ResultRecord]] = {}
    for record in records:
        name = f"{record.model}, {record.extra['features']}" if several else record.model
        found.setdefault((name, record.extra["entity"]), []).append(record)
    return [(name, entity, own) for (name, entity), own in found.items()]


def _point(x: float, own: Sequence[ResultRecord]) -> Point:
    mean = statistics.fmean(record.value for record in own)
    if len(own) > 1:
        spread = statistics.stdev(record.value for record in own)
        return Point(x, mean, mean - spread, mean + spread)
    return Point(x, mean, own[0].low, own[0].high)
