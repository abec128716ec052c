"""Recommendations along a direction, and approximate search."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from stub_encoder import ColorEncoder

from e2fashion.tasks.search import approximate
from e2fashion.tasks.search.build import build_index
from e2fashion.tasks.search.config import EmbedConfig, RecommendConfig
from e2fashion.tasks.search.exact import Gallery
from e2fashion.tasks.search.index import ProductIndex, open_index
from e2fashion.tasks.search.recommend import recommend
from e2fashion.types import E2FashionError

ENCODER: Any = ColorEncoder()
CONFIG = EmbedConfig(shard_rows=8)


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
        ({"text": "blue", "product": "purple_99"}, "there is no product 'purple_99' in .* near it: 'purple_0"),
        ({"text": " ", "product": "purple_00"}, "text of the query is empty"),
        ({"text": "red", "away": "red", "product": "purple_00"}, "'red' finds the same images as 'red'"),
        ({"text": "red", "product": "purple_00", "support": 99}, "'red' finds the same images as all products"),
        ({"text": "red", "product": "purple_00", "steps": 0}, "steps is 0; give a number above 0"),
    ],
)
def test_paths_that_lead_nowhere(shades: ProductIndex, options: dict[str, Any], message: str) -> None:
    with pytest.raises(E2FashionError, match=message):
        recommend(RecommendConfig(**options), shades)


def test_faiss_finds_what_exact_search_finds(shades: ProductIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    expected = shades.search("red", top=3)
    assert shades.search("red", top=3, engine="faiss") == expected
    assert shades.approximate.recall > 0.98  # the tenth and the eleventh may score the same
    assert "% of the exact best 10 of 22 vectors of products" in shades.approximate.describe()
    assert len(list(shades.path.glob("approximate-*.faiss"))) == 1
    monkeypatch.setattr(approximate, "ROWS", 10)
    assert shades.uses_faiss()
    assert not shades.uses_faiss("exact")
    with pytest.raises(E2FashionError, match="engine is 'fast'; choose auto, exact or faiss"):
        shades.search("red", engine="fast")  # type: ignore[arg-type]
    next(shades.path.glob("approximate-*.faiss")).write_bytes(b"broken")
    with pytest.raises(E2FashionError, match=r"approximate-.* cannot be read .*: delete it"):
        open_index(shades.path, ENCODER).search("red", engine="faiss")


def test_without_faiss(shades: ProductIndex, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr("e2fashion.tasks.search.approximate.find_spec", lambda name: None)
    monkeypatch.setattr("e2fashion.tasks.search.index.find_spec", lambda name: None)
    with pytest.raises(E2FashionError, match=r"needs faiss. Install it: pip install 'e2fashion\[ann\]'"):
        shades.search("red", engine="faiss")
    monkeypatch.setattr(approximate, "ROWS", 10)
    assert len(shades.search("red", top=3)) == 3
    assert "searching 22 products exactly: faiss is not installed" in caplog.text


def test_recall_of_many_lists_is_measured(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    rows = F.normalize(torch.randn(20_000, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    found = approximate.open_approximate(tmp_path, "0" * 64, Gallery([rows]), 16)
    assert found.lists == 312
    assert 0.5 < found.recall < 1.0
    scores, positions = found.nearest(rows[:4], Gallery([rows]), 1, torch.arange(20_000))
    assert positions[:, 0].tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(scores[:, 0], torch.ones(4, dtype=torch.float64))
