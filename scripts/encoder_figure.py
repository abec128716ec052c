"""Draw the encoder for docs/method.md: ``python -m scripts.encoder_figure docs/encoder.svg``."""

from __future__ import annotations

import sys

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle

INK, PAPER, PATCH = "#333333", "#f4f4f2", "#c9ccd1"
GLOBAL, BRAND, SEASON = "#5b6470", "#d9822b", "#2b7bba"
#: Rows of the sequence from the top: label, color, height.
ROWS = {
    "CLS": (GLOBAL, 5.55),
    "patch 1": (PATCH, 4.75),
    "patch 2": (PATCH, 4.2),
    "patch 3": (PATCH, 3.65),
    "patch P": (PATCH, 2.85),
    "brand 1": (BRAND, 2.05),
    "brand 2": (BRAND, 1.5),
    "season 1": (SEASON, 0.95),
    "season 2": (SEASON, 0.4),
}


def box(
    axes: Axes, x: float, y: float, width: float, height: float, text: str, color: str = PAPER, size: float = 8
) -> None:
    """A rounded box around (x, y), its center."""
    corner = (x - width / 2, y - height / 2)
    axes.add_patch(
        FancyBboxPatch(
            corner, width, height, boxstyle="round,pad=0,rounding_size=0.08", facecolor=color, edgecolor=INK, lw=0.8
        )
    )
    light = color in (PAPER, PATCH, "white")
    axes.text(x, y, text, ha="center", va="center", fontsize=size, color=INK if light else "white", linespacing=1.35)


def arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str = INK, bend: float = 0.0
) -> None:
    """An arrow, straight unless bent."""
    style = f"arc3,rad={bend}"
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=8,
            color=color,
            lw=1.1,
            connectionstyle=style,
            shrinkA=0,
            shrinkB=0,
        )
    )


def draw_image(axes: Axes, x: float, y: float, size: float) -> None:
    """A shirt with a logo and a striped hem, cut into 4 x 4 patches, with the patches that tokens pick framed."""
    axes.add_patch(Rectangle((x, y), size, size, facecolor="white", edgecolor=INK, lw=0.8))
    outline = [
        (0.3, 0.9),
        (0.42, 0.84),
        (0.58, 0.84),
        (0.7, 0.9),
        (0.94, 0.66),
        (0.84, 0.55),
        (0.72, 0.64),
        (0.72, 0.1),
    ]
    outline += [(1 - across, up) for across, up in reversed(outline)]
    axes.add_patch(
        Polygon([(x + a * size, y + b * size) for a, b in outline], facecolor="#dfe6ee", edgecolor=INK, lw=0.8)
    )
    for up in (0.12, 0.18):
        axes.add_patch(Rectangle((x + 0.285 * size, y + up * size), 0.43 * size, 0.03 * size, facecolor=SEASON, lw=0))
    axes.add_patch(Rectangle((x + 0.57 * size, y + 0.61 * size), 0.09 * size, 0.07 * size, facecolor=BRAND, lw=0))
    for step in (0.25, 0.5, 0.75):
        axes.plot([x + step * size] * 2, [y, y + size], color=INK, lw=0.4)
        axes.plot([x, x + size], [y + step * size] * 2, color=INK, lw=0.4)
    for column, row, color in ((2, 2, BRAND), (1, 0, SEASON)):
        corner = (x + column * size / 4, y + row * size / 4)
        axes.add_patch(Rectangle(corner, size / 4, size / 4, fill=False, edgecolor=color, lw=2.2))


def draw(axes: Axes) -> None:
    """The whole figure, 16 by 6.6 units."""
    draw_image(axes, 0.1, 2.55, 2.3)
    axes.text(1.25, 5.1, "image, P patches", ha="center", fontsize=8, color=INK)
    axes.text(1.25, 1.5, "selection tokens:\nlearned, K per entity", ha="center", va="center", fontsize=8, color=INK)
    arrow(axes, (2.45, 3.7), (2.85, 3.7))
    arrow(axes, (2.3, 1.3), (2.85, 1.25))
    for name, (color, y) in ROWS.items():
        box(axes, 3.4, y, 1.0, 0.42, name, color)
        arrow(axes, (3.92, y), (4.3, y), INK)
    axes.text(3.4, 3.25, "...", ha="center", va="center", fontsize=10, color=INK)
    box(axes, 5.05, 2.97, 1.4, 5.8, "layers\n1 to l\nof CLIP's\nViT")
    box(axes, 7.6, 2.97, 3.0, 5.8, "", "white")
    axes.text(7.6, 5.6, "fusion block", ha="center", fontsize=9, color=INK, weight="bold")
    for name, (color, y) in ROWS.items():
        if name != "CLS":
            arrow(axes, (5.77, y), (6.08, y))
            box(axes, 6.42, y, 0.6, 0.36, "", color)
    axes.text(6.42, 3.25, "...", ha="center", va="center", fontsize=10, color=INK)
    arrow(axes, (5.77, 5.55), (6.1, 5.55))
    picks = {
        "brand 1": ("patch 2", BRAND),
        "brand 2": ("patch 2", BRAND),
        "season 1": ("patch P", SEASON),
        "season 2": ("patch P", SEASON),
    }
    for token, (patch, color) in picks.items():
        start, end = ROWS[patch][1], ROWS[token][1]
        arrow(axes, (6.74, start), (8.35, end), color, -0.15)
        axes.plot([6.72, 8.35], [end, end], color=color, lw=1.1)
        box(axes, 8.66, end, 0.6, 0.36, "", color)
    axes.text(
        7.95,
        4.72,
        "each token scores\nall patches and\nreads the best one",
        ha="center",
        va="center",
        fontsize=8,
        color=INK,
    )
    axes.plot([6.1, 9.1], [5.3, 5.3], color=INK, lw=0.5, ls=":")
    box(axes, 10.15, 2.97, 1.4, 5.8, "last layers:\nCLS and\ntokens;\npatches are\ndropped")
    arrow(axes, (9.12, 5.55), (9.43, 5.55))
    for name in picks:
        arrow(axes, (8.98, ROWS[name][1]), (9.43, ROWS[name][1]), picks[name][1])
    heads = {
        "image": (GLOBAL, 5.2, "“shirt . Calderwick .\na white shirt”"),
        "brand": (BRAND, 1.78, "“Calderwick”"),
        "season": (SEASON, 0.68, "“winter”"),
    }
    for name, (color, y, text) in heads.items():
        whole = name == "image"
        arrow(axes, (10.87, y), (11.2, y), color)
        box(axes, 11.95, y, 1.5, 0.78, "CLIP's\nprojection" if whole else f"{name} head:\nmean, project", "white", 7.5)
        arrow(axes, (12.72, y), (13.05, y), color)
        box(axes, 13.6, y, 1.1, 0.78, "image\nfeature" if whole else "region\nfeature", color, 7.5)
        arrow(axes, (14.17, y), (14.62, y), color)
        arrow(axes, (14.62, y), (14.17, y), color)
        axes.text(14.7, y, text, ha="left", va="center", fontsize=7.5, color=INK)
    axes.text(13.6, 4.35, "contrast with the text: weight 1 - w", ha="center", fontsize=8, color=INK)
    axes.text(
        13.6,
        2.55,
        "contrast with each tag's text: weight w,\nmean over the entities",
        ha="center",
        fontsize=8,
        color=INK,
    )
    axes.set_xlim(0, 16.6)
    axes.set_ylim(0, 6)
    axes.set_axis_off()


def main(output: str) -> None:
    """Write the figure as SVG, the same bytes each time."""
    with mpl.rc_context({"svg.hashsalt": "e2fashion", "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(11.6, 4.2))
        draw(figure.add_axes((0.005, 0.01, 0.99, 0.98)))
        figure.savefig(output, metadata={"Date": None, "Creator": None}, facecolor="white")


if __name__ == "__main__":
    main(sys.argv[1])
