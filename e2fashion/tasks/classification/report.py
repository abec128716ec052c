"""What a classification leaves behind: a page with its table, its confusion figures, and every prediction."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from e2fashion.disk import open_text, write_text
from e2fashion.escape import markdown
from e2fashion.metrics.classification import class_f1
from e2fashion.published import PublishedRow
from e2fashion.tables import to_markdown
from e2fashion.tasks.classification.classify import Classified
from e2fashion.tasks.classification.confusion import draw_confusion
from e2fashion.tasks.classification.tables import classification_tables
from e2fashion.types import ResultRecord

PREDICTIONS = "predictions.csv"


def write_classification(
    folder: Path,
    found: Sequence[Classified],
    model: str,
    data: str,
    column: str,
    split: str,
    published: Sequence[PublishedRow] = (),
) -> Path:
    """Write ``report.md``, ``confusion_<features>.png`` and ``predictions.csv`` into ``folder``; returns the report.

    Raises:
        E2FashionError: matplotlib is not installed.
    """
    records: list[ResultRecord] = [record for own in found for record in own.records]
    parts = [f"# {markdown(f'{model}: {column} of {data}, {split}')}\n"]
    parts += [to_markdown(table) for table in classification_tables(records, published)]
    for own in found:
        file = folder / f"confusion_{own.features}.png"
        title = f"{model}, {column} of {data}, {split}: {own.features} features"
        draw_confusion(own.truth.labels, own.predicted, own.truth.names, file, title)
        parts.append(f"## {own.features} features\n\n![confusion]({file.name})\n\n{_worst(own)}")
    write_predictions(folder / PREDICTIONS, found)
    parts.append(f"Every prediction: [{PREDICTIONS}]({PREDICTIONS}).\n")
    report = folder / "report.md"
    write_text(report, "\n".join(parts))
    return report


def write_predictions(file: Path, found: Sequence[Classified]) -> None:
    """A row per kind of features and product: the true class, the predicted one, its cosine."""
    with open_text(file) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["features", "product_id", "truth", "predicted", "cosine"])
        for own in found:
            names = own.truth.names
            lists = (own.truth.product_ids, own.truth.labels.tolist(), own.predicted.tolist(), own.score.tolist())
            for product_id, true, predicted, score in zip(*lists, strict=True):
                writer.writerow([own.features, product_id, names[true], names[predicted], f"{score:.4f}"])


def _worst(own: Classified, shown: int = 5) -> str:
    """The classes that are recognised worst and best among those with ten products or more."""
    classes = len(own.truth.names)
    scores = class_f1(own.truth.labels, own.predicted, classes)
    counts = own.truth.labels.bincount(minlength=classes)
    listed = sorted((float(scores[place]), own.truth.names[place]) for place in range(classes) if counts[place] >= 10)
    if len(listed) <= shown:
        return ""
    worst = ", ".join(f"{name} {score:.0f}" for score, name in listed[:shown])
    best = ", ".join(f"{name} {score:.0f}" for score, name in reversed(listed[-shown:]))
    return f"F1 of classes with ten products or more, lowest: {markdown(worst)}; highest: {markdown(best)}.\n"
