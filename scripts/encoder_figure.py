"""Draw the encoder for docs/method.md: ``python -m scripts.encoder_figure docs/encoder.svg``."""

from __future__ import annotations

import sys

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle

INK, PAPER, PATCH = "#333333", "#f4f4f2", "#c9ccd1"
GLOBAL, BRAND, SEASON, EARLY = "#5b6470", "#d9822b", "#2b7bba", "#3f8f5f"
#: Rows of the sequence from the top: label, color, height.
ROWS = {
    "CLS": (GLOBAL, 5.55),
    "patch 1": (PATCH, 4.75),
    "patch 2": (PATCH, 4.2),
    "patch 3": (PATCH, 3.65),
    "patch P": (PATCH, 2.85),
    "brand 1": (BRAND, 1.75),
    "brand 2": (BRAND, 1.2),
    "season 1": (SEASON, 0.65),
    "season 2": (SEASON, 0.1),
}
PATCHES = [name for name in ROWS if name.startswith("patch")]
TOKENS = [name for name in ROWS if name.startswith(("brand", "season"))]
#: Line widths: how much a token's heads score each patch.
SCORES = {"brand": {"patch 1": 0.4, "patch 2": 2.2, "patch 3": 0.8}, "season": {"patch 3": 0.5, "patch P": 2.2}}
VALUES = 2.3  # the height at which the values pass the layers behind k


def box(
    axes: Axes, x: float, y: float, width: float, height: float, text: str, color: str = PAPER, size: float = 9
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
    """A shirt with a logo and a striped hem, cut into 4 x 4 patches, with the patches that tokens read most framed."""
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


def note(axes: Axes, x: float, y: float, text: str, color: str = INK, align: str = "center", size: float = 9) -> None:
    """Text without a box, centered at a height."""
    axes.text(x, y, text, ha=align, va="center", fontsize=size, color=color, linespacing=1.35)


def draw_layers(axes: Axes, x: float, name: str) -> None:
    """Layers that CLS and patches pass, which read the tokens, and the tokens, which attend to each other alone."""
    box(axes, x, 4.2, 1.2, 3.3, f"{name}\n\nCLS and\npatches\nattend to\nall")
    box(axes, x, 0.92, 1.2, 2.1, "tokens\nattend to\ntokens")
    arrow(axes, (x - 0.42, 1.97), (x - 0.42, 2.55))


def draw_fusion(axes: Axes) -> None:
    """The block: heads of scores from the states of layer l, mixtures of the values from layer k."""
    box(axes, 9.2, 2.85, 3.9, 6.0, "", "white")
    axes.text(9.2, 5.55, "fusion block", ha="center", va="center", fontsize=10, color=INK, weight="bold")
    for name in (*PATCHES, *TOKENS):
        color, y = ROWS[name]
        arrow(axes, (7.02, y), (7.32, y))
        box(axes, 7.62, y, 0.56, 0.36, "", color)
    note(axes, 7.62, 3.25, "...")
    note(axes, 9.6, 4.5, "each of a token's four heads\nscores all patches and mixes\ntheir values by the scores")
    axes.plot([5.32, 10.05], [VALUES, VALUES], color=EARLY, lw=2.2, solid_capstyle="butt")
    arrow(axes, (10.05, VALUES + 0.02), (10.05, 0.26), EARLY)
    for name in TOKENS:
        color, y = ROWS[name]
        for patch, width in SCORES[name.split()[0]].items():
            axes.plot([7.92, 8.76], [ROWS[patch][1], y], color=color, lw=width, alpha=0.75)
        axes.plot([7.9, 10.4], [y, y], color=color, lw=1.1)
        for head in range(4):
            corner = (8.76 + 0.19 * head, y - 0.13)
            axes.add_patch(Rectangle(corner, 0.19, 0.26, facecolor="white", edgecolor=color, lw=1.1, zorder=3))
        axes.add_patch(Circle((10.05, y), 0.16, facecolor="white", edgecolor=EARLY, lw=1.4, zorder=3))
        axes.text(10.05, y, "+", ha="center", va="center", fontsize=9, color=EARLY, zorder=4)
        box(axes, 10.7, y, 0.56, 0.36, "", color)


def draw_sequence(axes: Axes) -> None:
    """The image, the input of the first layer, and the patch states behind layer k, which are the values."""
    draw_image(axes, 0.05, 2.6, 2.1)
    note(axes, 1.1, 4.95, "image, P patches")
    note(axes, 0.98, 0.92, "selection tokens:\nlearned,\nK per entity")
    arrow(axes, (2.18, 3.65), (2.4, 3.65))
    for name, (color, y) in ROWS.items():
        box(axes, 2.92, y, 1.0, 0.42, name, color, 8.5)
        arrow(axes, (3.43, y), (3.68, y))
        arrow(axes, (4.92, y), (5.78, y))
    note(axes, 2.92, 3.25, "...")
    draw_layers(axes, 4.3, "layers\n1 to k")
    axes.plot([5.32, 5.32], [ROWS["patch 1"][1], VALUES], color=EARLY, lw=2.2, zorder=0.5)
    for name in PATCHES:
        box(axes, 5.32, ROWS[name][1], 0.44, 0.36, "", PATCH)
    draw_layers(axes, 6.4, "layers\nk+1 to l")


def draw_heads(axes: Axes) -> None:
    """What follows the last fusion block: features and what each is contrasted with."""
    box(axes, 11.95, 2.85, 1.1, 6.0, "last\nlayers:\nCLS and\ntokens;\npatches\nare\ndropped")
    arrow(axes, (7.02, 5.55), (7.25, 5.55))
    arrow(axes, (11.15, 5.55), (11.38, 5.55))
    for name in TOKENS:
        arrow(axes, (10.98, ROWS[name][1]), (11.38, ROWS[name][1]), ROWS[name][0])
    heads = {
        "image": (GLOBAL, 5.2, "“shirt . Calderwick .\na white shirt”"),
        "brand": (BRAND, 1.48, "“Calderwick”"),
        "season": (SEASON, 0.38, "“winter”"),
    }
    for name, (color, y, text) in heads.items():
        whole = name == "image"
        arrow(axes, (12.52, y), (12.78, y), color)
        box(axes, 13.45, y, 1.34, 0.82, "CLIP's\nprojection" if whole else f"{name} head:\nmean, project", "white", 8)
        arrow(axes, (14.13, y), (14.38, y), color)
        box(axes, 14.86, y, 0.94, 0.82, "image\nfeature" if whole else "region\nfeature", color, 8.5)
        arrow(axes, (15.34, y), (15.74, y), color)
        arrow(axes, (15.74, y), (15.34, y), color)
        note(axes, 15.8, y, text, align="left", size=8.5)
    note(axes, 14.86, 4.4, "contrast with the text: weight 1 - w")
    note(axes, 14.86, 2.35, "contrast with each tag's text:\nweight w, mean over the entities")


def draw(axes: Axes) -> None:
    """The whole figure, 17.6 by 6.3 units."""
    draw_sequence(axes)
    draw_fusion(axes)
    draw_heads(axes)
    note(axes, 9.45, VALUES + 0.17, "values", EARLY)
    axes.set_xlim(0, 17.6)
    axes.set_ylim(-0.25, 6.05)
    axes.set_axis_off()


def main(output: str) -> None:
    """Write the figure as SVG, the same bytes each time."""
    with mpl.rc_context({"svg.hashsalt": "e2fashion", "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(11.6, 4.3))
        draw(figure.add_axes((0.005, 0.01, 0.99, 0.98)))
        figure.savefig(output, metadata={"Date": None, "Creator": None}, facecolor="white")


if __name__ == "__main__":
    main(sys.argv[1])
