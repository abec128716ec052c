"""A sheet of products to read: each picture with its true caption and what every captioner told of it."""

from __future__ import annotations

import random
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.pictures import read_stored
from e2fashion.disk import write_text
from e2fashion.escape import markdown
from e2fashion.figures import ImageArray
from e2fashion.plots import save_figure
from e2fashion.tasks.captioning.measure import Told
from e2fashion.types import E2FashionError

TRUTH = "truth"
PRODUCTS = 24
SIDE = 160  #: pixels of a picture's longer edge
ACROSS, LETTERS, LINES = 3, 40, 3
COLOURS = ("#1a7f37", "#57606a", "#0550ae", "#953800")


@dataclass(frozen=True)
class SheetRow:
    """A product's first picture (H, W, 3) and its texts by title, the truth first."""

    product_id: str
    picture: ImageArray
    texts: Mapping[str, str]


def sheet_rows(
    catalogue: Catalogue, split: str, told: Mapping[str, Sequence[Told]], products: int = PRODUCTS, seed: int = 0
) -> list[SheetRow]:
    """Random products, the same every time, with what each title's captioner told of them.

    Raises:
        E2FashionError: nothing was told, or the captioners told of different products.
    """
    by_title = {title: {item.product_id: item for item in items} for title, items in told.items()}
    if not by_title:
        raise E2FashionError("There are no captions for a sheet: evaluate a decoder first.")
    known = [list(items) for items in by_title.values()]
    if any(sorted(items) != sorted(known[0]) for items in known):
        raise E2FashionError(
            "The captioners of a sheet must have told of the same products: evaluate all on one split."
        )
    chosen = random.Random(seed).sample(sorted(known[0]), min(products, len(known[0])))
    first_row: dict[str, int] = {}
    for row, product in enumerate(catalogue.split(split)["product_id"]):
        first_row.setdefault(product, row)
    pictures = catalogue.split(split).select_columns(["image"])
    rows = []
    for product in chosen:
        picture = read_stored(pictures[first_row[product]]["image"])
        picture.thumbnail((SIDE, SIDE))
        truth = next(iter(by_title.values()))[product].truth[0]
        texts = {TRUTH: truth} | {title: items[product].caption for title, items in by_title.items()}
        rows.append(SheetRow(product, np.array(picture), texts))
    return rows


def write_sheet(rows: Sequence[SheetRow], file: Path, title: str, words: str = "") -> list[Path]:
    """``file`` (Markdown, a row a product) and beside it the PNG that it shows."""
    figure = draw_sheet(rows, file.with_suffix(".png"), title)
    titles = list(rows[0].texts)

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(markdown(" ".join(cell.split())) for cell in cells) + " |"

    table = [line(["product", *titles]), line(["---"] * (len(titles) + 1))]
    table += [line([row.product_id, *(row.texts[name] for name in titles)]) for row in rows]
    parts = [
        f"# {markdown(title)}\n",
        *([words + "\n"] if words else []),
        f"![{markdown(title)}]({figure.name})\n",
        *table,
    ]
    write_text(file, "\n".join(parts) + "\n")
    return [file, figure]


def draw_sheet(rows: Sequence[SheetRow], file: Path, title: str) -> Path:
    """Pictures three to a line, their texts beside them, one colour a title."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise E2FashionError("Figures need matplotlib. Install it: pip install 'e2fashion[report]'.") from error
    lines, texts = -(-len(rows) // ACROSS), len(rows[0].texts)
    cell = 0.25 + 0.44 * texts
    height = lines * cell + 0.5
    figure = Figure(figsize=(ACROSS * 4.1, height))
    FigureCanvasAgg(figure)
    axes = figure.subplots(lines, 2 * ACROSS, squeeze=False, gridspec_kw={"width_ratios": [1.0, 2.1] * ACROSS})
    figure.subplots_adjust(left=0.01, right=0.995, top=1 - 0.42 / height, bottom=0.005, wspace=0.04, hspace=0.08)
    for place in range(lines * ACROSS):
        shown, beside = axes[place // ACROSS][2 * (place % ACROSS) : 2 * (place % ACROSS) + 2]
        shown.axis("off")
        beside.axis("off")
        if place >= len(rows):
            continue
        row = rows[place]
        shown.imshow(row.picture)
        for number, (name, text) in enumerate(row.texts.items()):
            wrapped = "\n".join(textwrap.wrap(text, LETTERS, max_lines=LINES, placeholder=" ...")) or "(nothing)"
            top, colour = 1 - number / texts, COLOURS[number % len(COLOURS)]
            options = {"transform": beside.transAxes, "va": "top", "color": colour}
            beside.text(0.0, top, name, fontsize=6.5, fontweight="bold", **options)
            beside.text(0.0, top - 0.115 * 3 / texts, wrapped, fontsize=7.5, **options)
    figure.suptitle(title, fontsize=10, x=0.01, y=1 - 0.1 / height, ha="left", va="top")
    return save_figure(figure, file)
