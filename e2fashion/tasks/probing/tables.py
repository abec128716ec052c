"""Tables of linear probes: one row per model, entity and kind of features, and the few-shot curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from e2fashion.tables import Column, Fact, Table, pivot, to_markdown
from e2fashion.tasks.probing.probe import ALL, PROBE
from e2fashion.types import ResultRecord

Key = tuple[str, str, str]
"""Entity, model, features."""
HEADS = ("entity", "model", "features")
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
    """Accuracy and macro-F1 with 95 % interval (several seeds: mean ± standard deviation), and the majority class.

    Best per entity in bold; the caption says what was left out.
    """
    full = [record for record in records if record.extra["shots"] == ALL and record.metric in SHOWN]

    def majority(metric: str) -> Fact:
        return Fact(f"majority {SHOWN[metric]}", lambda own: f"{own[0].extra['majority'][metric]:.{digits}f}")

    return pivot(
        full,
        HEADS,
        [
            *(Column(title, metric, digits, interval=True) for metric, title in SHOWN.items()),
            *map(majority, SHOWN),
            Fact("classes", lambda own: f"{own[0].extra['classes']:,}"),
            Fact("n", lambda own: f"{own[0].queries:,}"),
            Fact("fit", _mark),
        ],
        row=_key,
        column=lambda record: record.metric,
        rows=_keys(full),
        rivals=lambda key: key[0],
        caption=_caption(full),
    )


def few_shot_table(records: Sequence[ResultRecord], metric: str = "accuracy", digits: int = 1) -> Table:
    """A column per number of examples a class, mean ± standard deviation over the draws, the whole of train last."""
    shots = sorted({record.extra["shots"] for record in records}, key=lambda name: (name == ALL, name.zfill(9)))
    draws = sorted({record.extra["draws"] for record in records if "draws" in record.extra})
    short = {r.extra["entity"]: r.extra["short_classes"] for r in records if r.extra.get("short_classes")}
    fewer = "".join(f" Up to {count} classes of {entity} have fewer in train." for entity, count in short.items())

    def over_draws(record: ResultRecord) -> float | None:
        deviation: float | None = record.extra.get("deviation", {}).get(metric)
        return deviation

    return pivot(
        [record for record in records if record.metric == metric],
        HEADS,
        [
            Column("all of train" if number == ALL else f"{number} a class", number, digits, best="", spread=over_draws)
            for number in shots
        ],
        row=_key,
        column=lambda record: record.extra["shots"],
        rows=_keys(records),
        caption=f"{SHOWN[metric]} of probes on few examples of train: mean ± standard deviation over {_joined(draws)} "
        f"draws, regularisation chosen on the whole of val.{fewer}",
    )


def _key(record: ResultRecord) -> Key:
    return record.extra["entity"], record.model, record.extra["features"]


def _keys(records: Sequence[ResultRecord]) -> list[Key]:
    """Entities in the order of the records, within them models, within them features."""
    found = dict.fromkeys(map(_key, records))
    entities = list(dict.fromkeys(entity for entity, _, _ in found))
    return sorted(found, key=lambda key: entities.index(key[0]))


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
