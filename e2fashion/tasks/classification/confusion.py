"""The confusion figure of a classification: which class is taken for which, readable in print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from e2fashion.plots import new_axes, save_figure

SHOWN = 24
"""More classes than these cannot be read in one figure: the rest is drawn as one."""
WITH_NUMBERS = 14
"""Up to so many rows cells carry their percentage."""
OTHERS = "(others)"


def confusion(truth: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """How often each class (row) is taken for each (column): int64 labels (N,) to counts (classes, classes)."""
    return torch.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def most_frequent_first(counts: Tensor, names: Sequence[str], shown: int = SHOWN) -> tuple[Tensor, list[str]]:
    """Rows and columns by how often a class is true; beyond ``shown`` classes the rest is summed into the last one."""
    order = counts.sum(1).argsort(descending=True, stable=True)
    ordered, labels = counts[order][:, order], [names[place] for place in order.tolist()]
    if len(labels) <= shown:
        return ordered, labels
    kept = shown - 1
    rows = torch.cat([ordered[:kept], ordered[kept:].sum(0, keepdim=True)])
    columns = torch.cat([rows[:, :kept], rows[:, kept:].sum(1, keepdim=True)], dim=1)
    return columns, [*labels[:kept], f"{OTHERS[:-1]}, {len(names) - kept} classes)"]


def draw_confusion(
    truth: Tensor, predicted: Tensor, names: Sequence[str], file: Path, title: str, shown: int = SHOWN
) -> Path:
    """A square per pair of classes, darker the larger the share of the row; the most frequent class first.

    What is summed as others is right there only as a whole: its square also holds one of them taken for another.

    Raises:
        E2FashionError: matplotlib is not installed.
    """
    counts, labels = most_frequent_first(confusion(truth, predicted, len(names)), names, shown)
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
    axes.set_xticks([place - 0.5 for place in range(1, size)], minor=True)
    axes.set_yticks([place - 0.5 for place in range(1, size)], minor=True)
    axes.grid(which="minor", color="#e4e4e4", linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    axes.spines[["top", "right"]].set_visible(True)
    if size <= WITH_NUMBERS:
        for row, own in enumerate(shares.tolist()):
            for column, share in enumerate(own):
                if share >= 0.5:
                    colour = "white" if share > 55 else "black"
                    axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=7.5, color=colour)
    figure.colorbar(image, ax=axes, shrink=0.6, label="% of the true class")
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    return save_figure(figure, file)
