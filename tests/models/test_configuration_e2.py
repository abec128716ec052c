from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import CLIPConfig, CLIPVisionConfig

from e2fashion.models import E2Config, E2VisionConfig, parse_entities
from e2fashion.types import E2FashionError, Entity

BRAND = Entity("brand", "brand", 2)


@pytest.mark.parametrize(
    "written",
    [
        ["brand", "season"],
        {"brand": 2, "season": 2},
        {"brand": {"column": "brand"}, "season": {"tokens": 2}},
        [{"name": "brand", "column": "brand", "tokens": 2}, {"name": "season"}],
        [BRAND, Entity("season", "season")],
    ],
)
def test_entities_may_be_written_in_many_ways(written: object) -> None:
    assert parse_entities(written) == (BRAND, Entity("season", "season", 2))


def test_null_removes_an_entity_from_a_mapping() -> None:
    assert parse_entities({"brand": {"tokens": 2}, "season": None}) == (BRAND,)


def test_column_may_differ_from_the_name() -> None:
    assert parse_entities({"type": None, "kind": {"column": "type", "tokens": 1}}) == (Entity("kind", "type", 1),)


@pytest.mark.parametrize(
    ("entities", "message"),
    [
        ("brand", "'brand'.*list of names"),
        (["brand", "brand"], "'brand'.*more than once"),
        ({"a.b": 2}, "'a.b'.*letters"),
        ({"type": 2}, "'type' is taken by PyTorch.*type_tag.*column: type"),
        ({"brand": -1}, "'brand' has tokens=-1"),
        ({"brand": {"token": 2}}, r"'brand' has unknown keys \['token'\]"),
        ({"brand": "two"}, "'brand' got 'two'"),
        ([3], "3 names parameters"),
    ],
)
def test_unusable_entities_are_refused(entities: object, message: str) -> None:
    with pytest.raises(E2FashionError, match=message):
        parse_entities(entities)


@pytest.mark.parametrize("layers", [[0], [4], [2, 1], [2, 2], [-1]])
def test_impossible_fusion_layers_are_refused(layers: list[int]) -> None:
    with pytest.raises(E2FashionError, match=r"fusion_layers=\[.*from 1 to 3"):
        E2VisionConfig(num_hidden_layers=3, fusion_layers=layers)


def test_fusion_behind_the_last_layer_is_allowed() -> None:
    assert E2VisionConfig(num_hidden_layers=3, fusion_layers=[1, 3], entities=["a"]).active_fusion_layers == (1, 3)


def test_fusion_layers_do_nothing_without_entities() -> None:
    assert E2VisionConfig(fusion_layers=[8, 11]).active_fusion_layers == ()


@pytest.mark.parametrize(
    ("field", "value"), [("selection_temperature", 0.0), ("selection_temperature", -1.0), ("patches_per_token", 0)]
)
def test_impossible_numbers_are_refused(field: str, value: float) -> None:
    with pytest.raises(E2FashionError, match=field):
        E2VisionConfig(**{field: value})


@pytest.mark.parametrize("field", ["selection", "noise", "projection_init"])
def test_unknown_choices_are_refused_by_name(field: str) -> None:
    with pytest.raises(Exception, match=field):
        E2VisionConfig(**{field: "sometimes"})


def test_configuration_survives_its_file(tmp_path: Path) -> None:
    vision = E2VisionConfig(
        entities={"zebra": 1, "brand": {"column": "maker", "tokens": 3}, "ant": 2},
        fusion_layers=(2, 5),
        selection="soft",
        noise="none",
        selection_temperature=0.5,
        patches_per_token=4,
        projection_init="random",
    )
    config = E2Config(vision_config=vision, projection_dim=64)
    config.save_pretrained(tmp_path)
    loaded = E2Config.from_pretrained(tmp_path)
    assert loaded.to_dict() == config.to_dict()
    assert [entity.name for entity in loaded.vision_config.entity_list] == ["zebra", "brand", "ant"]
    alone = E2VisionConfig.from_pretrained(tmp_path)
    assert (alone.entity_list, alone.fusion_layers) == (vision.entity_list, [2, 5])


def test_clip_configuration_becomes_e2s(tmp_path: Path) -> None:
    CLIPConfig(vision_config={"hidden_size": 96, "num_attention_heads": 2}, projection_dim=64).save_pretrained(tmp_path)
    config = E2Config.from_pretrained(tmp_path)
    assert isinstance(config.vision_config, E2VisionConfig)
    assert config.vision_config.hidden_size == 96
    assert config.vision_config.model_type == "e2_vision_model"
    assert config.to_dict()["model_type"] == "e2"


def test_clip_vision_configuration_object_is_taken() -> None:
    config = E2Config(vision_config=CLIPVisionConfig(hidden_size=96, num_attention_heads=2))
    assert isinstance(config.vision_config, E2VisionConfig)
    assert config.vision_config.hidden_size == 96


def test_towers_follow_the_joint_dimension() -> None:
    config = E2Config(projection_dim=64)
    assert (config.vision_config.projection_dim, config.text_config.projection_dim) == (64, 64)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"token_attention": "own"}, "token_attention='own' without fusion_layers"),
        ({"fusion_layers": [2, 3], "value_layer": 3}, r"value_layer=3 must be .* from 0 to the first of fusion_layers"),
        ({"fusion_layers": [2], "value_layer": -1}, "value_layer=-1 must be"),
        ({"value_layer": 1}, "value_layer=1 must be"),
    ],
)
def test_tokens_must_be_able_to_read_something(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(E2FashionError, match=message):
        E2VisionConfig(num_hidden_layers=3, entities=["brand"], **fields)
    E2VisionConfig(num_hidden_layers=3, **fields)  # without entities nothing of it counts
