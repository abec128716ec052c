"""Region heads average the tokens of an entity; gates hide tokens from a pretrained CLIP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel

from e2fashion.models import E2Model
from e2fashion.models.from_clip import new_parameter_names
from e2fashion.models.selection_tokens import RegionHeads
from e2fashion.types import Entity
from tests.models.blocks import vision_config

BuildE2 = Callable[..., E2Model]
PARTS = {"entities": {"brand": 2, "season": 1}, "fusion_layers": [1, 2]}
ENTITIES = (Entity("brand", "brand", 2), Entity("season", "season", 1), Entity("sub_category", "sub_category", 3))


def test_each_region_is_its_tokens_normalized_averaged_and_projected() -> None:
    torch.manual_seed(0)
    heads = RegionHeads(vision_config(8, ENTITIES, projection_dim=5))
    for parameter in heads.parameters():
        torch.nn.init.normal_(parameter)
    tokens = torch.randn(4, 6, 8)
    features = heads(tokens, torch.zeros(4, 5))
    assert features.shape == (4, 3, 5)
    for index, (name, part) in enumerate({"brand": [0, 1], "season": [2], "sub_category": [3, 4, 5]}.items()):
        norm, projection = heads[name].layer_norm, heads[name].projection
        normed = [F.layer_norm(tokens[:, token], (8,), norm.weight, norm.bias, 1e-5) for token in part]
        expected = sum(normed) / len(part) @ projection.weight.T
        torch.testing.assert_close(features[:, index], expected)


def test_no_entities_give_no_regions() -> None:
    heads = RegionHeads(vision_config(8, (), projection_dim=5))
    assert heads(torch.randn(4, 0, 8), torch.zeros(4, 5)).shape == (4, 0, 5)


def test_the_region_of_an_entity_without_tokens_is_the_image() -> None:
    entities = (Entity("brand", "brand", 0), Entity("season", "season", 1))
    heads = RegionHeads(vision_config(8, entities, projection_dim=5))
    image = torch.randn(4, 5)
    features = heads(torch.randn(4, 1, 8), image)
    assert list(heads) == ["season"]
    torch.testing.assert_close(features[:, 0], image)
    assert not torch.allclose(features[:, 1], image)


def set_gates(model: E2Model, value: float) -> None:
    with torch.no_grad():
        model.vision_model.token_gates.bias.fill_(value)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("complete_states", [True, False])
@torch.no_grad()
def test_open_gates_are_the_official_model(
    build_e2: BuildE2, pixels: Tensor, attention: str, complete_states: bool
) -> None:
    official = build_e2(attention=attention, **PARTS)
    gated = build_e2(attention=attention, token_gate=0.0, **PARTS)
    missing = gated.load_state_dict(official.state_dict(), strict=False).missing_keys
    assert missing == ["vision_model.token_gates.bias"]
    set_gates(gated, 0.0)
    expected = official.get_image_features(pixels)
    result = gated.get_image_features(pixels, complete_states=complete_states)
    torch.testing.assert_close(result.pooler_output, expected.pooler_output, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(result.region_features, expected.region_features, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_a_closed_gate_inserts_without_changing_the_image_features(
    plain_clip: CLIPModel, tmp_path: Path, pixels: Tensor, attention: str
) -> None:
    plain_clip.save_pretrained(tmp_path)
    model = E2Model.from_clip(tmp_path, drop_patches=False, token_gate=-30, **PARTS).eval()
    model.set_attn_implementation(attention)
    expected = plain_clip.get_image_features(pixels).pooler_output
    torch.testing.assert_close(model.get_image_features(pixels).pooler_output, expected, atol=1e-5, rtol=1e-5)
    usual = E2Model.from_clip(tmp_path, **PARTS).eval()
    assert not torch.allclose(usual.get_image_features(pixels).pooler_output, expected, atol=1e-3)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_a_gate_keeps_others_from_reading_the_tokens_and_not_the_tokens_from_reading(
    build_e2: BuildE2, pixels: Tensor, attention: str
) -> None:
    model = build_e2(attention=attention, token_gate=0.0, drop_patches=False, **PARTS)
    set_gates(model, -1e4)
    before = model.get_image_features(pixels)
    for tokens in model.vision_model.selection_tokens.parameters():
        tokens.normal_()
    after = model.get_image_features(pixels)
    assert torch.equal(before.pooler_output, after.pooler_output)
    assert not torch.allclose(before.region_features, after.region_features, atol=1e-3)
    model.vision_model.embeddings.patch_embedding.weight.mul_(2.0)
    assert not torch.allclose(after.region_features, model.get_image_features(pixels).region_features, atol=1e-3)


@pytest.mark.parametrize("fusion_layers", [[1], [1, 2], [3]])
@torch.no_grad()
def test_kept_patches_reach_the_end_and_the_short_way_is_the_same(
    build_e2: BuildE2, pixels: Tensor, fusion_layers: list[int]
) -> None:
    model = build_e2(entities={"brand": 2}, fusion_layers=fusion_layers, drop_patches=False, token_gate=-1.0)
    whole = model.get_image_features(pixels)
    assert whole.last_hidden_state.shape[1] == 1 + 16 + 2
    short = model.get_image_features(pixels, complete_states=False)
    torch.testing.assert_close(short.pooler_output, whole.pooler_output, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(short.region_features, whole.region_features, atol=1e-5, rtol=1e-5)


def test_gates_start_where_they_are_told_learn_and_are_new_parameters(build_e2: BuildE2, pixels: Tensor) -> None:
    config = build_e2(token_gate=-3.0, **PARTS).config
    model = E2Model(config)
    gates = model.vision_model.token_gates.bias
    assert gates.shape == (3, 3)
    assert bool((gates == -3.0).all())
    assert "vision_model.token_gates.bias" in new_parameter_names(model)
    model.get_image_features(pixels).pooler_output.sum().backward()
    assert gates.grad is not None
    assert bool((gates.grad != 0).any())
