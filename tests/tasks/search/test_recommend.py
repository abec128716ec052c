"""Recommendations along a direction."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from stub_encoder import ColorEncoder

from e2fashion.tasks.search.build import build_index
from e2fashion.tasks.search.config import EmbedConfig, RecommendConfig
from e2fashion.tasks.search.index import ProductIndex
from e2fashion.tasks.search.recommend import recommend
from e2fashion.types import E2FashionError

ENCODER: Any = ColorEncoder()
CONFIG = EmbedConfig(commit_rows=8)


@pytest.fixture
def shades(tmp_path: Path) -> ProductIndex:
    """From red to blue in eleven images, and as many greens."""
    folder = tmp_path / "shades"
    folder.mkdir()
    for number in range(11):
        blue = 25 * number
        Image.new("RGB", (8, 8), (250 - blue, 0, blue)).save(folder / f"purple_{number:02}.png")
        Image.new("RGB", (8, 8), (10, 250 - 5 * number, 10)).save(folder / f"green_{number:02}.png")
    return build_index(ENCODER, folder, tmp_path / "index", CONFIG, progress=False)


def test_the_list_is_graded_and_leads_towards_the_text(shades: ProductIndex) -> None:
    config = RecommendConfig(text="blue", product="purple_00", away="red", support=2, steps=6)
    path = recommend(config, shades)
    assert path.start is not None
    assert path.start.product_id == "purple_00"
    found = path.hits
    names = [item.hit.product_id for item in found]
    assert names == sorted(names)
    assert names[0] in ("purple_01", "purple_02")
    assert names[-1] > "purple_04"
    grades = [path.start_grade, *(item.grade for item in found)]
    assert grades == sorted(set(grades))
    vector = shades.vector_of(names[0])
    assert found[0].similarity == pytest.approx(float((vector * shades.vector_of("purple_00")).sum()), abs=1e-5)
    assert found[0].similarity <= found[0].hit.score <= 1.0 + 1e-6


def test_a_path_from_an_image_and_against_all_products(shades: ProductIndex) -> None:
    config = RecommendConfig(text="green", support=3, stride=0.5)
    path = recommend(config, shades, Image.new("RGB", (8, 8), "red"))
    assert path.hits[-1].hit.product_id.startswith("green")
    assert path.start is None
    path = recommend(RecommendConfig(text="red", product="purple_00", away="blue", support=1), shades)
    assert path.hits == []
    assert path.start_grade > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": "blue"}, "give one start"),
        ({"text": "blue", "product": "purple_99"}, "there is no product 'purple_99' in .*: did you mean 'purple_0"),
        ({"text": " ", "product": "purple_00"}, "text of the query is empty"),
        ({"text": "red", "away": "red", "product": "purple_00"}, "'red' finds the same images as 'red'"),
        ({"text": "red", "product": "purple_00", "support": 99}, "'red' finds the same images as all products"),
        ({"text": "red", "product": "purple_00", "steps": 0}, "steps is 0; give a number above 0"),
    ],
)
def test_paths_that_lead_nowhere(shades: ProductIndex, options: dict[str, Any], message: str) -> None:
    with pytest.raises(E2FashionError, match=message):
        recommend(RecommendConfig(**options), shades)
