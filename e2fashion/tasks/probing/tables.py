"""Linear probes as tables (a row per model, entity and kind of features) and as figures: bars and few-shot curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from e2fashion.disk import file_name, write_text
from e2fashion.plots import Point, draw_bars, draw_curves
from e2fashion.tables import Column, Fact, Table, pivot, summarize
from e2fashion.tasks.probing.probe import ALL, PROBE
from e2fashion.types import E2FashionError, ResultRecord

Key = tuple[str, str, str]
"""Entity, model, features."""
HEADS = ("entity", "model", "features")
SHOWN = {"accuracy": "accuracy", "macro_f1": "macro-F1"}
MAJORITY = "majority class"
METRIC, LABEL = "accuracy", "accuracy (%)"
"""Of few-shot tables and of figures."""
Measured = tuple[str, str]
"""Split and catalogue fingerprint: what the probes of one table or figure share."""


def probe_tables(records: Sequence[ResultRecord]) -> list[Table]:
    """The tables of every split and catalogue of the probes among ``records``; none without probes."""
    tables = []
    for alike in probes_by_data(records).values():
        tables.append(probe_table(alike))
        if any(record.extra["shots"] != ALL for record in alike):
            tables.append(few_shot_table(alike))
    return tables


def probes_by_data(records: Sequence[ResultRecord]) -> dict[Measured, list[ResultRecord]]:
    """The probes among ``records`` by split and catalogue, in the order of the records."""
    return PROBE.grouped(records, lambda record: (record.split, record.data_fingerprint))


def probe_table(records: Sequence[ResultRecord]) -> Table:
    """Accuracy and macro-F1 with 95 % interval (several seeds: mean ± standard deviation), and the majority class.

    Best per entity in bold; the caption says what was left out.
    """
    full = [record for record in records if record.extra["shots"] == ALL and record.metric in SHOWN]

    def majority(metric: str) -> Fact:
        return Fact(f"majority {SHOWN[metric]}", lambda group: f"{group[0].extra['majority'][metric]:.1f}")

    return pivot(
        full,
        HEADS,
        [
            *(Column(title, metric, interval=True) for metric, title in SHOWN.items()),
            *map(majority, SHOWN),
            Fact("classes", lambda group: f"{group[0].extra['classes']:,}"),
            Fact("n", lambda group: f"{group[0].queries:,}"),
            Fact("fit", _mark),
        ],
        row=_key,
        column=lambda record: record.metric,
        rows=_keys(full),
        rivals=lambda key: key[0],
        caption=_caption(full),
    )


def few_shot_table(records: Sequence[ResultRecord]) -> Table:
    """Accuracy per number of examples a class, mean ± standard deviation over the draws, the whole of train last."""
    shots = sorted({record.extra["shots"] for record in records}, key=lambda name: (name == ALL, name.zfill(9)))
    draws = sorted({record.extra["draws"] for record in records if "draws" in record.extra})
    short = {r.extra["entity"]: r.extra["short_classes"] for r in records if r.extra.get("short_classes")}
    fewer = "".join(f" Up to {count} classes of {entity} have fewer in train." for entity, count in short.items())

    def title(number: str) -> str:
        return "all of train" if number == ALL else f"{number} a class"

    return pivot(
        [record for record in records if record.metric == METRIC],
        HEADS,
        [Column(title(number), number, best="", spread=_deviation) for number in shots],
        row=_key,
        column=lambda record: record.extra["shots"],
        rows=_keys(records),
        caption=f"{SHOWN[METRIC]} of probes on few examples of train: mean ± standard deviation over {_joined(draws)} "
        f"draws, regularization chosen on the whole of val.{fewer}",
    )


def _key(record: ResultRecord) -> Key:
    return record.extra["entity"], record.model, record.extra["features"]


def _keys(records: Sequence[ResultRecord]) -> list[Key]:
    """Entities in the order of the records, within them models, within them features."""
    keys = dict.fromkeys(map(_key, records))
    entities = list(dict.fromkeys(entity for entity, _, _ in keys))
    return sorted(keys, key=lambda key: entities.index(key[0]))


def _mark(records: Sequence[ResultRecord]) -> str:
    return "converged" if all(record.extra["converged"] for record in records) else "NOT converged"


def _caption(records: Sequence[ResultRecord]) -> str:
    parts = [
        f"Linear probe on {_joined(record.split for record in records)}: logistic regression on standardized features, "
        "fitted on train, regularization chosen on val; percent, with 95 % bootstrap interval over products."
    ]
    for entity in dict.fromkeys(record.extra["entity"] for record in records):
        extra = next(record.extra for record in records if record.extra["entity"] == entity)
        parts.append(f"{entity}: {_left_out(extra)}.")
    return " ".join(parts)


def _left_out(extra: dict[str, Any]) -> str:
    return (
        f"{extra['rare_classes']} classes with fewer than {extra['min_examples']} products in train left out "
        f"({extra['rare_train_products']} products there, {extra['rare_products']} here), "
        f"{extra['unseen_classes']} classes that train lacks ({extra['unseen_products']} products), "
        f"{extra['untagged_products']} products without a tag"
    )


def _joined(values: Any) -> str:
    return ", ".join(str(value) for value in dict.fromkeys(values))


def draw_probes(records: Sequence[ResultRecord], file: Path) -> Path:
    """A group of bars per entity, a bar per model (and kind of features where there are several), the majority last.

    Whiskers are the 95 % interval of a single record, or one standard deviation either side over several seeds.

    Raises:
        E2FashionError: no probes among the records, or probes on several splits or catalogues.
    """
    chosen = [record for record in _alike(records, file) if record.metric == METRIC and record.extra["shots"] == ALL]
    bars: dict[str, dict[str, Point]] = {}
    majority: dict[str, Point] = {}
    for (series, entity), seeds in _series(chosen).items():
        group = f"{entity}\n{seeds[0].extra['classes']} classes"
        bars.setdefault(series, {})[group] = Point.of(0.0, summarize(seeds))
        majority[group] = Point(0.0, seeds[0].extra["majority"][METRIC])
    return draw_bars(bars | {MAJORITY: majority}, file, LABEL)


def draw_few_shots(records: Sequence[ResultRecord], entity: str, file: Path) -> Path:
    """A curve per model (and kind of features) of one entity over the examples per class, on a logarithmic axis.

    Whiskers are one standard deviation over draws either side; the whole of train is left to the bars.

    Raises:
        E2FashionError: no few-shot probe of the entity among the records.
    """
    chosen = [
        record
        for record in _alike(records, file)
        if record.metric == METRIC and record.extra["entity"] == entity and record.extra["shots"] != ALL
    ]
    curves: dict[str, list[Point]] = {}
    for shots in dict.fromkeys(record.extra["shots"] for record in chosen):
        for (series, _), seeds in _series([record for record in chosen if record.extra["shots"] == shots]).items():
            value = summarize(seeds, spread=_deviation)
            curves.setdefault(series, []).append(Point.of(float(shots), value))
    return draw_curves(curves, file, f"examples per {entity} class", LABEL, log_x=True)


def add_probe_figures(records: Sequence[ResultRecord], report: Path) -> str:
    """Draw bars and few-shot curves next to a report and append them to it; returns what is appended.

    One figure per split, catalogue and kind of features, and one of few-shot curves per entity; nothing without probes.
    Where a figure cannot be drawn (too many models, no matplotlib) the report says why.
    """
    lines: list[str] = []
    for number, ((split, _), alike) in enumerate(probes_by_data(records).items()):
        for kind in dict.fromkeys(record.extra["features"] for record in alike):
            chosen = [record for record in alike if record.extra["features"] == kind]
            stem = f"{report.stem}_probe" + (f"_{number + 1}" if number else "") + f"_{kind}"
            few = dict.fromkeys(record.extra["entity"] for record in chosen if record.extra["shots"] != ALL)
            folder, on = report.parent / "figures", f"{kind} features on {split}"
            try:
                bars = draw_probes(chosen, folder / f"{file_name(stem)}.png")
                lines.append(f"![linear probes of {on}](figures/{bars.name})\n")
                for entity in few:
                    curves = draw_few_shots(chosen, entity, folder / f"{file_name(f'{stem}_{entity}')}_few_shots.png")
                    lines.append(f"![few-shot probes of {entity}, {on}](figures/{curves.name})\n")
            except E2FashionError as error:
                lines.append(f"No figure: {error}.\n")
    if not lines:
        return ""
    text = "\n" + "\n".join(lines)
    write_text(report, (report.read_text(encoding="utf-8", errors="replace") if report.is_file() else "") + text)
    return text


def _alike(records: Sequence[ResultRecord], file: Path) -> list[ResultRecord]:
    """The probes among the records, if all share a split and a catalogue."""
    by_data = probes_by_data(records)
    if len(by_data) != 1:
        listed = "; ".join(f"{split} of catalogue {fingerprint[:12]}" for split, fingerprint in by_data) or "no probes"
        raise E2FashionError(f"{file.name} needs probes on one split of one catalogue and got {listed}.")
    return next(iter(by_data.values()))


def _series(records: Sequence[ResultRecord]) -> dict[tuple[str, str], list[ResultRecord]]:
    """The records (several seeds) of every bar, by name and entity; several kinds of features are named."""
    several = len({record.extra["features"] for record in records}) > 1
    series: dict[tuple[str, str], list[ResultRecord]] = {}
    for record in records:
        name = f"{record.model}, {record.extra['features']}" if several else record.model
        series.setdefault((name, record.extra["entity"]), []).append(record)
    return series


def _deviation(record: ResultRecord) -> float | None:
    """The deviation over few-shot draws."""
    deviation: float | None = record.extra.get("deviation", {}).get(METRIC)
    return deviation
