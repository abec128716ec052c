"""Figures: whole, of a readable size, whatever the texts and the number of models."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from e2fashion.figures import Heatmap, Pane, RetrievedRow, SelectionRow, draw_retrieved, draw_selection, draw_sheet
from e2fashion.types import Entity

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install e2fashion[report]")


def picture(grey: int) -> np.ndarray:
    return np.full((32, 32, 3), 20 * grey, dtype=np.uint8)


def retrieved(models: int, shown: int = 5, text: str = "a shirt") -> RetrievedRow:
    names = [f"model_{number}" for number in range(models)]
    result = {name: [(picture(place), place == 1) for place in range(shown)] for name in names}
    return RetrievedRow(text, picture(9), result, dict.fromkeys(names, 2))


def selected(entities: int, boxes: bool = True) -> SelectionRow:
    names = [f"entity_{number}" for number in range(entities)]
    return SelectionRow(
        picture(1),
        {name: "a tag" if number else None for number, name in enumerate(names)},
        {name: np.full(16, 1 / 16, dtype=np.float32) for name in names},
        {name: [0, 5] for name in names},
        {name: [(0.25, 0.25, 0.5, 0.5)] if boxes else [] for name in names},
    )


def pixels_of(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("models", [1, 2, 3])
@pytest.mark.parametrize("queries", [1, 6])
def test_retrieved_products_fit_a_page(tmp_path: Path, models: int, queries: int) -> None:
    draw_retrieved([retrieved(models)] * queries, tmp_path / "r.png", "Retrieval")
    height, width = pixels_of(tmp_path / "r.png").shape[:2]
    assert 600 < width < 4000
    assert 200 < height < 2500


def test_a_long_text_stays_within_its_line(tmp_path: Path) -> None:
    rows = [
        retrieved(2, text="word " * 400),
        retrieved(2, text="x" * 3000),
        retrieved(2, text="a $dollar and $another"),
    ]
    draw_retrieved(rows, tmp_path / "long.png", "Retrieval")
    draw_retrieved([retrieved(2)] * 3, tmp_path / "short.png", "Retrieval")
    long, short = pixels_of(tmp_path / "long.png"), pixels_of(tmp_path / "short.png")
    assert long.shape == short.shape
    title = slice(0, int(0.05 * long.shape[0]))
    assert np.array_equal(long[title], short[title])


def test_fewer_images_than_places(tmp_path: Path) -> None:
    draw_retrieved([retrieved(2, shown=2)], tmp_path / "few.png", "Retrieval")
    assert pixels_of(tmp_path / "few.png").std() > 10


@pytest.mark.parametrize("boxes", [True, False], ids=["with_boxes", "without"])
def test_selected_patches(tmp_path: Path, boxes: bool) -> None:
    entities = [Entity(f"entity_{number}", "column") for number in range(3)]
    draw_selection([selected(3, boxes)] * 2, entities, tmp_path / "s.png", "Selection")
    shown = pixels_of(tmp_path / "s.png")
    assert 500 < shown.shape[1] < 2500
    yellow = (np.abs(shown.astype(int) - (255, 176, 0)).sum(-1) < 40).any()
    blue = (np.abs(shown.astype(int) - (0, 162, 255)).sum(-1) < 60).any()
    assert (yellow, blue) == (True, boxes)


@pytest.mark.parametrize("products", [1, 5])
def test_products_side_by_side_with_another_model(tmp_path: Path, products: int) -> None:
    look = Heatmap(picture(8), np.linspace(0, 1, 16, dtype=np.float32), [15])
    rows = [replace(selected(2), reference=look)] * products
    entities = [Entity(f"entity_{number}", "column") for number in range(2)]
    draw_selection(rows, entities, tmp_path / "wide.png", "Selection", reference="attention", across=2, cell=1.2)
    draw_selection(rows, entities, tmp_path / "tall.png", "Selection", reference="attention", cell=1.2)
    wide, tall = pixels_of(tmp_path / "wide.png"), pixels_of(tmp_path / "tall.png")
    assert 1.9 < wide.shape[1] / tall.shape[1] < 2.2
    assert wide.shape[0] < tall.shape[0] or products == 1
    # What no product fills stays white.
    corner = wide[-60:, -100:]
    assert (corner.min() == 255) == (products % 2 == 1)


def test_the_title_of_a_tall_page_is_clear_of_the_headings(tmp_path: Path) -> None:
    draw_selection([selected(1)] * 30, [Entity("entity_0", "column")], tmp_path / "s.png", "Selection")
    above = pixels_of(tmp_path / "s.png")[: int(0.7 * 130)]
    written = (above.min(axis=(1, 2)) < 128).astype(int)
    assert int((np.diff(written) == 1).sum()) == 2  # two lines of letters: the title, then the headings


def test_the_same_figure_is_the_same_file(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw_retrieved([retrieved(1)], tmp_path / name, "Retrieval")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_sheet_shows_umlauts_and_other_scripts(tmp_path: Path) -> None:
    letters = ("Ä", "ß", "Ж", "λ", "→")
    drawn = {
        letter: draw_sheet(
            [Pane(Image.new("RGB", (8, 8)), [letter])], tmp_path / f"{ord(letter)}.png", "x"
        ).read_bytes()
        for letter in letters
    }
    assert len(set(drawn.values())) == len(letters)  # what a font lacks is one box for all
