"""The figures of a check: pictures that look alike side by side, and how tags go with what pictures are like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from e2fashion.data.audit import Association, Checked, Finding
from e2fashion.data.pictures import read_stored
from e2fashion.figures import Pane, draw_sheet
from e2fashion.plots import STYLES, new_axes, save_figure

PAIRS = 24
PAIRS_ACROSS = 3
VALUES = 12
PANELS = 4


def draw_pairs(checked: Checked, finding: Finding, file: Path) -> Path:
    """A finding's first pairs of pictures, three to a line, with split, product and text below each."""
    sides = [(checked.catalogue, checked.content)] * 2
    if finding.check.startswith("against") and checked.other is not None and checked.other_content is not None:
        sides[1] = checked.other, checked.other_content
    panes = []
    for number, pair in enumerate(finding.pairs[:PAIRS], start=1):
        for side, row, (catalogue, content) in zip("ab", pair, sides, strict=True):
            data = catalogue.split(content.split[row])[content.place[row]]["image"]
            product = f"{content.split[row]} {content.product[row]}"
            lines = [f"{number}{side}   {product}", content.description[row]]
            panes.append(Pane(read_stored(data), lines))
    shown = min(PAIRS, len(finding.pairs))
    title = f"{finding.title}: {shown} of {len(finding.pairs):,}" if shown < len(finding.pairs) else finding.title
    return draw_sheet(panes, file, title, 2 * PAIRS_ACROSS)


def draw_skew(found: Sequence[Association], file: Path) -> Path:
    """Per column, the strongest trait of each: which share of a value's products has which trait.

    Values that depart most from the rest come first.

    Raises:
        E2FashionError: matplotlib is not installed.
    """
    strongest = list({one.column: one for one in reversed(found)}.values())[::-1]
    panels = sorted(strongest, key=lambda one: -one.cramers_v)[:PANELS]
    sizes = [min(VALUES, len(one.values)) for one in panels]
    figure, unused = new_axes(width=6.4, height=sum(0.24 * size + 0.95 for size in sizes))
    unused.remove()
    grid = figure.subplots(len(panels), 1, height_ratios=[size + 2 for size in sizes], squeeze=False)
    for axes, one, size in zip(grid[:, 0], panels, sizes, strict=True):
        shares = one.table[:size] / one.table[:size].sum(axis=1, keepdims=True)
        left = shares[:, 0] * 0
        kept = len(STYLES) - 1 if len(one.traits) > len(STYLES) else len(one.traits)
        series = [(name, shares[:, place]) for place, name in enumerate(one.traits[:kept])]
        if kept < len(one.traits):
            series.append(("others", shares[:, kept:].sum(axis=1)))
        for (name, share), (colour, _, _, hatch) in zip(series, STYLES, strict=False):
            paper = "white" if hatch else colour
            axes.barh(range(size), share, left=left, facecolor=paper, edgecolor=colour, hatch=hatch, label=name)
            left = left + share
        names = [f"{value}  ({int(own.sum()):,})" for value, own in zip(one.values, one.table[:size], strict=False)]
        axes.set_yticks(range(size), names, fontsize=8)
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.tick_params(axis="x", labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        title = f"{one.column} by {one.trait}, Cramer's V {one.cramers_v:.2f}"
        axes.set_title(title, fontsize=9, loc="left")
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    grid[-1, 0].set_xlabel("share of the products of a value", fontsize=9)
    return save_figure(figure, file)
