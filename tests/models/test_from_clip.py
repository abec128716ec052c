from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, BertConfig, CLIPModel

from e2fashion.models import E2Config, E2Model, E2VisionModelWithProjection, added_parameters, new_parameter_names
from e2fashion.types import E2FashionError, Entity

REGIONAL = ("vision_model.selection_tokens.", "vision_model.fusion_blocks.", "region_heads.")


@pytest.fixture
def clip_folder(plain_clip: CLIPModel, tmp_path: Path) -> Path:
    plain_clip.save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


def test_a_clip_folder_brings_everything_but_the_new_keys(clip_folder: Path, plain_clip: CLIPModel) -> None:
    model = E2Model.from_clip(clip_folder, entities={"brand": 2, "season": 1}, fusion_layers=[1, 2])
    theirs = plain_clip.state_dict()
    ours = model.state_dict()
    assert theirs.keys() <= ours.keys()
    assert all(key.startswith(REGIONAL) for key in ours.keys() - theirs.keys())
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())
    assert all(torch.isfinite(value).all() for value in ours.values())


def test_new_parameters_are_drawn_not_zero(clip_folder: Path) -> None:
    model = E2Model.from_clip(clip_folder, entities={"brand": 2}, fusion_layers=[1, 2])
    values = model.state_dict()
    assert values["vision_model.selection_tokens.brand"].std().item() == pytest.approx(48**-0.5, rel=0.3)
    for layer in (1, 2):
        for name in ("query", "key", "value"):
            weight = values[f"vision_model.fusion_blocks.{layer}.{name}.weight"]
            assert weight.std().item() == pytest.approx(48**-0.5, rel=0.1)
    assert values["region_heads.brand.projection.weight"].std().item() == pytest.approx(48**-0.5, rel=0.1)
    assert torch.equal(values["region_heads.brand.layer_norm.weight"], torch.ones(48))


def test_plain_from_pretrained_takes_a_clip_folder(clip_folder: Path, pixels: Tensor, plain_clip: CLIPModel) -> None:
    model = E2Model.from_pretrained(clip_folder)
    expected = plain_clip.get_image_features(pixels).pooler_output
    torch.testing.assert_close(model.get_image_features(pixels).pooler_output, expected, atol=1e-6, rtol=1e-6)


def test_options_reach_the_configuration(clip_folder: Path) -> None:
    model = E2Model.from_clip(
        str(clip_folder),
        entities=[Entity("maker", "brand", 3)],
        fusion_layers=[3],
        selection="soft",
        noise="none",
        selection_temperature=0.5,
        patches_per_token=2,
    )
    vision = model.config.vision_config
    assert vision.entity_list == (Entity("maker", "brand", 3),)
    assert (vision.selection, vision.noise, vision.selection_temperature) == ("soft", "none", 0.5)
    assert (vision.patches_per_token, vision.fusion_layers) == (2, [3])


def test_projection_is_kept_or_redrawn(clip_folder: Path, plain_clip: CLIPModel) -> None:
    kept = E2Model.from_clip(clip_folder).visual_projection.weight.detach()
    assert torch.equal(kept, plain_clip.visual_projection.weight)
    torch.manual_seed(0)
    model = E2Model.from_clip(clip_folder, projection_init="random")
    assert not torch.isclose(model.visual_projection.weight, plain_clip.visual_projection.weight).all()
    assert model.visual_projection.weight.std().item() == pytest.approx(48**-0.5, rel=0.1)


def test_redrawn_projection_survives_its_folder(clip_folder: Path, tmp_path: Path) -> None:
    model = E2Model.from_clip(clip_folder, projection_init="random")
    model.save_pretrained(tmp_path / "e2")
    loaded = E2Model.from_pretrained(tmp_path / "e2")
    assert torch.equal(loaded.visual_projection.weight, model.visual_projection.weight)


def test_an_e2_folder_keeps_the_entities_that_are_named_again(e2: E2Model, tmp_path: Path) -> None:
    e2.save_pretrained(tmp_path)
    model = E2Model.from_clip(tmp_path, entities={"season": 1, "colour": 2}, fusion_layers=[1, 2])
    assert torch.equal(model.vision_model.selection_tokens.season, e2.vision_model.selection_tokens.season)


def test_folder_and_auto_classes_return_the_same_bits(e2: E2Model, tmp_path: Path, pixels: Tensor) -> None:
    e2.save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is E2Config
    for loaded in (E2Model.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert type(loaded) is E2Model
        assert loaded.config.vision_config.entities == e2.config.vision_config.entities
        assert loaded.state_dict().keys() == e2.state_dict().keys()
        assert all(torch.equal(value, e2.state_dict()[key]) for key, value in loaded.state_dict().items())
        assert torch.equal(loaded.get_region_features(pixels), e2.get_region_features(pixels))


def test_vision_half_loads_from_the_whole_models_folder(e2: E2Model, tmp_path: Path, pixels: Tensor) -> None:
    e2.save_pretrained(tmp_path)
    half, loading = E2VisionModelWithProjection.from_pretrained(tmp_path, output_loading_info=True)
    assert not loading["missing_keys"]
    output, expected = half(pixels), e2.get_image_features(pixels)
    torch.testing.assert_close(output.image_embeds, expected.pooler_output)
    torch.testing.assert_close(output.region_features, expected.region_features)
    assert torch.equal(output[0], output.image_embeds)


def test_vision_half_returns_to_its_own_folder(e2: E2Model, tmp_path: Path, pixels: Tensor) -> None:
    e2.save_pretrained(tmp_path / "whole")
    half = E2VisionModelWithProjection.from_pretrained(tmp_path / "whole")
    half.save_pretrained(tmp_path / "half")
    again = E2VisionModelWithProjection.from_pretrained(tmp_path / "half")
    assert torch.equal(again(pixels).region_features, half(pixels).region_features)


def test_added_parameters_are_counted(clip_folder: Path) -> None:
    model = E2Model.from_clip(clip_folder, entities={"brand": 2, "season": 1}, fusion_layers=[1, 2])
    tokens, fusion, heads = 3 * 48, 2 * 3 * 48**2, 2 * (2 * 48 + 48 * 24)
    assert added_parameters(model) == tokens + fusion + heads
    assert added_parameters(E2Model.from_clip(clip_folder)) == 0


def test_new_parameters_include_a_redrawn_projection(clip_folder: Path) -> None:
    kept = E2Model.from_clip(clip_folder, entities=["brand"])
    assert all(name.startswith(REGIONAL) for name in new_parameter_names(kept))
    redrawn = E2Model.from_clip(clip_folder, entities=["brand"], projection_init="random")
    assert set(new_parameter_names(redrawn)) - set(new_parameter_names(kept)) == {"visual_projection.weight"}


@pytest.mark.parametrize("name", ["./clip", "/nowhere/clip", "models/clip/best", "~/clip", ""])
def test_a_path_that_is_missing_never_reaches_the_network(name: str) -> None:
    with pytest.raises(E2FashionError, match="is not a folder; give a model's folder or a name on the hub"):
        E2Model.from_clip(name)


def test_a_missing_folder_inside_an_existing_one_is_no_hub_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(E2FashionError, match="'runs/best' is not a folder"):
        E2Model.from_clip("runs/best")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match=r"holds no config.json"):
        E2Model.from_clip(tmp_path)


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(E2FashionError, match="type 'bert'; give a model of one of these types: clip, e2, siglip"):
        E2Model.from_clip(tmp_path)


def test_an_unknown_option_is_refused(clip_folder: Path) -> None:
    with pytest.raises(E2FashionError, match=r"unknown options \['temperature'\].*selection_temperature"):
        E2Model.from_clip(clip_folder, temperature=1.0)


def test_a_checkpoint_without_its_text_tower_is_refused(plain_clip: CLIPModel, tmp_path: Path) -> None:
    state = {key: value for key, value in plain_clip.state_dict().items() if not key.startswith("text_model")}
    plain_clip.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(E2FashionError, match=r"missing \(36\): text_model"):
        E2Model.from_clip(tmp_path)


def test_stored_configuration_lists_the_entities_in_order(e2: E2Model, tmp_path: Path) -> None:
    e2.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    assert [entity["name"] for entity in stored["vision_config"]["entities"]] == ["brand", "season", "sub_category"]
