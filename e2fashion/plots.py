"""Line and bar figures for print, in one style that also works without color."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2fashion.disk import atomic_file
from e2fashion.tables import Value
from e2fashion.types import E2FashionError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Color (readable as gray), marker, line and hatch of the first, second, ... series.
STYLES = (
    ("#000000", "o", "-", ""),
    ("#d55e00", "s", "--", "///"),
    ("#0072b2", "^", "-.", "xxx"),
    ("#7f7f7f", "D", ":", "..."),
    ("#009e73", "v", "-", "\\\\\\"),
    ("#cc79a7", "P", "--", "++"),
)
DPI = 200


@dataclass(frozen=True)
class Point:
    """``value`` at ``x``; ``low`` and ``high`` bound it where a spread or an interval is known."""

    x: float
    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, x: float, value: Value) -> Point:
        """The mean of several runs, one deviation either side, or a single run with its interval."""
        if value.sd is None:
            return cls(x, value.mean, value.low, value.high)
        return cls(x, value.mean, value.mean - value.sd, value.mean + value.sd)


def draw_curves(
    curves: Mapping[str, Sequence[Point]], file: Path, x_label: str, y_label: str, log_x: bool = False
) -> Path:
    """A line with markers per series, error bars where a point has bounds, ticks at the measured x values."""
    _check(curves, file)
    figure, axes = new_axes()
    for (name, points), (color, marker, line, _) in zip(curves.items(), _styles(curves), strict=True):
        ordered = sorted(points, key=lambda point: point.x)
        x, y = [point.x for point in ordered], [point.value for point in ordered]
        errors = [
            [0.0 if point.low is None else point.value - point.low for point in ordered],
            [0.0 if point.high is None else point.high - point.value for point in ordered],
        ]
        axes.errorbar(x, y, yerr=errors, color=color, marker=marker, linestyle=line, capsize=3, ms=5, label=name)
    ticks = sorted({point.x for points in curves.values() for point in points})
    if log_x:
        axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    _label(axes, x_label, y_label, len(curves))
    return save_figure(figure, file)


def draw_bars(bars: Mapping[str, Mapping[str, Point]], file: Path, y_label: str) -> Path:
    """Grouped bars from zero (``bars``: series, then group); ``x`` is not used."""
    _check(bars, file)
    names = list(dict.fromkeys(group for by_group in bars.values() for group in by_group))
    figure, axes = new_axes(width=max(4.8, 1.3 * len(names) + 1.0))
    width = 0.8 / len(bars)
    for index, ((series, points), (color, _, _, hatch)) in enumerate(zip(bars.items(), _styles(bars), strict=True)):
        for number, group in enumerate(names):
            if group not in points:
                continue
            point = points[group]
            bounds = None
            if point.low is not None and point.high is not None:
                bounds = [[max(point.value - point.low, 0.0)], [max(point.high - point.value, 0.0)]]
            axes.bar(
                number + (index - (len(bars) - 1) / 2) * width,
                point.value,
                0.92 * width,
                yerr=bounds,
                capsize=2.5,
                facecolor="white" if hatch else color,
                edgecolor=color,
                hatch=hatch,
                error_kw={"elinewidth": 0.9, "ecolor": "#b0b0b0" if not hatch else "#000000"},
                label=series if group == next(iter(g for g in names if g in points)) else None,
            )
    axes.set_xticks(range(len(names)), names)
    _label(axes, "", y_label, len(bars))
    return save_figure(figure, file)


def draw_frequencies(counts: Mapping[str, Sequence[int]], file: Path, unit: str) -> Path:
    """The number of products of the n-th most frequent ``unit``, on logarithmic axes."""
    _check(counts, file)
    figure, axes = new_axes()
    for (name, values), (color, marker, line, _) in zip(counts.items(), _styles(counts), strict=True):
        ordered = sorted(values, reverse=True)
        marked = sorted({round(10 ** (step / 4)) - 1 for step in range(40)})  # evenly spaced on a logarithmic axis
        axes.plot(
            range(1, len(ordered) + 1),
            ordered,
            color=color,
            linestyle=line,
            marker=marker,
            ms=4.5,
            markevery=[index for index in marked if index < len(ordered)],
            label=f"{name} ({len(ordered):,} {unit}s)",
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    _label(axes, f"rank of the {unit} by frequency", f"products of the {unit}", 2)
    return save_figure(figure, file)


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """An empty figure of this size in inches; ``options`` are those of matplotlib's ``Figure``.

    Raises:
        E2FashionError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise E2FashionError("Figures need matplotlib. Install it: pip install 'e2fashion[report]'.") from error
    figure = Figure(figsize=(width, height), **options)
    FigureCanvasAgg(figure)
    return figure


def new_axes(width: float = 4.8, height: float = 3.4) -> tuple[Figure, Axes]:
    """An empty figure of this size in inches, with its axes."""
    figure = new_figure(width, height, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def save_figure(figure: Figure, file: Path, dpi: int = DPI) -> Path:
    """Write a figure and create its folder. Texts may come from data: a ``$`` does not start a formula."""
    _take_texts_literally(figure)
    with atomic_file(file) as partial:
        kind = file.suffix.removeprefix(".") or "png"
        figure.savefig(partial, dpi=dpi, format=kind, facecolor="white", metadata={"Software": None})
    return file


def _take_texts_literally(figure: Figure) -> None:
    from matplotlib.text import Text

    axes = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
    # Matplotlib writes the powers of a logarithmic axis as formulas.
    powers = {label for axis in axes if axis.get_scale() == "log" for label in axis.get_ticklabels(which="both")}
    for artist in figure.findobj(Text):
        if isinstance(artist, Text) and artist not in powers:
            artist.set_parse_math(False)


def _label(axes: Axes, x_label: str, y_label: str, series: int) -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if series > 1:
        names = axes.get_legend_handles_labels()[1]
        columns = 1 if max(map(len, names)) > 20 else min(len(names), 4)
        # Above the axes, where it covers no value.
        axes.legend(
            frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, borderaxespad=0.2
        )


def _styles(series: Mapping[str, object]) -> tuple[tuple[str, str, str, str], ...]:
    return STYLES[: len(series)]


def _check(series: Mapping[str, object], file: Path) -> None:
    if not series or not all(series.values()):
        raise E2FashionError(f"there is nothing to draw in {file.name}: {list(series) or 'no series'} without values")
    if len(series) > len(STYLES):
        raise E2FashionError(f"{file.name} has {len(series)} series; there are styles for at most {len(STYLES)}")
