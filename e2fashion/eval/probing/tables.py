"""Tables of linear probes: one row per model, entity and kind of features, and the few-shot curves."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from e2fashion.eval.probing.probe import ALL, PROBE
from e2fashion.eval.tables import MISSING_VALUE, Cell, Table, to_markdown
from e2fashion.types import ResultRecord

Key = tuple[str, str, str]
"""Entity, model, features."""
SHOWN = {"accuracy": "accuracy", "macro_f1": "macro-F1"}


def probe_tables(records: Sequence[ResultRecord]) -> str:
    """The tables of every split and catalogue that the probes among ``records`` were made on; empty without any."""
    parts = []
    probes = [record for record in records if record.task == PROBE.task]
    for place in dict.fromkeys((record.split, record.data_fingerprint) for record in probes):
        own = [record for record in probes if (record.split, record.data_fingerprint) == place]
        parts.append(to_markdown(probe_table(own)))
        if any(record.extra["shots"] != ALL for record in own):
            parts.append(to_markdown(few_shot_table(own)))
    return "\n".join(parts)


def probe_table(records: Sequence[ResultRecord], digits: int = 1) -> Table:
    """Accuracy and macro-F1 with 95 % interval (several seeds: mean ± standard deviation) beside the majority class.

    Best per entity in bold; the caption says what was left out.
    """
    full = [record for record in records if record.extra["shots"] == ALL]
    rows = []
    for key in _keys(full):
        own = {metric: _of(full, key, metric) for metric in SHOWN}
        first = own["accuracy"][0]
        values = [_cell(full, key, metric, digits) for metric in SHOWN]
        baseline = [Cell(f"{first.extra['majority'][metric]:.{digits}f}") for metric in SHOWN]
        counts = [Cell(f"{first.extra['classes']:,}"), Cell(f"{first.queries:,}"), Cell(_mark(own["accuracy"]))]
        rows.append((*(Cell(word) for word in key), *values, *baseline, *counts))
    titles = (*SHOWN.values(), *(f"majority {title}" for title in SHOWN.values()))
    return Table(("entity", "model", "features", *titles, "classes", "n", "fit"), tuple(rows), _caption(full))


def few_shot_table(records: Sequence[ResultRecord], metric: str = "accuracy", digits: int = 1) -> Table:
    """A column per number of examples a class, mean ± standard deviation over the draws, the whole of train last."""
    shots = sorted({record.extra["shots"] for record in records}, key=lambda name: (name == ALL, name.zfill(9)))
    rows = []
    for key in _keys(records):
        cells = []
        for number in shots:
            own = _of([record for record in records if record.extra["shots"] == number], key, metric)
            cells.append(Cell(_few(own, metric, digits)))
        rows.append((*(Cell(word) for word in key), *cells))
    header = tuple("all of train" if number == ALL else f"{number} a class" for number in shots)
    draws = sorted({record.extra["draws"] for record in records if "draws" in record.extra})
    short = {r.extra["entity"]: r.extra["short_classes"] for r in records if r.extra.get("short_classes")}
    fewer = "".join(f" Up to {count} classes of {entity} have fewer in train." for entity, count in short.items())
    caption = (
        f"{SHOWN[metric]} of probes on few examples of train: mean ± standard deviation over {_joined(draws)} draws, "
        f"regularisation chosen on the whole of val.{fewer}"
    )
    return Table(("entity", "model", "features", *header), tuple(rows), caption)


def _keys(records: Sequence[ResultRecord]) -> list[Key]:
    """Entities in the order of the records, within them models, within them features."""
    found = dict.fromkeys((r.extra["entity"], r.model, r.extra["features"]) for r in records)
    entities = list(dict.fromkeys(entity for entity, _, _ in found))
    return sorted(found, key=lambda key: entities.index(key[0]))


def _of(records: Sequence[ResultRecord], key: Key, metric: str) -> list[ResultRecord]:
    return [r for r in records if (r.extra["entity"], r.model, r.extra["features"], r.metric) == (*key, metric)]


def _cell(records: Sequence[ResultRecord], key: Key, metric: str, digits: int) -> Cell:
    own = _of(records, key, metric)
    rivals = [_mean(_of(records, other, metric)) for other in _keys(records) if other[0] == key[0]]
    best = len(rivals) > 1 and round(_mean(own), digits) == round(max(rivals), digits)
    text = f"{_mean(own):.{digits}f}"
    if len(own) > 1:
        return Cell(f"{text} ± {statistics.stdev(r.value for r in own):.{digits}f}", best)
    if own[0].low is not None and own[0].high is not None:
        text += f" [{own[0].low:.{digits}f}, {own[0].high:.{digits}f}]"
    return Cell(text, best)


def _few(own: Sequence[ResultRecord], metric: str, digits: int) -> str:
    if not own:
        return MISSING_VALUE
    text = f"{_mean(own):.{digits}f}"
    deviations = [record.extra["deviation"][metric] for record in own if "deviation" in record.extra]
    return f"{text} ± {statistics.fmean(deviations):.{digits}f}" if deviations else text


def _mean(records: Sequence[ResultRecord]) -> float:
    return statistics.fmean(record.value for record in records)


def _mark(records: Sequence[ResultRecord]) -> str:
    return "converged" if all(record.extra["converged"] for record in records) else "NOT converged"


def _caption(records: Sequence[ResultRecord]) -> str:
    parts = [
        f"Linear probe on {_joined(record.split for record in records)}: logistic regression on standardised features, "
        "fitted on train, regularisation chosen on val; percent, with 95 % bootstrap interval over products."
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
