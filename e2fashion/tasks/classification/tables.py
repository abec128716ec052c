"""Zero-shot classification and tag prediction as tables with published values, confusion figures and a page."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from e2fashion.disk import open_text, write_text
from e2fashion.escape import markdown
from e2fashion.metrics.classification import METRICS, class_f1
from e2fashion.plots import new_axes, save_figure
from e2fashion.published import PublishedRow, load_published, of_benchmark
from e2fashion.tables import MISSING_VALUE, Column, Fact, KnownRow, Table, pivot, to_markdown
from e2fashion.tasks.classification.classify import ZERO_SHOT, Classified, ClassifiedSplit
from e2fashion.tasks.classification.config import ClassifyConfig
from e2fashion.tasks.classification.tags import TAGS
from e2fashion.types import E2FashionError, ResultRecord

TITLES = {"accuracy": "accuracy", "macro_f1": "macro-F1", "weighted_f1": "weighted F1"}
PREDICTIONS = "predictions.csv"
SHOWN = 24
"""Classes of a confusion figure; the others are drawn as one."""
WITH_NUMBERS = 14
"""Up to this many classes the cells of a confusion figure carry their percentage."""
OTHERS = "(others)"


def classification_tables(records: Sequence[ResultRecord], published: Sequence[PublishedRow] = ()) -> list[Table]:
    """One table per split, catalogue and column; see :func:`classification_table`."""
    kinds = ZERO_SHOT.grouped(records, lambda one: (one.split, one.data_fingerprint, one.extra["entity"]))
    return [classification_table(alike, published) for alike in kinds.values()]


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
        labels=lambda key, seeds: (key[0], named_features(seeds), key[2]),
        known=known,
        caption=_caption(records, letters, published),
    )


def tag_tables(records: Sequence[ResultRecord]) -> list[Table]:
    """One table of tag prediction per split and catalogue; none without such records."""
    kinds = TAGS.grouped(records, lambda one: (one.split, one.data_fingerprint))
    return [tag_table(alike) for alike in kinds.values()]


def tag_table(records: Sequence[ResultRecord]) -> Table:
    """Coverage and accuracy among the answered, and accuracy of all: a row per tag, model and features."""

    def row(record: ResultRecord) -> tuple[Any, ...]:
        extra = record.extra
        return extra["entity"], record.model, extra["features"], extra["target_accuracy"]

    return pivot(
        records,
        ("tag", "model", "features"),
        [
            Fact("values", lambda group: f"{group[0].candidates:,.0f}"),
            Fact("products", lambda group: f"{group[0].queries:,}"),
            Fact("asked for", lambda group: f"{group[0].extra['target_accuracy']:g}"),
            Column("answered", "coverage", best="", interval=True),
            Column("right of these", "answered_accuracy", best="", interval=True),
            Column("right of all", "accuracy", best="", interval=True),
        ],
        row=row,
        column=lambda record: record.metric,
        rows=sorted({row(record): None for record in records}, key=lambda key: str(key[0])),
        labels=lambda key, seeds: (key[0], key[1], named_features(seeds)),
        caption=f"Tags of {records[0].split}, among the values of train, in percent. A tag is answered where its "
        "probability is at least the threshold from which on `asked for` percent of val's answers were right; "
        f"{MISSING_VALUE}: no threshold reached that, and nothing is answered." + _weights_words(records),
    )


def _templates(record: ResultRecord) -> str:
    """Every template that was used."""
    parts = []
    for name, title in (("templates", ""), ("region_templates", "of the region ")):
        if listed := record.extra.get(name):
            parts.append(title + ", ".join(f"`{template}`" for template in listed))
    if wording := record.extra.get("wording"):
        parts.append(f"with wording {', '.join(wording)}")
    if entity := record.extra.get("region_of"):
        parts.append(f"region of {entity}")
    return "; ".join(parts)


def _letters(records: Sequence[ResultRecord]) -> dict[str, str]:
    used = list(dict.fromkeys(_templates(record) for record in records))
    return {text: chr(ord("A") + number) if number < 26 else str(number + 1) for number, text in enumerate(used)}


def _weights_words(records: Sequence[ResultRecord]) -> str:
    """Who chose the region's share in ``both``; empty where no record has one."""
    by = {record.extra["weight_chosen_on"] for record in records if "weight_chosen_on" in record.extra}
    chosen = " and ".join({"val": "chosen on val"}.get(name, name) for name in sorted(by, reverse=True))
    return f" In brackets after `both`: the region's share in the mean of the two cosines, {chosen}." if by else ""


def _caption(records: Sequence[ResultRecord], letters: dict[str, str], published: Sequence[PublishedRow]) -> str:
    first = records[0]
    extra: dict[str, Any] = first.extra
    parts = [
        f"Zero-shot classification of {extra['entity']} on {first.split}: {first.queries:,} products, "
        f"{first.candidates:,.0f} classes, in percent with 95 % bootstrap intervals over products; "
        f"{extra['left_out']:,} products without the tag left out.",
        f"Templates: {' / '.join(f'{letter}: {text}' for text, letter in letters.items())}.",
    ]
    alike = {record.model: record.extra["indistinct"] for record in records if record.extra.get("indistinct")}
    if alike:
        counts = ", ".join(f"{model} {count}" for model, count in alike.items())
        parts.append(f"Classes that read as an earlier one (their words are not in the vocabulary): {counts}.")
    if weights := _weights_words(records):
        parts.append(weights.strip())
    if published:
        sources = "; ".join(dict.fromkeys(row.citation for row in published))
        parts.append(f"Published: weighted macro-F1 as {sources} states it; templates and split are not known to us.")
    return " ".join(parts)


def named_features(records: Sequence[ResultRecord]) -> str:
    """How tables call the features of records that differ in their seed alone: ``both`` with the region's share."""
    kind = str(records[0].extra.get("features", "global"))
    weights = sorted({f"{record.extra['region_weight']:g}" for record in records if "region_weight" in record.extra})
    return f"{kind} (region {', '.join(weights)})" if weights else kind


def published_rows(config: ClassifyConfig) -> list[PublishedRow]:
    """The published values of the benchmark that a configuration names; none where it names none.

    Raises:
        E2FashionError: one of ``benchmark`` and ``published`` without the other, or no row that has the benchmark.
    """
    if config.benchmark is None and config.published is None:
        return []
    if config.benchmark is None or config.published is None:
        raise E2FashionError(
            f"benchmark={config.benchmark} and published={config.published} belong together: give both, or neither."
        )
    rows = [row for row in load_published(Path(config.published)) if row.task == "zero_shot"]
    chosen = of_benchmark(rows, config.benchmark)
    if not chosen:
        known = ", ".join(dict.fromkeys(name for row in rows for name in row.values))
        raise E2FashionError(f"{config.published} has no benchmark '{config.benchmark}'; it has: {known or 'none'}.")
    return chosen


def write_classification(result: ClassifiedSplit, published: Sequence[PublishedRow] = ()) -> Path:
    """Write ``report.md``, ``confusion_<features>.png`` and ``predictions.csv`` into its folder; returns the report.

    Raises:
        E2FashionError: matplotlib is not installed.
    """
    what = f"{result.column} of {result.data}, {result.split}"
    parts = [f"# {markdown(f'{result.model}: {what}')}\n"]
    parts += [to_markdown(table) for table in classification_tables(result.records, published)]
    for one in result.classified:
        file = result.folder / f"confusion_{one.features}.png"
        title = f"{result.model}, {what}: {one.features} features"
        draw_confusion(one.truth.labels, one.predicted, one.truth.names, file, title)
        parts.append(f"## {one.features} features\n\n![confusion]({file.name})\n\n{_worst(one)}")
    write_predictions(result.folder / PREDICTIONS, result.classified)
    parts.append(f"Every prediction: [{PREDICTIONS}]({PREDICTIONS}).\n")
    report = result.folder / "report.md"
    write_text(report, "\n".join(parts))
    return report


def write_predictions(file: Path, classified: Sequence[Classified]) -> None:
    """A row per kind of features and product: the true class, the predicted one, its cosine."""
    with open_text(file) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["features", "product_id", "truth", "predicted", "cosine"])
        for one in classified:
            names = one.truth.names
            lists = (one.truth.product_ids, one.truth.labels.tolist(), one.predicted.tolist(), one.score.tolist())
            for product_id, true, predicted, score in zip(*lists, strict=True):
                writer.writerow([one.features, product_id, names[true], names[predicted], f"{score:.4f}"])


def _worst(classified: Classified) -> str:
    """The five classes of the lowest and highest F1 among those with ten products or more."""
    names, labels = classified.truth.names, classified.truth.labels
    scores = class_f1(labels, classified.predicted, len(names))
    counts = labels.bincount(minlength=len(names))
    listed = sorted((float(scores[number]), name) for number, name in enumerate(names) if counts[number] >= 10)
    if len(listed) <= 5:
        return ""
    worst = ", ".join(f"{name} {score:.0f}" for score, name in listed[:5])
    best = ", ".join(f"{name} {score:.0f}" for score, name in reversed(listed[-5:]))
    return f"F1 of classes with ten products or more, lowest: {markdown(worst)}; highest: {markdown(best)}.\n"


def confusion(truth: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """How often each class (row) is taken for each (column): int64 labels (N,) to counts (classes, classes)."""
    return torch.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def most_frequent_first(counts: Tensor, names: Sequence[str], shown: int = SHOWN) -> tuple[Tensor, list[str]]:
    """Rows and columns by how often a class is true; beyond ``shown`` classes the rest is summed into the last one."""
    order = counts.sum(1).argsort(descending=True, stable=True)
    ordered, labels = counts[order][:, order], [names[number] for number in order.tolist()]
    if len(labels) <= shown:
        return ordered, labels
    kept = shown - 1
    rows = torch.cat([ordered[:kept], ordered[kept:].sum(0, keepdim=True)])
    columns = torch.cat([rows[:, :kept], rows[:, kept:].sum(1, keepdim=True)], dim=1)
    return columns, [*labels[:kept], f"{OTHERS[:-1]}, {len(names) - kept} classes)"]


def draw_confusion(truth: Tensor, predicted: Tensor, names: Sequence[str], file: Path, title: str) -> Path:
    """A square per pair of classes, darker the larger the share of the row; the most frequent class first.

    The diagonal square of the others also counts confusions among them.

    Raises:
        E2FashionError: matplotlib is not installed.
    """
    counts, labels = most_frequent_first(confusion(truth, predicted, len(names)), names)
    shares = 100 * counts.double() / counts.sum(1, keepdim=True).clamp(min=1)
    size = len(labels)
    side = max(3.4, 0.24 * size + 0.6) if size > WITH_NUMBERS else max(3.4, 0.44 * size + 0.4)
    margin = 0.075 * max(map(len, labels))
    figure, axes = new_axes(width=side + margin + 1.3, height=side + margin + 0.6)
    axes.grid(False)
    image = axes.imshow(shares.numpy(), cmap="Greys", vmin=0, vmax=100)
    axes.set_xticks(range(size), labels, rotation=90, fontsize=8)
    rows = [f"{label}  ({int(count):,})" for label, count in zip(labels, counts.sum(1), strict=True)]
    axes.set_yticks(range(size), rows, fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true (products)")
    axes.set_xticks([edge - 0.5 for edge in range(1, size)], minor=True)
    axes.set_yticks([edge - 0.5 for edge in range(1, size)], minor=True)
    axes.grid(which="minor", color="#e4e4e4", linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    axes.spines[["top", "right"]].set_visible(True)
    if size <= WITH_NUMBERS:
        for row, of_row in enumerate(shares.tolist()):
            for column, share in enumerate(of_row):
                if share >= 0.5:
                    color = "white" if share > 55 else "black"
                    axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=7.5, color=color)
    figure.colorbar(image, ax=axes, shrink=0.6, label="% of the true class")
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    return save_figure(figure, file)
