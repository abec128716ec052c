"""Tables of zero-shot classification and of tag prediction, the published values beside ours."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from e2fashion.eval.classification.classify import ZERO_SHOT
from e2fashion.eval.classification.region_weight import features_words
from e2fashion.eval.classification.tags import TAGS
from e2fashion.eval.published import PublishedRow
from e2fashion.eval.tables import MISSING_VALUE, Cell, Table
from e2fashion.metrics.classification import METRICS
from e2fashion.types import ResultRecord

TITLES = {"accuracy": "accuracy", "macro_f1": "macro-F1", "weighted_f1": "weighted F1"}
Row = tuple[str, str, str]
"""Model, features, and the letters of the templates."""


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

    A single record shows its 95 % interval, several seeds mean ± standard deviation. Rows of ``published`` have one
    value, a weighted F1 from 0 to 1, of the benchmark that this column is; they have no part in what is best. The last
    row always answers the most frequent class.
    """
    letters = _letters(records)
    rows: dict[Row, dict[str, list[ResultRecord]]] = {}
    for record in records:
        key = (record.model, record.extra.get("features", "global"), letters[_templates(record)])
        rows.setdefault(key, {}).setdefault(record.metric, []).append(record)
    lines = []
    for (model, _, letter), own in rows.items():
        cells = [_cell(own[metric], [other[metric] for other in rows.values()]) for metric in METRICS]
        shown = features_words([record for listed in own.values() for record in listed])
        lines.append((Cell(model), Cell(shown), Cell(letter), *cells))
    first = {record.metric: record for record in reversed(records)}
    majority = [
        Cell(f"{first[metric].extra['majority']:.1f}") for metric in METRICS if "majority" in first[metric].extra
    ]
    if len(majority) == len(METRICS):
        lines.append((Cell("always the most frequent class"), Cell(""), Cell(""), *majority))
    for row in published:
        value = next(iter(row.values.values()), None)
        shown = MISSING_VALUE if value is None else f"{100 * value:.1f}"
        unknown = [Cell(MISSING_VALUE)] * (len(METRICS) - 1)
        lines.append((Cell(f"{row.system} (published)"), Cell("global"), Cell(MISSING_VALUE), *unknown, Cell(shown)))
    header = ("model", "features", "templates", *(TITLES[metric] for metric in METRICS))
    return Table(header, tuple(lines), _caption(records, letters, published))


def tag_tables(records: Sequence[ResultRecord]) -> list[Table]:
    """One table of tag prediction per split and catalogue; none where no record speaks of it."""
    kinds: dict[tuple[str, str], list[ResultRecord]] = {}
    for record in records:
        if record.task == TAGS.task:
            kinds.setdefault((record.split, record.data_fingerprint), []).append(record)
    return [tag_table(own) for own in kinds.values()]


def tag_table(records: Sequence[ResultRecord]) -> Table:
    """Coverage and accuracy among the answered beside accuracy of all: a row per tag, model and features."""
    rows: dict[tuple[str, str, str, float], dict[str, list[ResultRecord]]] = {}
    for record in records:
        extra = record.extra
        key = (extra["entity"], record.model, extra["features"], extra["target_accuracy"])
        rows.setdefault(key, {}).setdefault(record.metric, []).append(record)
    lines = []
    for (entity, model, _, target), own in sorted(rows.items(), key=lambda item: item[0][0]):
        first = own["coverage"][0]
        answered = _shown(own["answered_accuracy"]) if "answered_accuracy" in own else MISSING_VALUE
        shown = features_words([record for listed in own.values() for record in listed])
        words = [entity, model, shown, f"{first.candidates:,.0f}", f"{first.queries:,}", f"{target:g}"]
        words += [_shown(own["coverage"]), answered, _shown(own["accuracy"])]
        lines.append(tuple(Cell(word) for word in words))
    header = (
        "tag",
        "model",
        "features",
        "values",
        "products",
        "asked for",
        "answered",
        "right of these",
        "right of all",
    )
    caption = (
        f"Tags of {records[0].split}, among the values of train, in percent. A tag is answered where its probability "
        "is at least the threshold from which on `asked for` percent of val's answers were right; "
        f"{MISSING_VALUE}: no threshold reached that, and nothing is answered." + _weights_words(records)
    )
    return Table(header, tuple(lines), caption)


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


def _cell(own: Sequence[ResultRecord], rivals: Sequence[Sequence[ResultRecord]]) -> Cell:
    values = [round(_mean(other), 1) for other in rivals]
    return Cell(_shown(own), len(values) > 1 and round(_mean(own), 1) == max(values))


def _shown(own: Sequence[ResultRecord]) -> str:
    text = f"{_mean(own):.1f}"
    if len(own) > 1:
        return f"{text} ± {statistics.stdev(record.value for record in own):.1f}"
    if own[0].low is None or own[0].high is None:
        return text
    return f"{text} [{own[0].low:.1f}, {own[0].high:.1f}]"


def _mean(own: Sequence[ResultRecord]) -> float:
    return statistics.fmean(record.value for record in own)


def _weights_words(records: Sequence[ResultRecord]) -> str:
    """Who chose the region's share in ``both``; empty where no record has one."""
    by = {record.extra["weight_chosen_on"] for record in records if "weight_chosen_on" in record.extra}
    chosen = " and ".join({"val": "chosen on val", "given": "given"}[name] for name in sorted(by, reverse=True))
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
