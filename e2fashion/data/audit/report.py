"""What a check of a catalogue writes: a page with figures, every row as CSV, and JSON for scripts."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from e2fashion.data.audit.check import Checked
from e2fashion.data.audit.findings import Finding
from e2fashion.data.audit.tags import Association
from e2fashion.data.config import Thresholds
from e2fashion.data.images import read_stored
from e2fashion.disk import DamagedError, file_name, open_text, read_json, seal, write_json, write_text
from e2fashion.escape import markdown, markdown_code, visible
from e2fashion.figures import Pane, draw_sheet
from e2fashion.plots import STYLES, new_figure, save_figure
from e2fashion.tables import Cell, Table, to_markdown
from e2fashion.terminal import counted

PAIRS = 24
PAIRS_ACROSS = 3
VALUES = 12
PANELS = 4


def draw_pairs(checked: Checked, finding: Finding, file: Path) -> Path:
    """A finding's first pairs of images, three to a line, with split, product and text below each."""
    sides = [(checked.catalogue, checked.content)] * 2
    if finding.check.startswith("against") and checked.other is not None and checked.other_content is not None:
        sides[1] = checked.other, checked.other_content
    panes = []
    for number, pair in enumerate(finding.pairs[:PAIRS], start=1):
        for side, row, (catalogue, content) in zip("ab", pair, sides, strict=True):
            data = catalogue.split(content.split[row])[content.index[row]]["image"]
            product = f"{content.split[row]} {content.product[row]}"
            lines = [f"{number}{side}   {product}", content.description[row]]
            panes.append(Pane(read_stored(data), lines))
    shown = min(PAIRS, len(finding.pairs))
    title = f"{finding.title}: {shown} of {len(finding.pairs):,}" if shown < len(finding.pairs) else finding.title
    return draw_sheet(panes, file, title, 2 * PAIRS_ACROSS)


def draw_skew(measured: Sequence[Association], file: Path) -> Path:
    """Per column, the strongest trait of each: which share of a value's products has which trait.

    Values that depart most from the rest come first.

    Raises:
        E2FashionError: matplotlib is not installed.
    """
    strongest = list({one.column: one for one in reversed(measured)}.values())[::-1]
    panels = sorted(strongest, key=lambda one: -one.cramers_v)[:PANELS]
    sizes = [min(VALUES, len(one.values)) for one in panels]
    figure = new_figure(6.4, sum(0.24 * size + 0.95 for size in sizes), layout="constrained")
    grid = figure.subplots(len(panels), 1, height_ratios=[size + 2 for size in sizes], squeeze=False)
    for axes, one, size in zip(grid[:, 0], panels, sizes, strict=True):
        shares = one.table[:size] / one.table[:size].sum(axis=1, keepdims=True)
        left = shares[:, 0] * 0
        kept = len(STYLES) - 1 if len(one.traits) > len(STYLES) else len(one.traits)
        series = [(name, shares[:, number]) for number, name in enumerate(one.traits[:kept])]
        if kept < len(one.traits):
            series.append(("others", shares[:, kept:].sum(axis=1)))
        for (name, share), (color, _, _, hatch) in zip(series, STYLES, strict=False):
            paper = "white" if hatch else color
            axes.barh(range(size), share, left=left, facecolor=paper, edgecolor=color, hatch=hatch, label=name)
            left = left + share
        names = [
            f"{value}  ({int(counts.sum()):,})" for value, counts in zip(one.values, one.table[:size], strict=False)
        ]
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


REPORT, JSON = "report.md", "report.json"
ROWS, FIGURES = "rows", "figures"
MEANING = {
    "fit": "nothing was found",
    "look": "a list for a person to look through",
    "leak": "val or test hold what train has seen",
    "broken": "training would stop at it",
}
_LONGEST_CELL = 60


def write_check(checked: Checked, folder: Path, fail_on: str, shown: int = 10) -> Path:
    """Write ``report.md``, ``report.json``, ``rows/<check>.csv`` and ``figures/`` into ``folder``; returns the report.

    The page shows the first ``shown`` rows of each finding. What an earlier check wrote into ``rows`` and ``figures``
    is removed.

    Raises:
        E2FashionError: matplotlib is not installed.
    """
    for file in _files_of_earlier(folder):
        file.unlink(missing_ok=True)
    manifest = checked.catalogue.manifest
    parts = [
        f"# Is {markdown(manifest.name)} fit?\n",
        f"Worst finding: **{checked.worst}** ({MEANING[checked.worst]}). Catalogue {markdown_code(manifest.name)}, "
        f"fingerprint `{checked.catalogue.fingerprint[:16]}`: {checked.catalogue.summary()}. "
        f"Splits: {manifest.split_rule}.\n",
        to_markdown(overview(checked)),
        *(f"Column of numbers {markdown_code(name)}: {column.words()}.\n" for name, column in checked.numbers.items()),
    ]
    for finding in checked.findings:
        if finding.severity != "fit":
            parts.append(_section(checked, finding, folder, shown))
    settings = ", ".join(f"{key}={value}" for key, value in _thresholds(checked).items())
    parts.append(f"## How it was found\n\n{_HOW}\n\nSettings: {markdown(settings)}.\n")
    write_text(folder / REPORT, "\n".join(parts))
    write_json(folder / JSON, seal(as_json(checked, fail_on)))
    return folder / REPORT


def _files_of_earlier(folder: Path) -> list[Path]:
    """The rows and figures that the check whose ``report.json`` lies in a folder has written; no other files."""
    try:
        checks = [str(finding["check"]) for finding in read_json(folder / JSON, "")["findings"]]
    except (DamagedError, KeyError, TypeError):
        return []
    named = [file_name(check) for check in checks]
    return [folder / ROWS / f"{name}.csv" for name in named] + [folder / FIGURES / f"{name}.png" for name in named]


def overview(checked: Checked) -> Table:
    """One row per question: its severity, and how much was found."""
    rows = [
        (
            Cell(one.title),
            Cell(one.severity, best=one.severity in ("leak", "broken")),
            Cell(counted(one.count, one.unit)),
        )
        for one in checked.findings
    ]
    severities = "; ".join(f"{severity}: {words}" for severity, words in MEANING.items())
    return Table(("question", "severity", "found"), tuple(rows), f"{severities}.")


def as_text(checked: Checked) -> str:
    """The findings to read on a terminal, the fit ones in one line."""
    lines = []
    for one in checked.findings:
        if one.severity != "fit":
            lines += [f"{one.severity:<7}{one.check}: {one.summary}", f"{'':7}{one.remedy}"]
    fit = [one.check for one in checked.findings if one.severity == "fit"]
    lines.append(f"{'fit':<7}{', '.join(fit) or 'nothing'}")
    return "\n".join(lines + [f"{'':7}{name}: number, {column.words()}" for name, column in checked.numbers.items()])


def as_json(checked: Checked, fail_on: str) -> dict[str, Any]:
    """What a script reads: every finding without its rows, and the file that holds them."""
    return {
        "catalogue": checked.catalogue.manifest.name,
        "fingerprint": checked.catalogue.fingerprint,
        "worst": checked.worst,
        "fail_on": fail_on,
        "settings": _thresholds(checked),
        "numbers": {name: asdict(column) for name, column in checked.numbers.items() if column.present},
        "findings": [
            {
                "check": one.check,
                "severity": one.severity,
                "count": one.count,
                "unit": one.unit,
                "summary": one.summary,
                "remedy": one.remedy if one.severity != "fit" else None,
                "rows": f"{ROWS}/{file_name(one.check)}.csv" if one.rows else None,
            }
            for one in checked.findings
        ],
    }


def _thresholds(checked: Checked) -> dict[str, Any]:
    return {item.name: getattr(checked.config, item.name) for item in fields(Thresholds)}


def _section(checked: Checked, finding: Finding, folder: Path, shown: int) -> str:
    parts = [
        f"## {finding.title}: {finding.severity}\n",
        f"{visible(finding.summary)}\n",
        f"Remedy: {visible(finding.remedy)}\n",
    ]
    if finding.rows:
        file = folder / ROWS / f"{file_name(finding.check)}.csv"
        with open_text(file) as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(finding.columns)
            writer.writerows(finding.rows)
        first = finding.rows[:shown]
        caption = f"{len(first):,} of {len(finding.rows):,} rows; all of them: [{file.name}]({ROWS}/{file.name})."
        cells = tuple(tuple(Cell(_short(value)) for value in row) for row in first)
        parts.append(to_markdown(Table(finding.columns, cells, caption)))
    figure = folder / FIGURES / f"{file_name(finding.check)}.png"
    if finding.pairs and "images" in finding.check:
        draw_pairs(checked, finding, figure)
    elif finding.check == "skew":
        draw_skew(checked.skewed, figure)
    if figure.is_file():
        parts.append(f"![{finding.title}]({FIGURES}/{figure.name})\n")
    return "\n".join(parts)


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 3] + "..."


_HOW = (
    "Images are identical if their decoded pixels are, and near-identical if they look alike at 32 x 32 pixels: a "
    "hash of the 64 coarsest coefficients of their cosine transform differs in few bits, and 16 x 16 color squares "
    "differ by little of their contrast. Size, squeezing and compression hardly matter; a mirrored or cropped "
    "image is not found. Views of one product are not findings. Texts (descriptions, one per product) are "
    "identical but for case and white space, and near-identical if nearly all their words are shared, whatever "
    "their order; words are runs of letters and digits, so that scripts without spaces are compared sentence by "
    "sentence. Tag values are compared within a column; a difference of one letter counts between values of five "
    "letters or more that begin alike and hold the same digits. A skew is Cramer's V, corrected for bias, of a tag "
    "or the split with size, shape or file format of a product's first image; its p-value comes from 199 "
    "shuffles, and values of fewer than ten products count as one."
)
