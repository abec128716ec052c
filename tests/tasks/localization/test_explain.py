"""Explanations of one image: which square each method sees, what is drawn, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_encoder import SETTINGS, build_tiny_encoder, save_tiny_run

from e2fashion.__main__ import main
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.transforms import normalize
from e2fashion.encoder import Encoder
from e2fashion.tasks.localization.attribution import gray_square
from e2fashion.tasks.localization.config import ExplainConfig, Method
from e2fashion.tasks.localization.explain import explain, explain_image
from e2fashion.types import E2FashionError

PLAIN = [word for word in SETTINGS if not word.startswith(("model.entities", "model.fusion_layers"))]
TOKENWISE = [*PLAIN, "model.similarity=tokens"]


@pytest.fixture(scope="module")
def regional(synth_catalogue: Catalogue) -> Encoder:
    return build_tiny_encoder(synth_catalogue)


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randint(256, (3, 40, 24), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_every_method_shows_the_square_that_it_saw(regional: Encoder, image: torch.Tensor) -> None:
    methods: list[Method] = ["occlusion", "tokens", "attention", "rollout"]
    config = ExplainConfig(methods=methods, grid=4)
    found = explain_image(regional, image, config, ["red dress", "navy coat"])
    assert [item.method for item in found] == ["occlusion", "occlusion", "tokens", "attention", "rollout"]
    assert [item.subject for item in found] == ["red dress", "navy coat", "brand", "", ""]
    squared = regional.transform(image)
    grey = regional.transform(gray_square(image, regional.transform.mean))
    for explanation in found:
        seen = torch.from_numpy(explanation.heatmap.image).permute(2, 0, 1)
        assert torch.equal(seen, grey if explanation.method == "occlusion" else squared)
        assert len(explanation.heatmap.heat) == (32 * 32 if explanation.method == "occlusion" else 16)
    (same,) = explain_image(regional, image, replace(config, methods=["occlusion"], square="own"), ["x"])
    assert torch.equal(torch.from_numpy(same.heatmap.image).permute(2, 0, 1), squared)


def test_bf16_gives_nearly_the_same_heat_in_fp32(regional: Encoder, image: torch.Tensor) -> None:
    config = ExplainConfig(methods=["occlusion"], grid=4)
    heats = [
        torch.from_numpy(
            explain_image(regional, image, replace(config, precision=precision), ["red dress"])[0].heatmap.heat
        )
        for precision in ("fp32", "bf16")
    ]
    assert not torch.equal(*heats)
    assert (heats[0] - heats[1]).abs().mean() < 0.1


def test_selection_maps_are_those_of_the_forward_pass(regional: Encoder, image: torch.Tensor) -> None:
    (found,) = explain_image(regional, image, ExplainConfig(methods=["tokens"]))
    pixels = normalize(regional.transform(image)[None], regional.transform.mean, regional.transform.std)
    with torch.no_grad():
        output = regional.model.eval().get_image_features(pixels, output_selection_maps=True)
    torch.testing.assert_close(torch.from_numpy(found.heatmap.heat), output.selection_maps[0, -1].mean(0))
    assert found.heatmap.selected == output.selected_patches[0, -1].flatten().tolist()


@pytest.mark.parametrize(
    ("changes", "texts", "message"),
    [
        ({"methods": ["guessing"]}, [], "methods is 'guessing'; choose among tokens, attention, rollout, occlusion"),
        ({"methods": []}, [], "there are no methods"),
        ({"methods": ["occlusion"]}, [], "occlusion needs a text"),
        ({}, [""], "a text is empty"),
        ({"grid": 1}, ["coat"], "the grid of bands is 1"),
    ],
)
def test_what_cannot_be_explained(
    regional: Encoder, image: torch.Tensor, changes: dict[str, Any], texts: list[str], message: str
) -> None:
    with pytest.raises(E2FashionError, match=message):
        explain_image(regional, image, ExplainConfig(**changes), texts)


def test_models_without_what_a_method_needs(synth_catalogue: Catalogue, image: torch.Tensor) -> None:
    with pytest.raises(E2FashionError, match="'tiny' has no selection tokens"):
        explain_image(build_tiny_encoder(synth_catalogue, PLAIN), image, ExplainConfig(methods=["tokens"]))
    tokenwise = build_tiny_encoder(synth_catalogue, TOKENWISE)
    with pytest.raises(E2FashionError, match="stripe occlusion needs one vector per item"):
        explain_image(tokenwise, image, ExplainConfig(methods=["occlusion"]), ["coat"])
    assert explain_image(tokenwise, image)  # by attention


def test_from_python_it_returns_the_maps(synth_catalogue: Catalogue, tmp_path: Path) -> None:
    model = save_tiny_run(synth_catalogue, tmp_path / "mine")
    Image.new("RGB", (30, 40), "navy").save(tmp_path / "coat.png")
    explained = explain(ExplainConfig(model=str(model), image=str(tmp_path / "coat.png"), text="a | b", grid=2))
    assert [(item.method, item.subject) for item in explained.maps] == [
        ("occlusion", "a"),
        ("occlusion", "b"),
        ("tokens", "brand"),
    ]
    assert explained.draw(tmp_path / "coat_explained.png").stat().st_size > 5_000


def test_the_command_draws_files_and_products(
    synth_catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model = save_tiny_run(synth_catalogue, tmp_path / "mine")
    Image.new("RGB", (30, 40), "navy").save("coat.png")
    assert main(["explain", str(model), "coat.png", "text=navy coat | a logo", "grid=3"]) == 0
    said = capsys.readouterr().out
    assert "stripe occlusion: navy coat" in said
    assert "stripe occlusion: a logo" in said
    assert "selection tokens: brand" in said
    assert (tmp_path / "runs" / "explain" / "mine" / "coat.png").stat().st_size > 5_000
    sample = next(synth_catalogue.samples("test"))
    product = [f"data={synth_catalogue.path}", f"product_id={sample.product_id}"]
    assert main(["explain", str(model), *product, "grid=3", "output=product.png"]) == 0
    assert sample.description in capsys.readouterr().out
    assert Path("product.png").is_file()
    for words, message in (
        ([], "give one, an image file, or a catalogue and a product_id"),
        (["coat.png", *product], "give one, an image file, or a catalogue"),
        (["nowhere.png"], "cannot be read as an image"),
        (["coat.png", "text="], "'text=' has no value"),
        ([product[0], "product_id=nobody"], "has no product 'nobody'"),
        ([product[0]], "without product_id"),
    ):
        assert main(["explain", str(model), *words]) == 1
        assert message in capsys.readouterr().err
