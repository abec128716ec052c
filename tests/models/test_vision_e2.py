from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CLIPModel

from e2fashion.models import E2Model
from e2fashion.models.vision_e2 import E2VisionModel, E2VisionOutput
from e2fashion.types import E2FashionError

BuildE2 = Callable[..., E2Model]


def slow_encoding(model: E2VisionModel, pixels: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """E2's image encoder written out: CLS (B, D) before its norm, tokens (B, S, D), the choice per block (B, S)."""
    batch = len(pixels)
    tokens = torch.cat([parameter.expand(batch, -1, -1) for parameter in model.selection_tokens.parameters()], 1)
    cls_and_patches = model.embeddings(pixels)
    cls, patches = cls_and_patches[:, :1], cls_and_patches[:, 1:]
    cls, patches, tokens = (model.pre_layrnorm(part) for part in (cls, patches, tokens))
    chosen, last_fusion = [], max(map(int, model.fusion_blocks))
    for number, layer in enumerate(model.encoder.layers, start=1):
        sizes = [1, patches.shape[1], tokens.shape[1]]
        cls, patches, tokens = layer(torch.cat([cls, patches, tokens], 1), None).split(sizes, 1)
        if str(number) in model.fusion_blocks:
            block = model.fusion_blocks[str(number)]
            logits = block.query(tokens) @ block.key(patches).transpose(1, 2) / tokens.shape[-1] ** 0.5
            chosen.append(logits.argmax(-1))
            picked = torch.stack([block.value(patches[i, chosen[-1][i]]) for i in range(batch)])
            tokens = (picked + tokens) / 2
        if number == last_fusion:
            patches = patches[:, :0]
    return cls[:, 0], tokens, chosen


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("fusion_layers", [[1], [2], [1, 2], [1, 3], [3], [1, 2, 3]])
@torch.no_grad()
def test_encoder_equals_the_slow_one(
    build_e2: BuildE2, pixels: Tensor, fusion_layers: list[int], attention: str
) -> None:
    model = build_e2(entities={"brand": 2, "season": 1}, fusion_layers=fusion_layers, attention=attention).vision_model
    output = model(pixels, output_selection_maps=True, complete_states=False)
    cls, tokens, chosen = slow_encoding(model, pixels)
    assert torch.equal(output.selected_patches[..., 0], torch.stack(chosen, 1))
    torch.testing.assert_close(output.pooler_output, model.post_layernorm(cls), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.token_states, tokens, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("fusion_layers", [[], [1, 2], [3]])
def test_work_for_read_tokens_only_changes_nothing(
    build_e2: BuildE2, pixels: Tensor, fusion_layers: list[int], attention: str
) -> None:
    model = build_e2(entities={"brand": 2, "season": 1}, fusion_layers=fusion_layers, attention=attention)
    fast = model.get_image_features(pixels, complete_states=False)
    slow = model.get_image_features(pixels, complete_states=True)
    gradients = []
    for output in (fast, slow):
        total = (output.pooler_output * torch.arange(24)).sum() + (output.region_features * torch.arange(24)).sum()
        model.zero_grad()
        total.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(fast.pooler_output, slow.pooler_output, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(fast.region_features, slow.region_features, atol=1e-6, rtol=1e-5)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=2e-4, rtol=1e-3)


def test_patches_are_dropped_behind_the_last_fusion(e2: E2Model, pixels: Tensor) -> None:
    output = e2.vision_model(pixels)
    assert output.last_hidden_state.shape == (4, 1 + 6, 48)
    assert torch.equal(output.last_hidden_state[:, 1:], output.token_states)
    assert output.patch_states.shape == (4, 16, 48)


def test_without_fusion_the_patches_stay(build_e2: BuildE2, pixels: Tensor) -> None:
    output = build_e2(entities=["brand"]).vision_model(pixels)
    assert output.last_hidden_state.shape == (4, 1 + 16 + 2, 48)
    assert torch.equal(output.last_hidden_state[:, 1:17], output.patch_states)
    assert torch.equal(output.last_hidden_state[:, 17:], output.token_states)


def test_hidden_states_are_those_of_every_layer(e2: E2Model, pixels: Tensor) -> None:
    output = e2.get_image_features(pixels, output_hidden_states=True)
    assert [len(states[0]) for states in output.hidden_states] == [23, 23, 23, 7]
    torch.testing.assert_close(output.pooler_output, e2.get_image_features(pixels).pooler_output)


def test_attentions_come_with_eager(build_e2: BuildE2, pixels: Tensor) -> None:
    model = build_e2(entities=["brand"], fusion_layers=[1], attention="eager")
    output = model.get_image_features(pixels, output_attentions=True)
    assert [attention.shape[-1] for attention in output.attentions] == [19, 3, 3]


def test_selection_maps_only_on_request(e2: E2Model, pixels: Tensor) -> None:
    assert e2.vision_model(pixels).selection_maps is None
    output = e2.vision_model(pixels, output_selection_maps=True)
    assert output.selection_maps.shape == (4, 2, 6, 16)
    torch.testing.assert_close(output.selection_maps.sum(-1), torch.ones(4, 2, 6))
    assert torch.equal(output.selection_maps.argmax(-1), output.selected_patches[..., 0])


def test_two_evaluations_are_bit_equal(e2: E2Model, pixels: Tensor) -> None:
    first, second = e2.get_image_features(pixels), e2.get_image_features(pixels)
    assert torch.equal(first.pooler_output, second.pooler_output)
    assert torch.equal(first.region_features, second.region_features)


def region_features(model: E2Model, pixels: Tensor) -> Tensor:
    with torch.no_grad():
        return model.get_region_features(pixels)


def test_training_noise_comes_from_its_key(e2: E2Model, pixels: Tensor) -> None:
    e2.train()
    e2.seed_selection_noise(5, 0)
    first, second = region_features(e2, pixels), region_features(e2, pixels)
    e2.seed_selection_noise(5, 0)
    torch.manual_seed(77)  # the global generator must not matter
    assert torch.equal(region_features(e2, pixels), first)
    assert not torch.equal(first, second)
    e2.seed_selection_noise(5, 1)
    assert not torch.equal(region_features(e2, pixels), first)


def test_evaluation_draws_nothing_from_the_global_generator(e2: E2Model, pixels: Tensor) -> None:
    state = torch.get_rng_state()
    region_features(e2, pixels)
    assert torch.equal(torch.get_rng_state(), state)


def test_without_noise_training_selects_like_evaluation(build_e2: BuildE2, pixels: Tensor) -> None:
    model = build_e2(entities=["brand"], fusion_layers=[1, 2], noise="none")
    evaluated = region_features(model, pixels)
    assert torch.equal(region_features(model.train(), pixels), evaluated)


def test_a_seeded_model_can_be_copied(e2: E2Model, pixels: Tensor) -> None:
    e2.train().seed_selection_noise(1)
    twin = copy.deepcopy(e2)
    assert torch.equal(region_features(twin, pixels), region_features(e2, pixels))


@pytest.mark.parametrize("size", [(48, 48), (32, 64), (24, 24)])
def test_images_of_any_size_are_taken(e2: E2Model, size: tuple[int, int]) -> None:
    pixels = torch.randn(2, 3, *size)
    output = e2.get_image_features(pixels, output_selection_maps=True)
    assert output.selection_maps.shape[-1] == (size[0] // 8) * (size[1] // 8)
    assert torch.isfinite(output.region_features).all()


def test_interpolation_is_clips_own(plain_clip: CLIPModel, build_e2: BuildE2) -> None:
    model = build_e2()
    model.load_state_dict(plain_clip.state_dict())
    pixels = torch.randn(2, 3, 48, 40)
    expected = plain_clip.get_image_features(pixels, interpolate_pos_encoding=True).pooler_output
    torch.testing.assert_close(model.get_image_features(pixels).pooler_output, expected, atol=1e-6, rtol=1e-5)


def test_batch_of_one_keeps_its_axis(e2: E2Model, pixels: Tensor) -> None:
    assert e2.get_region_features(pixels[:1]).shape == (1, 3, 24)
    torch.testing.assert_close(region_features(e2, pixels[:1]), region_features(e2, pixels)[:1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("selection", ["hard", "soft", "random"])
def test_permuting_entities_permutes_regions(build_e2: BuildE2, pixels: Tensor, selection: str) -> None:
    one = build_e2(entities={"brand": 2, "season": 1, "kind": 2}, fusion_layers=[1, 2], selection=selection)
    other = build_e2(entities={"kind": 2, "brand": 2, "season": 1}, fusion_layers=[1, 2], selection=selection)
    other.load_state_dict(one.state_dict())
    first, second = one.get_image_features(pixels), other.get_image_features(pixels)
    torch.testing.assert_close(first.region_features[:, [2, 0, 1]], second.region_features, atol=5e-5, rtol=1e-4)
    torch.testing.assert_close(first.pooler_output, second.pooler_output, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_permuting_patches_without_positions_permutes_only_the_choice(e2: E2Model, pixels: Tensor) -> None:
    model = e2.vision_model
    model.embeddings.position_embedding.weight[1:] = 0
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    tiles = pixels.unfold(2, 8, 8).unfold(3, 8, 8).flatten(2, 3)[:, :, order]  # (B, 3, P, 8, 8)
    permuted = tiles.reshape(4, 3, 4, 4, 8, 8).permute(0, 1, 2, 4, 3, 5).reshape(4, 3, 32, 32)
    first: E2VisionOutput = model(pixels, output_selection_maps=True)
    second: E2VisionOutput = model(permuted, output_selection_maps=True)
    assert torch.equal(order[second.selected_patches], first.selected_patches)
    torch.testing.assert_close(first.token_states, second.token_states, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("selection", ["hard", "soft"])
def test_every_parameter_of_the_regions_learns(build_e2: BuildE2, pixels: Tensor, selection: str) -> None:
    model = build_e2(entities=["brand", "season"], fusion_layers=[1, 2], selection=selection, patches_per_token=2)
    model.train().seed_selection_noise(0)
    (model.get_region_features(pixels) * torch.randn(4, 2, 24)).sum().backward()
    for name, parameter in model.named_parameters():
        if not name.startswith(("text", "logit_scale", "visual_projection", "vision_model.post_layernorm")):
            assert parameter.grad is not None, name
            # a constant added to all keys of a softmax changes nothing, so its gradient is zero
            assert parameter.grad.abs().sum() > 0 or name.endswith("k_proj.bias"), name


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_training_in_bf16_autocast_is_finite(
    build_e2: BuildE2, pixels: Tensor, texts: dict[str, Tensor], attention: str
) -> None:
    model = build_e2(entities=["brand"], fusion_layers=[1], attention=attention).train()
    exact = model(pixel_values=pixels, **texts).text_embeds
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(pixel_values=pixels, **texts, return_loss=True)
    (output.loss + output.region_embeds.float().square().sum()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    torch.testing.assert_close(output.text_embeds.float(), exact, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_gradient_checkpointing_changes_nothing(build_e2: BuildE2, pixels: Tensor, attention: str) -> None:
    model = build_e2(entities=["brand"], fusion_layers=[1], attention=attention).train()
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.activation_checkpointing_enable()
        model.zero_grad()
        model.seed_selection_noise(3)
        model.get_region_features(pixels).square().sum().backward()
        gradients.append(model.vision_model.selection_tokens.brand.grad.clone())
    torch.testing.assert_close(*gradients)


def test_more_patches_per_token_than_patches_are_refused(build_e2: BuildE2, pixels: Tensor) -> None:
    model = build_e2(entities=["brand"], fusion_layers=[1], patches_per_token=17)
    with pytest.raises(E2FashionError, match="patches_per_token=17 but the image has 16"):
        model.get_region_features(pixels)


def regions_and_choice(model: E2Model, pixels: Tensor) -> tuple[Tensor, Tensor]:
    output = model.get_image_features(pixels, output_selection_maps=True)
    return output.region_features, output.selected_patches


@torch.no_grad()
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_tokens_that_attend_to_each_other_alone_know_only_the_patches_they_pick(
    build_e2: BuildE2, pixels: Tensor, attention: str
) -> None:
    """Read behind layer 0, a patch is its own pixels: all others may change as long as the choice stays."""
    options: dict[str, Any] = {"entities": ["brand", "season"], "fusion_layers": [3], "attention": attention}
    faithful = build_e2(**options, value_layer=0, token_attention="own")
    official = build_e2(**options)
    official.load_state_dict(faithful.state_dict())
    for model, knows_more in ((faithful, False), (official, True)):
        before, chosen = regions_and_choice(model, pixels)
        read = torch.zeros(4, 16, dtype=torch.bool).scatter(1, chosen.flatten(1), True)
        read = read.reshape(4, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
        changed = torch.where(read, pixels, pixels + 0.02)
        after, again = regions_and_choice(model, changed)
        assert torch.equal(again, chosen)
        assert ((after - before).abs().max() > 1e-4) == knows_more


@torch.no_grad()
def test_hidden_tokens_leave_the_image_features_of_clip(
    plain_clip: CLIPModel, build_e2: BuildE2, pixels: Tensor
) -> None:
    options: dict[str, Any] = {"value_layer": 1, "token_attention": "own", "token_gate": -30.0, "drop_patches": False}
    model = build_e2(entities=["brand", "season"], fusion_layers=[1, 3], **options)
    model.load_state_dict(plain_clip.state_dict(), strict=False)
    assert model.vision_model.token_gates is not None
    model.vision_model.token_gates.bias.fill_(-30.0)  # as it is drawn
    expected = plain_clip.get_image_features(pixels).pooler_output
    torch.testing.assert_close(model.get_image_features(pixels).pooler_output, expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_values_of_the_layer_of_the_first_block_are_the_official_ones_there(build_e2: BuildE2, pixels: Tensor) -> None:
    official = build_e2(entities=["brand"], fusion_layers=[2])
    same = build_e2(entities=["brand"], fusion_layers=[2], value_layer=2)
    early = build_e2(entities=["brand"], fusion_layers=[2], value_layer=1)
    for model in (same, early):
        model.load_state_dict(official.state_dict())
    expected, chosen = regions_and_choice(official, pixels)
    assert torch.equal(regions_and_choice(same, pixels)[0], expected)
    found, again = regions_and_choice(early, pixels)
    assert torch.equal(again, chosen)
    assert (found - expected).abs().max() > 1e-3


@torch.no_grad()
def test_entities_without_tokens_leave_clip_as_it_is(plain_clip: CLIPModel, build_e2: BuildE2, pixels: Tensor) -> None:
    model = build_e2(entities={"brand": 0, "season": 0}, fusion_layers=[1])
    model.load_state_dict(plain_clip.state_dict())
    expected = plain_clip.get_image_features(pixels).pooler_output
    output = model.get_image_features(pixels, output_selection_maps=True)
    assert torch.equal(output.pooler_output, expected)
    assert torch.equal(output.region_features, torch.stack([expected, expected], 1))
    assert output.selection_maps is None
    assert model.num_parameters() == plain_clip.num_parameters()
