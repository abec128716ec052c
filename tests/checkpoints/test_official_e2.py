from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from openai_reference import TINY, State, block, encode_text, norm
from torch import Tensor

from e2fashion.checkpoints.official_e2 import OFFICIAL_ENTITIES, e2_to_official, official_e2_to_e2
from e2fashion.checkpoints.openai import openai_shapes
from e2fashion.models import E2Model
from e2fashion.types import E2FashionError


def official_state(groups: int) -> State:
    """Random weights under the official names, of a tiny model."""
    shapes = dict(openai_shapes(TINY))
    for name in ("proj", "proj_cls", "proj_cls_mid", *(f"proj_s{group}" for group in range(1, groups + 1))):
        shapes[f"visual.{name}"] = (128, 32)
    for name in ("proj_q", "proj_k", "proj_v", "proj_q2", "proj_k2", "proj_v2"):
        shapes[f"visual.{name}"] = (128, 128)
    for token in range(1, 2 * groups + 1):
        shapes[f"visual.token_{token}_embedding"] = (128,)
    for name in ("selection", *(f"s{group}" for group in range(1, groups + 1))):
        shapes |= {f"visual.ln_{name}.weight": (128,), f"visual.ln_{name}.bias": (128,)}
    generator = torch.Generator().manual_seed(groups)
    return {key: torch.randn(shape, generator=generator) * 0.15 for key, shape in shapes.items()}


def official_image(state: State, pixels: Tensor, fusion_layers: tuple[int, int]) -> tuple[Tensor, list[Tensor]]:
    """The official image encoder, written from its description: tokens first, in reverse; fused by argmax."""
    count = sum(key.endswith("_embedding") and key.startswith("visual.token_") for key in state)
    patches = F.conv2d(pixels, state["visual.conv1.weight"], stride=8).flatten(2).transpose(1, 2)
    cls = state["visual.class_embedding"].expand(len(pixels), 1, -1)
    states = torch.cat([cls, patches], 1) + state["visual.positional_embedding"]
    for token in range(1, count + 1):  # each goes in front of those before it
        states = torch.cat([state[f"visual.token_{token}_embedding"].expand(len(pixels), 1, -1), states], 1)
    states = norm(state, "visual.ln_pre", states)
    for layer in range(3):
        states = block(state, f"visual.transformer.resblocks.{layer}", states)
        if layer + 1 in fusion_layers:
            suffix = "" if layer + 1 == fusion_layers[0] else "2"
            tokens, patches = states[:, :count], states[:, count + 1 :]
            query, key = tokens @ state[f"visual.proj_q{suffix}"], patches @ state[f"visual.proj_k{suffix}"]
            chosen = (query @ key.transpose(1, 2) / 128**0.5).argmax(-1)
            picked = F.one_hot(chosen, 9).float() @ (patches @ state[f"visual.proj_v{suffix}"])
            rest = states[:, count:] if layer + 1 == fusion_layers[0] else states[:, count : count + 1]
            states = torch.cat([(picked + tokens) / 2, rest], 1)
    regions = []
    for group in range(count // 2):
        normed = norm(state, f"visual.ln_s{min(group + 1, 4)}", states[:, 2 * group : 2 * group + 2])
        regions.append(normed.mean(1) @ state[f"visual.proj_s{group + 1}"])
    return norm(state, "visual.ln_post", states[:, count]) @ state["visual.proj_cls"], regions


@pytest.mark.parametrize("groups", [4, 5])
@torch.no_grad()
def test_converted_model_computes_what_the_official_layout_means(groups: int) -> None:
    state = official_state(groups)
    model = official_e2_to_e2(state, fusion_layers=(1, 2))
    pixels = torch.randn(3, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    cls, regions = official_image(state, pixels, (1, 2))
    ids = torch.tensor([[58, 5, 6, 59, 0], [58, 7, 59, 0, 0]])
    close = {"atol": 2e-5, "rtol": 1e-4}
    torch.testing.assert_close(model.get_image_features(pixels).pooler_output, cls, **close)
    torch.testing.assert_close(model.get_region_features(pixels), torch.stack(regions, 1), **close)
    torch.testing.assert_close(model.get_text_features(ids).pooler_output, encode_text(state, ids), **close)
    names = [entity.name for entity in model.config.vision_config.entity_list]
    assert names == list(OFFICIAL_ENTITIES[:groups])


def test_arrays_are_taken_like_tensors() -> None:
    state = official_state(4)
    one = official_e2_to_e2(state, fusion_layers=(1, 2))
    other = official_e2_to_e2({key: value.numpy() for key, value in state.items()}, fusion_layers=(1, 2))
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


def test_converted_model_survives_its_folder(tmp_path: Path) -> None:
    model = official_e2_to_e2(official_state(4), fusion_layers=(1, 2))
    model.save_pretrained(tmp_path)
    loaded = E2Model.from_pretrained(tmp_path)
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in model.state_dict().items())


def without(state: State, key: str) -> State:
    return {name: value for name, value in state.items() if name != key}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, "visual.proj_q2"), r"missing \(1\): visual.proj_q2"),
        (lambda s: without(s, "visual.conv1.weight"), "lacks 'visual.conv1.weight'"),
        (lambda s: without(s, "transformer.resblocks.1.ln_2.bias"), "missing.*transformer.resblocks.1.ln_2.bias"),
        (lambda s: s | {"visual.surprise": torch.zeros(1)}, r"unknown \(1\): visual.surprise"),
        (lambda s: s | {"visual.proj_s2": torch.zeros(32, 128)}, r"misshapen.*visual.proj_s2 \(32, 128\) instead"),
        (lambda s: s | {"visual.conv1.weight": torch.zeros(3)}, r"'visual.conv1.weight' has shape \(3,\)"),
        (lambda s: without(s, "visual.proj_s4"), "3 groups .*4 or 5 were expected"),
    ],
)
def test_a_wrong_state_dict_is_refused_by_key(change: Callable[[State], State], message: str) -> None:
    with pytest.raises(E2FashionError, match=message):
        official_e2_to_e2(change(official_state(4)), fusion_layers=(1, 2))


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    folder = os.environ.get("E2FASHION_REFERENCE")
    if not folder:
        pytest.skip("E2FASHION_REFERENCE does not name the folder of the official reference numbers")
    spec = importlib.util.spec_from_file_location("official_parity", Path(folder) / "official_parity.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def info_nce(one: Tensor, other: Tensor, logit_scale: Tensor) -> Tensor:
    logits = logit_scale.exp() * F.normalize(one, dim=-1) @ F.normalize(other, dim=-1).T
    labels = torch.arange(len(one))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


@pytest.mark.real_data
@torch.no_grad()
def test_numbers_of_the_official_code_are_reproduced(reference: ModuleType) -> None:
    expected = {key: torch.as_tensor(value) for key, value in reference.expected().items()}
    model = official_e2_to_e2(reference.state_dict())
    images = model.get_image_features(torch.from_numpy(reference.images()), output_selection_maps=True)
    for block_number, key in enumerate(("selected_1", "selected_2")):
        assert torch.equal(images.selected_patches[:, block_number, :, 0], expected[key].long())
    text = model.get_text_features(torch.from_numpy(reference.token_ids())).pooler_output
    tags = torch.stack(
        [model.get_text_features(torch.from_numpy(reference.tag_token_ids(group))).pooler_output for group in range(4)]
    )
    regions = model.get_region_features(torch.from_numpy(reference.images())).transpose(0, 1)
    close = {"atol": 1e-4, "rtol": 0.0}
    torch.testing.assert_close(images.pooler_output, expected["global_features"], **close)
    torch.testing.assert_close(text, expected["text"], **close)
    torch.testing.assert_close(tags, expected["tags"], **close)
    torch.testing.assert_close(regions[:3], expected["regional"][:3], **close)
    loss = info_nce(images.pooler_output, text, model.logit_scale)
    assert abs(loss - expected["global_loss"]) < 1e-5
    for group in range(3):
        loss = info_nce(regions[group], tags[group], model.logit_scale)
        assert abs(loss - expected["regional_losses"][group]) < 1e-5


@pytest.mark.parametrize("groups", [4, 5])
def test_the_way_back_gives_the_same_tensors(groups: int) -> None:
    state, dropped = official_state(groups), []
    model = official_e2_to_e2(state, fusion_layers=(1, 2), dropped=dropped)
    back = e2_to_official(model, fusion_layers=(1, 2))
    assert back.keys() == state.keys()  # the official class asks for every key that it has
    assert {key for key in state if not torch.equal(back[key], state[key])} == set(dropped)
    assert "visual.proj_cls_mid" in dropped


def test_a_model_that_the_official_code_would_compute_otherwise_is_refused() -> None:
    model = official_e2_to_e2(official_state(5), fusion_layers=(1, 2))
    with pytest.raises(E2FashionError, match=r"fusion_layers is \[1, 2\], there \[8, 11\]"):
        e2_to_official(model)
    with torch.no_grad():
        model.region_heads["composition"].layer_norm.bias.add_(1)
    model.config.vision_config.patches_per_token = 2
    with pytest.raises(E2FashionError, match=r"patches_per_token is 2, there 1; .*fifth group with the fourth"):
        e2_to_official(model, fusion_layers=(1, 2))
    model.config.vision_config.value_layer, model.config.vision_config.competition = 1, True
    with pytest.raises(E2FashionError, match=r"value_layer is 1, there None; .*competition is True, there False"):
        e2_to_official(model, fusion_layers=(1, 2))
    with pytest.raises(E2FashionError, match=r"fusion_layers is \[3\]; the official model has two"):
        e2_to_official(model, fusion_layers=(3,))
