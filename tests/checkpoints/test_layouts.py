"""CLIPs in OpenAI's layout and open_clip's: the same logits before and after, and whatever is wrong by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from openai_reference import PUBLISHED, TINY, State, encode_image, encode_text, logits, quick_gelu, random_state
from transformers import CLIPModel

from e2fashion.checkpoints.files import write_state_file
from e2fashion.checkpoints.open_clip import (
    agreed_activation,
    check_features,
    named_activation,
    open_clip_config,
    read_open_clip_config,
    read_reference,
    without_text_prefix,
)
from e2fashion.checkpoints.openai import (
    Facts,
    OpenAIShape,
    check_openai_rules,
    check_state,
    clip_from_openai,
    openai_shapes,
    to_openai,
)
from e2fashion.checkpoints.write import lost_parts, obstacles, plain_clip
from e2fashion.models import E2Model
from e2fashion.types import E2FashionError

IDS = torch.tensor([[58, 5, 6, 59, 0], [58, 7, 59, 0, 0]])
ACTIVATIONS = {
    "quick_gelu": quick_gelu,
    "gelu": F.gelu,
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
}


def pixels(sizes: OpenAIShape, count: int = 2) -> torch.Tensor:
    shape = (count, 3, sizes.image_size, sizes.image_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def converted(state: State, activation: str = "quick_gelu", **facts: Any) -> CLIPModel:
    sizes = OpenAIShape.of(state)
    check_state(state, openai_shapes(sizes), sizes, "OpenAI's CLIP")
    return clip_from_openai(state, sizes, Facts(activation, **facts))


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("name", PUBLISHED)
@torch.no_grad()
def test_logits_are_the_same_before_and_after(name: str, activation: str) -> None:
    sizes = PUBLISHED[name]
    state = random_state(sizes, scale=0.1)
    assert OpenAIShape.of(state) == sizes
    model = converted(state, activation)
    vision: Any = model.config.vision_config
    assert (vision.image_size, vision.num_attention_heads) == (sizes.image_size, sizes.vision_width // 64)
    images = pixels(sizes)
    expected = logits(state, images, IDS, ACTIVATIONS[activation])
    result = model(input_ids=IDS, pixel_values=images).logits_per_image
    torch.testing.assert_close(result, expected, atol=2e-5, rtol=1e-4)
    wrong = logits(state, images, IDS, ACTIVATIONS["gelu" if activation == "quick_gelu" else "quick_gelu"])
    assert (wrong - expected).abs().max() > 10 * (result - expected).abs().max()  # the test would see the other one
    back = to_openai(model)
    assert all(torch.equal(back[key], value) for key, value in state.items())
    assert back.keys() == state.keys()


@torch.no_grad()
def test_heads_of_another_width_are_named() -> None:
    state = random_state(TINY)
    model, images = converted(state, "gelu", vision_heads=4), pixels(TINY)
    features = model.get_image_features(images).pooler_output
    torch.testing.assert_close(features, encode_image(state, images, F.gelu, heads=4), atol=2e-5, rtol=1e-4)
    with pytest.raises(E2FashionError, match="vision_heads is 3, which does not divide the tower's width 128"):
        converted(state, vision_heads=3)
    with pytest.raises(E2FashionError, match="image tower has width 160 and MLP width 640; OpenAI's code knows heads"):
        check_openai_rules(replace(TINY, vision_width=160, vision_mlp=640), "it")


def test_texts_are_read_at_their_end_token_whatever_follows() -> None:
    state = random_state(TINY)
    model, padded = converted(state), IDS.clone()
    padded[1, 3:] = 59  # Transformers pads with the end token, OpenAI with zeros
    with torch.no_grad():
        result = [model.get_text_features(ids).pooler_output for ids in (IDS, padded)]
    torch.testing.assert_close(result[0], encode_text(state, IDS), atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(result[0], result[1])


def without(state: State, *keys: str) -> State:
    return {name: value for name, value in state.items() if name not in keys}


def named(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, "visual.proj", "ln_final.bias"), r"missing \(2\): ln_final.bias, visual.proj\. Name"),
        (lambda s: s | {"surprise": torch.zeros(1)}, r"unknown \(1\): surprise"),
        (lambda s: s | {"logit_bias": torch.zeros(1)}, r"unknown \(1\): logit_bias"),
        (lambda s: s | {"visual.proj": torch.zeros(32, 128)}, r"misshapen \(1\): visual.proj \(32, 128\) instead of"),
        (lambda s: s | {"visual.proj": s["visual.proj"] * torch.nan}, r"not finite \(1\): visual.proj"),
        (lambda s: s | {"context_length": torch.tensor(77)}, r"contradicting the tensors \(1\): context_length 77 in"),
        (lambda s: without(s, "text_projection"), r"lacks 'text_projection'.*Its 73 keys begin with: ln_final.bias"),
        (lambda s: s | {"visual.positional_embedding": torch.zeros(9, 128)}, "has 9 rows, not one for CLS and a sq"),
        (lambda s: s | {"visual.layer1.0.conv1.weight": torch.zeros(1)}, "ResNet as its image tower"),
        (lambda s: s | {"visual.trunk.cls_token": torch.zeros(1)}, "image tower of timm"),
        (lambda s: {"vision_model.post_layernorm.bias": torch.zeros(1)}, "in the layout of Transformers already"),
    ],
)
def test_a_wrong_state_dict_is_refused_by_key(change: Callable[[State], State], message: str) -> None:
    with pytest.raises(E2FashionError, match=message):
        converted(change(random_state(TINY)))


def test_what_is_known_and_left_behind_is_listed() -> None:
    numbers = {"input_resolution": 24, "context_length": 9, "vocab_size": 60}
    extras = {key: torch.tensor(value) for key, value in numbers.items()}
    extras |= {"attn_mask": torch.full((9, 9), -torch.inf), "text.position_ids": torch.arange(9)}
    dropped = check_state(random_state(TINY) | extras, openai_shapes(TINY), TINY, "OpenAI's CLIP")
    assert dropped == sorted(extras)


def test_the_activation_comes_from_who_says_it() -> None:
    assert named_activation({"file": "vit_b_32-QuickGELU-laion.pt", "run": "ViT-B-32"}) == {"file": "quick_gelu"}
    assert agreed_activation({"a": "gelu", "b": "gelu"}, "do this") == "gelu"
    with pytest.raises(E2FashionError, match=r"quick_gelu or gelu.*wrong features without an error: do this"):
        agreed_activation({}, "do this")
    with pytest.raises(E2FashionError, match=r"contradicted \(the config: gelu; activation=: quick_gelu\)"):
        agreed_activation({"the config": "gelu", "activation=": "quick_gelu"}, "")


@torch.no_grad()
def test_features_of_the_original_tell_the_activation(tmp_path: Path) -> None:
    state, images = random_state(TINY), pixels(TINY)
    made = {"pixel_values": images, "image_features": encode_image(state, images, F.gelu)}
    made |= {"input_ids": IDS, "text_features": encode_text(state, IDS, F.gelu) * 3}  # of any length
    write_state_file(made, tmp_path / "check.safetensors")
    reference = read_reference(tmp_path / "check.safetensors")
    difference, other = check_features(converted(state, "gelu"), reference, 1e-4)
    assert difference < 1e-5 < 1e-4 < other
    tanh = {"pixel_values": images, "image_features": encode_image(state, images, ACTIVATIONS["gelu_pytorch_tanh"])}
    assert check_features(converted(state, "gelu_pytorch_tanh"), tanh, 1e-4)[0] < 1e-5
    model = converted(state, "quick_gelu")
    with pytest.raises(E2FashionError, match=r"with quick_gelu the features differ .*computes with gelu: activation=g"):
        check_features(model, reference, 1.0)  # the nearer one is the true one, however much is tolerated
    assert model.config.text_config.hidden_act == "quick_gelu"
    with pytest.raises(E2FashionError, match="So it is not the activation"):
        check_features(converted(random_state(TINY, seed=1), "gelu"), reference, 1e-4)
    write_state_file({"pixel_values": images}, tmp_path / "half.safetensors")
    with pytest.raises(E2FashionError, match="holds pixel_values; it needs pixel_values with image_features or"):
        read_reference(tmp_path / "half.safetensors")


def open_clip_file(folder: Path, **changes: Any) -> Path:
    """The configuration of TINY as open_clip writes one, with dotted keys changed."""
    vision = {"image_size": 24, "layers": 3, "width": 128, "patch_size": 8}
    text = {"context_length": 9, "vocab_size": 60, "width": 64, "heads": 1, "layers": 2}
    content = {"model_cfg": {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}, "preprocess_cfg": {}}
    for key, value in changes.items():
        *path, last = key.split("__")
        section: dict[str, Any] = content
        for step in path:
            section = section[step]
        section[last] = value
    file = folder / "open_clip_config.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def test_open_clip_s_configuration_is_read_and_written(tmp_path: Path) -> None:
    plain = read_open_clip_config(open_clip_file(tmp_path), TINY)
    assert (plain.activation, plain.vision_heads, plain.text_heads, plain.resize) == ("gelu", 2, 1, "crop")
    preprocessing = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    changes = {"model_cfg__quick_gelu": True, "model_cfg__vision_cfg__head_width": 32}
    file = open_clip_file(tmp_path, **changes, preprocess_cfg=preprocessing, model_cfg__text_cfg__pad_id=0)
    config = read_open_clip_config(file, TINY)
    assert (config.activation, config.vision_heads, config.resize) == ("quick_gelu", 4, "squeeze")
    assert (config.mean, config.std) == ((0.5,) * 3, (0.25,) * 3)
    model = converted(random_state(TINY), config.activation, vision_heads=4)
    file.write_text(json.dumps(open_clip_config(model, "squeeze", (0.5,) * 3, (0.25,) * 3)), encoding="utf-8")
    assert read_open_clip_config(file, TINY) == config
    file.write_text(
        json.dumps(json.loads(file.read_text())["model_cfg"]), encoding="utf-8"
    )  # files of open_clip itself
    assert read_open_clip_config(file, TINY).activation == "quick_gelu"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_cfg__vision_cfg__layers": 12}, "vision_cfg.layers means 12, the tensors have 3"),
        ({"model_cfg__text_cfg__vocab_size": 49408}, "text_cfg.vocab_size means 49408, the tensors have 60"),
        ({"model_cfg__vision_cfg__no_ln_pre": True}, "not a CLIP like OpenAI's: vision_cfg.no_ln_pre=True"),
        ({"model_cfg__text_cfg__pool_type": "last"}, "text_cfg.pool_type='last'"),
        ({"preprocess_cfg": {"interpolation": "bilinear"}}, "interpolation is 'bilinear', and images are read with"),
        ({"preprocess_cfg": {"resize_mode": "stretch"}}, "resize_mode is 'stretch'; known: shortest, squash, longest"),
        ({"model_cfg": {"embed_dim": 3}}, "not an open_clip configuration: it lacks embed_dim, vision_cfg or text_cfg"),
        ({"model_cfg__vision_cfg__width": {"x": 1}}, "a configuration of open_clip, cannot be read"),
        ({"preprocess_cfg": [1]}, "a configuration of open_clip, cannot be read"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match=message):
        read_open_clip_config(open_clip_file(tmp_path, **changes), TINY)
    assert read_open_clip_config(open_clip_file(tmp_path, model_cfg__text_cfg__pool_type="argmax"), TINY)


def test_a_separate_text_tower_is_read() -> None:
    state = random_state(TINY)
    separate = {key if key.startswith(("visual.", "logit_")) else f"text.{key}": value for key, value in state.items()}
    assert without_text_prefix(separate).keys() == state.keys()
    with pytest.raises(E2FashionError, match=r"has 1 keys twice, plain and with 'text.': text_projection"):
        without_text_prefix(separate | {"text_projection": state["text_projection"]})


def test_what_stands_in_the_way_of_a_layout_is_named() -> None:
    model = converted(random_state(TINY), "gelu", vision_heads=4)
    assert obstacles(model, openai=False) == []
    result = "; ".join(obstacles(model, openai=True))
    assert "activation is gelu, and OpenAI's code knows quick_gelu alone" in result
    assert "image tower's heads have width 32, there 64" in result
    text: Any = model.config.text_config
    text.eos_token_id, text.layer_norm_eps = 3, 1e-6
    result = "; ".join(obstacles(model, openai=False))
    assert "this model's end token 3 is not the last of 60" in result
    assert "text tower's layer_norm_eps is 1e-06, there 1e-05" in result
    text.eos_token_id, text.layer_norm_eps = 2, 1e-5  # Transformers' old sign for the largest id
    assert obstacles(model, openai=False) == []


@torch.no_grad()
def test_an_e2_says_what_a_plain_clip_loses(tmp_path: Path) -> None:
    clip = converted(random_state(TINY))
    assert lost_parts(clip) == []
    clip.save_pretrained(tmp_path)
    e2 = E2Model.from_clip(tmp_path, entities=["brand", "season"], fusion_layers=[1, 2]).eval()
    lost = lost_parts(e2)
    assert lost[0] == "4 selection tokens of 2 entities (brand, season): 512 values"
    assert lost[1] == f"2 fusion blocks behind layers 1, 2: {2 * 3 * 128 * 128:,} values"
    assert lost[2] == f"2 region projections with their LayerNorms: {2 * (128 * 32 + 256):,} values"
    back, images = plain_clip(e2), pixels(TINY)
    assert type(back) is CLIPModel
    assert all(torch.equal(value, clip.state_dict()[key]) for key, value in back.state_dict().items())
    assert not torch.equal(e2.get_image_features(images).pooler_output, back.get_image_features(images).pooler_output)
    plain = E2Model.from_clip(tmp_path)  # with every component off it is a CLIP, and nothing is lost
    assert lost_parts(plain) == []
    torch.testing.assert_close(
        plain_clip(plain).get_image_features(images).pooler_output, clip.get_image_features(images).pooler_output
    )
