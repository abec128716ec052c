from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import CLIPModel

from e2fashion.models.last_layer import encode_text_end, end_positions, layer_for_read_tokens, trim_padding

EOS = 99
ATTENTION = pytest.mark.parametrize("attention", ["eager", "sdpa"])


@ATTENTION
def test_layer_for_read_tokens_is_the_layer(plain_clip: CLIPModel, attention: str) -> None:
    plain_clip.set_attn_implementation(attention)
    layer = plain_clip.vision_model.encoder.layers[-1]
    states = torch.randn(3, 7, 48, requires_grad=True)

    def read(tokens: Tensor) -> Tensor:
        return torch.cat([tokens[:, :1], tokens[:, 5:]], dim=1)

    fast, slow = layer_for_read_tokens(layer, states, read), read(layer(states, None))
    torch.testing.assert_close(fast, slow, atol=1e-6, rtol=1e-5)
    inputs = [states, *layer.parameters()]
    for one, other in zip(
        torch.autograd.grad(fast.square().sum(), inputs),
        torch.autograd.grad(slow.square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@ATTENTION
@pytest.mark.parametrize("masked", ["no mask", "padding", "a hidden word"])
def test_text_read_at_its_end_equals_the_complete_encoder(
    plain_clip: CLIPModel, texts: dict[str, Tensor], attention: str, masked: str
) -> None:
    plain_clip.set_attn_implementation(attention)
    model, ids = plain_clip.text_model, texts["input_ids"]
    mask = None if masked == "no mask" else texts["attention_mask"].clone()
    if masked == "a hidden word":
        mask[:, 1] = 0
    fast = encode_text_end(model, ids, mask).pooler_output
    slow = model(input_ids=ids, attention_mask=mask).pooler_output
    torch.testing.assert_close(fast, slow, atol=1e-6, rtol=1e-5)
    direction = torch.randn(fast.shape, generator=torch.Generator().manual_seed(4))
    parameters = list(model.parameters())
    for one, other in zip(
        torch.autograd.grad((fast * direction).sum(), parameters),
        torch.autograd.grad((slow * direction).sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_given_positions_are_kept(plain_clip: CLIPModel, texts: dict[str, Tensor]) -> None:
    positions = torch.arange(12).flip(0)[None]
    fast = encode_text_end(plain_clip.text_model, **texts, position_ids=positions).pooler_output
    slow = plain_clip.text_model(**texts, position_ids=positions).pooler_output
    torch.testing.assert_close(fast, slow, atol=1e-6, rtol=1e-5)


def test_legacy_end_token_reads_the_largest_id(plain_clip: CLIPModel, texts: dict[str, Tensor]) -> None:
    plain_clip.text_model.eos_token_id = 2
    fast = encode_text_end(plain_clip.text_model, **texts).pooler_output
    torch.testing.assert_close(fast, plain_clip.text_model(**texts).pooler_output, atol=1e-6, rtol=1e-5)


def test_an_empty_batch_gives_empty_features(plain_clip: CLIPModel) -> None:
    output = encode_text_end(plain_clip.text_model, torch.zeros(0, 5, dtype=torch.long))
    assert output.pooler_output.shape == (0, 32)


def test_texts_are_read_at_their_first_end_token() -> None:
    ids = torch.tensor([[98, 5, EOS, EOS], [98, EOS, 7, 0]])
    assert end_positions(ids, EOS).tolist() == [2, 1]


def test_trimming_cuts_behind_the_longest_text(texts: dict[str, Tensor]) -> None:
    ids, mask = trim_padding(texts["input_ids"], texts["attention_mask"], EOS)
    assert ids.shape == (4, 9)
    assert mask is None


def test_trimming_keeps_a_mask_that_hides_a_word(texts: dict[str, Tensor]) -> None:
    hiding = texts["attention_mask"].clone()
    hiding[1, 2] = 0
    ids, mask = trim_padding(texts["input_ids"], hiding, EOS)
    assert mask is not None
    assert torch.equal(mask, hiding[:, :9])
    assert torch.equal(ids, texts["input_ids"][:, :9])
