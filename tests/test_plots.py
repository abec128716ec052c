"""Curves, bars and long tails: files that can be opened, errors for what cannot be drawn."""

from pathlib import Path

import pytest
from PIL import Image

from e2fashion.plots import STYLES, Point, draw_bars, draw_curves, draw_frequencies, new_axes, save_figure
from e2fashion.types import E2FashionError


def is_drawn(file: Path) -> bool:
    with Image.open(file) as picture:
        grey = picture.convert("L")
        return grey.width > 600 and grey.getextrema()[0] < 60


def test_curves_bars_and_tails_are_drawn(tmp_path: Path) -> None:
    points = [Point(64, 30.0, 28.0, 31.0), Point(16, 20.0)]
    assert is_drawn(
        draw_curves({"E2": points, "CLIP-FT": points[:1]}, tmp_path / "new" / "c.png", "batch", "R@1", True)
    )
    bars = {"CLIP": {"brand": Point(0, 5.0)}, "E2": {"brand": Point(0, 6.0, 5.0, 7.0), "season": Point(0, 1.0)}}
    assert is_drawn(draw_bars(bars, tmp_path / "b.png", "accuracy (%)"))
    assert is_drawn(draw_frequencies({"a data set": [100, 30, 2, 1]}, tmp_path / "f.png", "brand"))


def test_a_legend_stays_within_the_figure(tmp_path: Path) -> None:
    long = {"A data set with a very long name": [9, 4, 1], "Another data set with a long name": [8, 3, 1]}
    file = draw_frequencies(long, tmp_path / "f.png", "brand")
    with Image.open(file) as picture:
        right_edge = picture.convert("L").crop((picture.width - 4, 0, picture.width, picture.height))
        assert right_edge.getextrema()[0] == 255


@pytest.mark.parametrize("text", ["$9.99 to $19", r"$\frac$", "a $b$ c"])
def test_texts_of_data_are_no_formulas(text: str, tmp_path: Path) -> None:
    figure, axes = new_axes()
    axes.plot([1, 2], [1, 2], label=text)
    axes.set_xticks([1, 2], [text, text])
    own = [axes.set_title(text), axes.set_xlabel(text), figure.suptitle(text), *axes.legend().get_texts()]
    own += axes.get_xticklabels()
    save_figure(figure, tmp_path / "f.png")
    assert {label.get_text() for label in own} == {text}
    assert not any(label.get_parse_math() for label in own)


def test_powers_at_a_logarithmic_axis_stay_formulas(tmp_path: Path) -> None:
    figure, axes = new_axes()
    axes.plot([1, 1000], [1, 1000])
    axes.set_xscale("log")
    save_figure(figure, tmp_path / "f.png")
    powers = [label for label in axes.get_xticklabels() if label.get_text()]
    assert powers
    assert all(label.get_parse_math() for label in powers)


def test_series_differ_without_color() -> None:
    assert len({marker for _, marker, _, _ in STYLES}) == len({hatch for *_, hatch in STYLES}) == len(STYLES)


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ({}, "nothing to draw in c.png: no series"),
        ({"E2": []}, r"nothing to draw in c.png: \['E2'\] without values"),
        ({str(number): [Point(1, 1)] for number in range(7)}, "has 7 series; there are styles for at most 6"),
    ],
)
def test_what_cannot_be_drawn_is_said(curves: dict[str, list[Point]], message: str, tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match=message):
        draw_curves(curves, tmp_path / "c.png", "x", "y")
