"""Tables of zero-shot classification and of tag prediction, the published values beside ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from e2fashion.metrics.classification import METRICS
from e2fashion.published import PublishedRow
from e2fashion.tables import MISSING_VALUE, Column, Fact, KnownRow, Table, pivot
from e2fashion.tasks.classification.classify import ZERO_SHOT
from e2fashion.tasks.classification.region_weight import features_words
from e2fashion.tasks.classification.tags import TAGS
from e2fashion.types import ResultRecord

TITLES = {"accuracy": "accuracy", "macro_f1": "macro-F1", "weighted_f1": "weighted F1"}


def classification_tables(records: Sequence[ResultRecord], published: Sequence[PublishedRow] = ()) -> list[Table]:
    """One table per split, catalogue and column; see :func:`classification_table`."""
    kinds: dict[tuple[str, str, str], list[ResultRecord]] = {}
    for record in records:
        if record.task == ZERO_SHOT.task:
            key = (record.split, record.data_fingerprint, record.extra["entity"])
            kinds.setdefault(key, []).append(record)
    return [classification_table(own, published) for own in kinds.values()]


def classification_table(records: Sequence[ResultRecord], published: Sequence[PublishedRow] = ()) -> Table:
    """Accuracy, macro and weighted F1 of a split's column: a row per model, features and templates, the best in bold.

    A single record shows its 95 % interval. Rows of ``published`` have one value, a weighted F1 from 0 to 1, of the
    benchmark that this column is. A row always answers the most frequent class.
    """
    letters = _letters(records)
    first = {record.metric: record for record in reversed(records)}
    majority = {metric: record.extra.get("majority") for metric, record in first.items()}
    known = []
    if None not in majority.values():
        known.append(KnownRow(("always the most frequent class", "", ""), majority, last=True))
    for row in published:
        value = next(iter(row.values.values()), None)
        weighted = {"weighted_f1": None if value is None else 100 * value}
        known.append(KnownRow((row.label(), "global", MISSING_VALUE), weighted, last=True))
    return pivot(
        records,
        ("model", "features", "templates"),
        [Column(TITLES[metric], metric, interval=True) for metric in METRICS],
        row=lambda record: (record.model, record.extra.get("features", "global"), letters[_templates(record)]),
        column=lambda record: record.metric,
        labels=lambda key, own: (key[0], features_words(own), key[2]),
        known=known,
        caption=_caption(records, letters, published),
    )


def tag_tables(records: Sequence[ResultRecord]) -> list[Table]:
    """One table of tag prediction per split and catalogue; none where no record speaks of it."""
    kinds: dict[tuple[str, str], list[ResultRecord]] = {}
    for record in records:
        if record.task == TAGS.task:
            kinds.setdefault((record.split, record.data_fingerprint), []).append(record)
    return [tag_table(own) for own in kinds.values()]


def tag_table(records: Sequence[ResultRecord]) -> Table:
    """Coverage and accuracy among the answered, and accuracy of all: a row per tag, model and features."""

    def row(record: ResultRecord) -> tuple[Any, ...]:
        extra = record.extra
        return extra["entity"], record.model, extra["features"], extra["target_accuracy"]

    return pivot(
        records,
        ("tag", "model", "features"),
        [
            Fact("values", lambda own: f"{own[0].candidates:,.0f}"),
            Fact("products", lambda own: f"{own[0].queries:,}"),
            Fact("asked for", lambda own: f"{own[0].extra['target_accuracy']:g}"),
            Column("answered", "coverage", best="", interval=True),
            Column("right of these", "answered_accuracy", best="", interval=True),
            Column("right of all", "accuracy", best="", interval=True),
        ],
        row=row,
        column=lambda record: record.metric,
        rows=sorted({row(record): None for record in records}, key=lambda key: str(key[0])),
        labels=lambda key, own: (key[0], key[1], features_words(own)),
        caption=f"Tags of {records[0].split}, among the values of train, in percent. A tag is answered where its "
        "probability is at least the threshold from which on `asked for` percent of val's answers were right; "
        f"{MISSING_VALUE}: no threshold reached that, and nothing is answered." + _weights_words(records),
    )


def _templates(record: ResultRecord) -> str:
    """Every template that had a part, in words."""
    parts = []
    for name, title in (("templates", ""), ("region_templates", "of the region ")):
        if listed := record.extra.get(name):
            parts.append(title + ", ".join(f"`{template}`" for template in listed))
    if wording := record.extra.get("wording"):
        parts.append(f"with the words {', '.join(wording)}")
    if entity := record.extra.get("region_of"):
        parts.append(f"region of {entity}")
    return "; ".join(parts)


def _letters(records: Sequence[ResultRecord]) -> dict[str, str]:
    found = list(dict.fromkeys(_templates(record) for record in records))
    return {words: chr(ord("A") + place) if place < 26 else str(place + 1) for place, words in enumerate(found)}


def _weights_words(records: Sequence[ResultRecord]) -> str:
    """Who chose the region's share in ``both``; empty where no record has one."""
    by = {record.extra["weight_chosen_on"] for record in records if "weight_chosen_on" in record.extra}
    chosen = " and ".join({"val": "chosen on val"}.get(name, name) for name in sorted(by, reverse=True))
    return f" Beside `both`: the region's share in the mean of the two cosines, {chosen}." if by else ""


def _caption(records: Sequence[ResultRecord], letters: dict[str, str], published: Sequence[PublishedRow]) -> str:
    first = records[0]
    extra: dict[str, Any] = first.extra
    parts = [
        f"Zero-shot classification of {extra['entity']} on {first.split}: {first.queries:,} products, "
        f"{first.candidates:,.0f} classes, in percent with 95 % bootstrap intervals over products; "
        f"{extra['left_out']:,} products without the tag left out.",
        f"Templates: {' / '.join(f'{letter}: {words}' for words, letter in letters.items())}.",
    ]
    alike = {own.model: own.extra["indistinct"] for own in records if own.extra.get("indistinct")}
    if alike:
        counts = ", ".join(f"{model} {count}" for model, count in alike.items())
        parts.append(f"Classes that read as an earlier one (their words are not in the vocabulary): {counts}.")
    if weights := _weights_words(records):
        parts.append(weights.strip())
    if published:
        sources = "; ".join(dict.fromkeys(row.citation for row in published))
        parts.append(f"Published: weighted macro-F1 as {sources} states it; templates and split are not known to us.")
    return " ".join(parts)
