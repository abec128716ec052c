"""Figures of images: retrieved products, selected patches, and contact sheets."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from einops import rearrange
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from e2fashion.plots import new_figure, save_figure
from e2fashion.types import Entity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

RIGHT, WRONG, QUIET = "#1a7f37", "#d1242f", "#57606a"
LINES = 8  #: of a query's text next to its images
DPI = 130
CELL, MARGIN, LINE = 180, 14, 16
ACROSS = 5
INK, PAPER = "#1f2328", "#ffffff"
ImageArray = NDArray[np.uint8]


def as_array(pixels: Tensor) -> ImageArray:
    """Pixels (3, H, W) as an array (H, W, 3)."""
    return rearrange(pixels.numpy(), "channels height width -> height width channels", channels=3)


@dataclass(frozen=True)
class Heatmap:
    """The input (H, W, 3) of a model, its heat map (P,), and the selected patches."""

    image: ImageArray
    heat: NDArray[np.float32]
    selected: list[int]


@dataclass(frozen=True)
class RetrievedRow:
    """One text query: its image, and each model's top images with whether they are relevant.

    ``selected`` is drawn in place of the query's image.
    """

    text: str
    truth: ImageArray
    retrieved: dict[str, list[tuple[ImageArray, bool]]]
    rank: dict[str, int]
    selected: Heatmap | None = None


@dataclass(frozen=True)
class SelectionRow:
    """One image (H, W, 3) with, per entity, its tag (None: unknown), soft map (P,) and selected patches.

    ``boxes`` are the known true regions in fractions of the image (left, top, right, bottom); ``reference`` is the map
    of another model, which does not depend on the entity.
    """

    image: ImageArray
    tags: dict[str, str | None]
    maps: dict[str, NDArray[np.float32]]
    selected: dict[str, list[int]]
    boxes: dict[str, list[tuple[float, float, float, float]]]
    reference: Heatmap | None = None


def draw_retrieved(rows: Sequence[RetrievedRow], file: Path, title: str, dpi: int = DPI) -> None:
    """A row per query: its image, then every model's top images, relevant ones framed in green."""
    models = list(rows[0].retrieved)
    shown = len(rows[0].retrieved[models[0]])
    columns = 1 + len(models) * shown
    figure, axes = _grid(len(rows), columns, cell=1.25, top=0.9, left=2.6)
    for line, row in zip(axes, rows, strict=True):
        _show(line[0], row.truth, QUIET) if row.selected is None else _overlay(line[0], row.selected, [])
        text = "\n".join(textwrap.wrap(row.text, 34, max_lines=LINES, placeholder=" ..."))
        line[0].set_ylabel(text, fontsize=7.5, rotation=0, ha="right", va="center", labelpad=6)
        cells = iter(line[1:])
        for model in models:
            for position, (image, right) in enumerate(row.retrieved[model], start=1):
                cell = next(cells)
                _show(cell, image, RIGHT if right else WRONG)
                if position == 1:
                    cell.set_xlabel(f"first hit at rank {row.rank[model]}", fontsize=7, loc="left", labelpad=2)
    axes[0][0].set_title("query's product", fontsize=8)
    for index, model in enumerate(models):
        axes[0][1 + index * shown].set_title(f"{model}: top {shown}", fontsize=9, loc="left", fontweight="bold")
    _title(figure, title)
    save_figure(figure, file, dpi)


def draw_selection(
    rows: Sequence[SelectionRow],
    entities: Sequence[Entity],
    file: Path,
    title: str,
    reference: str = "another model",
    across: int = 1,
    cell: float = 1.75,
    dpi: int = DPI,
) -> None:
    """A row per product: the image, then per entity the map of its tokens and the selected patches.

    Brightness is the mean probability over the entity's tokens; frames mark the selected patches, dashes the true
    region. A last column titled ``reference`` shows the map of another model if the rows have one. Each row has
    ``across`` products, with images of ``cell`` inches.
    """
    headings = ["image", *(entity.name for entity in entities), *([reference] if rows[0].reference else [])]
    # A narrow empty column separates the products.
    widths = ([1.0] * len(headings) + [0.12]) * across
    figure, axes = _grid(-(-len(rows) // across), len(widths) - 1, cell, top=0.7, widths=widths[:-1])
    letters = int(15 * cell)
    for number, product in enumerate(rows):
        first = number % across * (len(headings) + 1)
        line = axes[number // across][first : first + len(headings)]
        _show(line[0], product.image, QUIET)
        for shown, entity in zip(line[1:], entities, strict=False):
            heatmap = Heatmap(product.image, product.maps[entity.name], product.selected[entity.name])
            _overlay(shown, heatmap, product.boxes.get(entity.name, []))
            tag = product.tags.get(entity.name)
            tag = tag if tag is None or len(tag) <= letters else tag[: letters - 3].rstrip() + "..."
            shown.set_xlabel(tag or "(unknown)", fontsize=8 if cell > 1.5 else 7, labelpad=3)
        if product.reference is not None:
            _overlay(line[-1], product.reference, [])
        if number < across:
            for shown, heading in zip(line, headings, strict=True):
                shown.set_title(heading, fontsize=9 if cell > 1.5 else 8, fontweight="bold")
    for empty in axes.flat:
        empty.set_axis_on() if empty.images else empty.set_axis_off()
    _title(figure, title)
    save_figure(figure, file, dpi)


def draw_heatmaps(
    image: ImageArray,
    heatmaps: Sequence[Heatmap],
    headings: Sequence[str],
    captions: Sequence[str],
    file: Path,
    title: str,
    across: int,
) -> None:
    """One image (H, W, 3), then every map with its heading above and its caption of up to two lines below."""
    columns = min(across, 1 + len(heatmaps))
    figure, axes = _grid(-(-(1 + len(heatmaps)) // columns), columns, cell=1.9, top=0.7, below=0.62, gap=0.36)
    cells = list(axes.flat)
    _show(cells[0], image, QUIET)
    cells[0].set_title("image", fontsize=8.5, fontweight="bold")
    for shown, heatmap, heading, caption in zip(cells[1:], heatmaps, headings, captions, strict=False):
        _overlay(shown, heatmap, [])
        shown.set_title(heading, fontsize=8.5, fontweight="bold")
        shown.set_xlabel(caption, fontsize=8, labelpad=3)
    for empty in cells[1 + len(heatmaps) :]:
        empty.set_axis_off()
    _title(figure, title)
    save_figure(figure, file, DPI)


def _overlay(cell: Axes, heatmap: Heatmap, boxes: Sequence[tuple[float, float, float, float]]) -> None:
    from matplotlib.patches import Rectangle

    height, width = heatmap.image.shape[:2]
    heat = heatmap.heat
    side = round(len(heat) ** 0.5)
    grid = rearrange(heat, "(rows columns) -> rows columns", rows=side, columns=side)
    strength = grid / max(float(grid.max()), 1e-9)
    cell.imshow(heatmap.image)
    veil = np.zeros((side, side, 4))
    veil[..., 3] = 0.62 * (1.0 - strength)
    cell.imshow(veil, extent=(0, width, height, 0), interpolation="nearest")
    for patch in sorted(set(heatmap.selected)):
        top, left = divmod(patch, side)
        corner = (left * width / side, top * height / side)
        cell.add_patch(Rectangle(corner, width / side, height / side, fill=False, edgecolor="#ffb000", linewidth=2))
    for left, top, right, bottom in boxes:
        corner = (left * width, top * height)
        size = ((right - left) * width, (bottom - top) * height)
        cell.add_patch(Rectangle(corner, *size, fill=False, edgecolor="#00a2ff", linewidth=1.2, linestyle="--"))
    cell.set_xlim(0, width)
    cell.set_ylim(height, 0)
    _frame(cell, QUIET, 0.6)


def _grid(
    rows: int,
    columns: int,
    cell: float,
    top: float,
    left: float = 0.2,
    widths: Sequence[float] | None = None,
    below: float = 0.28,
    gap: float = 0.2,
) -> tuple[Figure, Any]:
    widths = widths or [1.0] * columns
    size = (left + sum(widths) * cell, top + rows * (cell + below))
    figure = new_figure(*size)
    axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw={"width_ratios": widths})
    figure.subplots_adjust(
        left=left / size[0], right=0.99, top=1 - top / size[1], bottom=below / size[1], wspace=0.08, hspace=gap
    )
    return figure, axes


def _show(cell: Axes, image: ImageArray, color: str) -> None:
    cell.imshow(image)
    _frame(cell, color, 0.6 if color == QUIET else 2.2)


def _frame(cell: Axes, color: str, width: float) -> None:
    cell.set_xticks([])
    cell.set_yticks([])
    for spine in cell.spines.values():
        spine.set_edgecolor(color)
        spine.set_linewidth(width)


def _title(figure: Figure, title: str) -> None:
    # In inches from the upper edge, so that tall figures keep it clear of the headings.
    height = 1 - 0.12 / figure.get_figheight()
    figure.suptitle(title, fontsize=10, x=0.01, y=height, ha="left", va="top")


@dataclass(frozen=True)
class Pane:
    """An image and the lines below it, the first of them darker."""

    image: Image.Image
    lines: Sequence[str]


def draw_sheet(panes: Sequence[Pane], file: Path, title: str, most_across: int = ACROSS) -> Path:
    """Write a contact sheet as PNG: a title, then the panes in rows of ``most_across``."""
    lines = max((len(pane.lines) for pane in panes), default=0)
    across = max(1, min(most_across, len(panes)))
    height = CELL + 8 + lines * LINE + MARGIN
    rows = -(-len(panes) // across)
    font, bold = _font(12), _font(14)
    width = max(MARGIN + across * (CELL + MARGIN), 2 * MARGIN + int(bold.getlength(title)))
    sheet = Image.new("RGB", (width, MARGIN + 26 + rows * height), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN), title, fill=INK, font=bold)
    for number, pane in enumerate(panes):
        left = MARGIN + number % across * (CELL + MARGIN)
        top = MARGIN + 26 + number // across * height
        thumbnail = ImageOps.contain(pane.image, (CELL, CELL), Image.Resampling.LANCZOS)
        sheet.paste(thumbnail, (left + (CELL - thumbnail.width) // 2, top + (CELL - thumbnail.height) // 2))
        pen.rectangle((left, top, left + CELL - 1, top + CELL - 1), outline="#d0d7de")
        for line, text in enumerate(pane.lines):
            ink = INK if line == 0 else QUIET
            pen.text((left, top + CELL + 6 + line * LINE), _cut(text, font, CELL), fill=ink, font=font)
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(file, "PNG")
    return file


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu from matplotlib's files, which has umlauts and other scripts; without it Pillow's, which has ASCII."""
    package = find_spec("matplotlib")
    if package is not None and package.origin is not None:
        file = Path(package.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if file.is_file():
            return ImageFont.truetype(str(file), size)
    return ImageFont.load_default(size)


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The beginning of a text that fits into ``width`` pixels."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."
