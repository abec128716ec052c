from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.modeling_clip import CLIPOutput

from e2fashion.models import E2Model, E2Output

BuildE2 = Callable[..., E2Model]
TAGS = torch.tensor([[98, 7, 99, 0], [98, 8, 9, 99], [98, 99, 0, 0]])
TAG_MASK = (TAGS != 0).long()
INDEX = torch.tensor([[0, 1, 0], [2, 0, 0], [0, 1, 2], [0, 0, 0]])
PRESENT = torch.tensor([[True, True, False], [True, False, True], [True, True, True], [False, False, False]])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("off", [{}, {"fusion_layers": [1, 2]}])
def test_with_all_off_it_is_clip(
    build_e2: BuildE2, plain_clip: CLIPModel, pixels: Tensor, texts: dict[str, Tensor], attention: str, off: dict
) -> None:
    model = build_e2(attention=attention, **off)
    model.load_state_dict(plain_clip.state_dict())
    plain_clip.set_attn_implementation(attention)
    close = {"atol": 1e-6, "rtol": 1e-6}
    expected = plain_clip(pixel_values=pixels, **texts, return_loss=True)
    output = model(pixel_values=pixels, **texts, return_loss=True)
    for name in ("loss", "logits_per_image", "logits_per_text", "image_embeds", "text_embeds"):
        torch.testing.assert_close(output[name], expected[name], **close)
    for ours, theirs in (
        (model.get_image_features(pixels), plain_clip.get_image_features(pixels)),
        (model.get_text_features(**texts), plain_clip.get_text_features(**texts)),
    ):
        torch.testing.assert_close(ours.pooler_output, theirs.pooler_output, **close)
        torch.testing.assert_close(ours.last_hidden_state, theirs.last_hidden_state, **close)
    assert output.region_embeds.shape == (4, 0, 24)


def test_training_computes_only_what_is_read(
    build_e2: BuildE2, plain_clip: CLIPModel, pixels: Tensor, texts: dict[str, Tensor]
) -> None:
    model = build_e2().train()
    model.load_state_dict(plain_clip.state_dict())
    output, expected = (one(pixel_values=pixels, **texts, return_loss=True) for one in (model, plain_clip))
    assert output.vision_model_output.last_hidden_state.shape == (4, 1, 48)
    assert output.text_model_output.last_hidden_state.shape == (4, 1, 32)
    torch.testing.assert_close(output.loss, expected.loss, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.image_embeds, expected.image_embeds, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(output.text_embeds, expected.text_embeds, atol=1e-6, rtol=1e-5)


def test_weights_from_scratch_have_clips_scale(build_e2: BuildE2) -> None:
    torch.manual_seed(0)
    config = build_e2(num_hidden_layers=8, entities=["brand"], fusion_layers=[2]).config
    ours, theirs = E2Model(config), CLIPModel(CLIPConfig.from_dict(config.to_dict()))
    weights = dict(ours.named_parameters())
    for name, weight in theirs.named_parameters():
        if weight.ndim >= 2:
            assert weights[name].std().item() == pytest.approx(weight.std().item(), rel=0.15), name
        elif weight.numel() > 1 and "class_embedding" not in name:
            assert torch.equal(weights[name], weight), name


def test_gradient_of_clips_loss_is_clips(
    build_e2: BuildE2, plain_clip: CLIPModel, pixels: Tensor, texts: dict[str, Tensor]
) -> None:
    model = build_e2()
    model.load_state_dict(plain_clip.state_dict())
    for one in (plain_clip, model.train()):
        one(pixel_values=pixels, **texts, return_loss=True).loss.backward()
    theirs = {name: parameter.grad for name, parameter in plain_clip.named_parameters()}
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name], atol=1e-5, rtol=1e-4)


def test_clips_fields_come_first() -> None:
    names = [field.name for field in dataclasses.fields(E2Output)]
    assert names[:7] == [field.name for field in dataclasses.fields(CLIPOutput)]


def test_tuple_outputs_keep_clips_places(e2: E2Model, pixels: Tensor, texts: dict[str, Tensor]) -> None:
    output = e2(pixel_values=pixels, **texts)
    assert torch.equal(e2(pixel_values=pixels, **texts, return_dict=False)[3], output.image_embeds)
    features = e2.get_image_features(pixels, return_dict=False)
    assert torch.equal(features[1], e2.get_image_features(pixels).pooler_output)


def forward(model: E2Model, pixels: Tensor, texts: dict[str, Tensor], **changes: Tensor) -> E2Output:
    tags = {"tag_input_ids": TAGS, "tag_attention_mask": TAG_MASK, "tag_index": INDEX, "tag_present": PRESENT}
    return model(pixel_values=pixels, **texts, **{**tags, **changes})


def test_own_embeddings_are_normalized_features(e2: E2Model, pixels: Tensor, texts: dict[str, Tensor]) -> None:
    output = forward(e2, pixels, texts)
    torch.testing.assert_close(output.region_embeds, F.normalize(e2.get_region_features(pixels), dim=-1))
    torch.testing.assert_close(output.image_embeds, F.normalize(e2.get_image_features(pixels).pooler_output, dim=-1))
    torch.testing.assert_close(output.text_embeds, F.normalize(e2.get_text_features(**texts).pooler_output, dim=-1))
    assert output.logit_scale is e2.logit_scale


def test_each_distinct_tag_encoded_once_equals_encoding_every_tag(
    e2: E2Model, pixels: Tensor, texts: dict[str, Tensor]
) -> None:
    output = forward(e2, pixels, texts)
    for product in range(4):
        for entity in range(3):
            row = INDEX[product, entity]
            text = e2.text_model(TAGS[row : row + 1], TAG_MASK[row : row + 1]).pooler_output
            alone = F.normalize(e2.text_projection(text)[0], dim=-1)
            expected = alone if PRESENT[product, entity] else torch.zeros(24)
            torch.testing.assert_close(output.tag_embeds[product, entity], expected, atol=1e-6, rtol=1e-5)


def test_absent_tags_give_no_gradient(e2: E2Model, pixels: Tensor, texts: dict[str, Tensor]) -> None:
    output = forward(e2, pixels, texts, tag_present=torch.zeros_like(PRESENT))
    assert output.tag_embeds.abs().max() == 0
    output.tag_embeds.sum().backward()
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in e2.parameters())


def test_a_batch_without_any_tag_gives_zeros(e2: E2Model, pixels: Tensor, texts: dict[str, Tensor]) -> None:
    empty = torch.zeros(0, 4, dtype=torch.long)
    output = forward(
        e2, pixels, texts, tag_input_ids=empty, tag_attention_mask=empty, tag_present=torch.zeros_like(PRESENT)
    )
    assert torch.equal(output.tag_embeds, torch.zeros(4, 3, 24))


def test_tags_without_owners_are_refused(e2: E2Model, pixels: Tensor, texts: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="tag_index and tag_present"):
        e2(pixel_values=pixels, **texts, tag_input_ids=TAGS)


def test_selection_maps_pass_through(e2: E2Model, pixels: Tensor, texts: dict[str, Tensor]) -> None:
    assert forward(e2, pixels, texts).selection_maps is None
    output = e2(pixel_values=pixels, **texts, output_selection_maps=True)
    assert output.selection_maps.shape == (4, 2, 6, 16)
    assert output.selected_patches.shape == (4, 2, 6, 1)


def test_padding_does_not_change_the_text(e2: E2Model, texts: dict[str, Tensor]) -> None:
    longer = {name: F.pad(value, (0, 4)) for name, value in texts.items()}
    e2.train()
    one, other = e2.get_text_features(**texts), e2.get_text_features(**longer)
    assert torch.equal(one.pooler_output, other.pooler_output)
    without_mask = e2.get_text_features(texts["input_ids"])
    assert torch.equal(one.pooler_output, without_mask.pooler_output)
