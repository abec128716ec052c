"""Texts without padding, equal beginnings once: the same features and gradients as one text a row."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import CLIPModel, CLIPTextModel

from e2fashion.models import last_layer
from e2fashion.models.last_layer import PackedTexts, encode_text_end, end_positions, pack_texts

START, EOS = 98, 99


def padded(texts: list[list[int]], length: int = 12) -> Tensor:
    """Texts of words, (B, length), between start and end token and padded with the latter."""
    rows = [[START, *text, EOS] for text in texts]
    return torch.tensor([row + [EOS] * (length - len(row)) for row in rows])


def packed(ids: Tensor) -> PackedTexts:
    return pack_texts(ids, end_positions(ids, EOS), width=32)


#: Words of two kinds, so that many texts begin alike, and some are equal.
TEXTS = [[1, 2], [1], [1, 2, 1, 1, 2], [2, 2, 2], [1, 2], [1, 2, 1, 2, 2, 2, 1], [2], [1, 2, 1, 1, 1], []]


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(1, 2), max_size=10), min_size=1, max_size=12))
def test_every_token_is_found_and_sees_its_own_beginning_alone(texts: list[list[int]]) -> None:
    ids = padded(texts)
    found = packed(ids)
    places = found.ids.shape[1]
    beginnings: dict[tuple[int, ...], set[int]] = {}
    for row, ends, path in zip(ids, end_positions(ids, EOS).tolist(), found.places, strict=True):
        assert torch.equal(found.ids.flatten()[path[: ends + 1]], row[: ends + 1])
        assert found.positions.flatten()[path[: ends + 1]].tolist() == list(range(ends + 1))
        assert set(path[ends:].tolist()) == {int(path[ends])}
        for position in range(ends + 1):
            sequence, place = divmod(int(path[position]), places)
            seen = found.visible[sequence, place].nonzero()[:, 0] + sequence * places
            assert sorted(path[: position + 1].tolist()) == seen.tolist()
            beginnings.setdefault((sequence, *row[: position + 1].tolist()), set()).add(place)
    assert all(len(of) == 1 for of in beginnings.values())
    assert found.visible.any(-1).all()


def test_equal_texts_take_no_more_places_than_one() -> None:
    ids = padded([[1, 2, 1]] * 50)
    assert packed(ids).ids.shape == packed(ids[:1]).ids.shape == (1, 5)


def test_short_texts_share_a_sequence_with_others() -> None:
    ids = padded([[7, 7, 7, 7, 7, 7, 7, 7, 7, 7], *([word] for word in range(1, 31))])
    assert packed(ids).ids.numel() < ids.numel() / 3


@pytest.fixture
def towers(plain_clip: CLIPModel) -> tuple[CLIPTextModel, CLIPTextModel]:
    """One text tower in training, which packs, and in evaluation, which does not."""
    model = plain_clip.text_model
    return copy.deepcopy(model).train(), model.eval()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packed_texts_have_the_features_and_gradients_of_padded_ones(
    towers: tuple[CLIPTextModel, CLIPTextModel], attention: str
) -> None:
    ids = padded(TEXTS)
    direction = torch.randn(len(ids), 32, generator=torch.Generator().manual_seed(4))
    features, gradients = [], []
    for model in towers:
        model.config._attn_implementation = attention
        complete = model.training or model(input_ids=ids)
        output = encode_text_end(model, ids) if complete is True else complete
        features.append(output.pooler_output)
        gradients.append(torch.autograd.grad((features[-1] * direction).sum(), list(model.parameters())))
    torch.testing.assert_close(features[0], features[1], atol=1e-6, rtol=1e-5)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_texts_are_packed_in_bf16_too(towers: tuple[CLIPTextModel, CLIPTextModel], attention: str) -> None:
    ids = padded(TEXTS)
    model, reference = towers
    model.config._attn_implementation = attention
    expected = reference(input_ids=ids).pooler_output
    with torch.autocast("cpu", torch.bfloat16):
        found = encode_text_end(model, ids).pooler_output
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("case", ["evaluation", "dropout", "a hidden word", "given positions"])
def test_texts_are_not_packed_where_that_would_differ(
    towers: tuple[CLIPTextModel, CLIPTextModel], case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = towers[0].train(case != "evaluation")
    model.config.attention_dropout = 0.1 if case == "dropout" else 0.0
    ids = padded(TEXTS)
    mask = torch.ones_like(ids)
    mask[:, 1] = int(case != "a hidden word")
    positions = torch.arange(12)[None] if case == "given positions" else None
    calls: list[int] = []
    monkeypatch.setattr(last_layer, "pack_texts", lambda *arguments: calls.append(1) or pack_texts(*arguments))
    encode_text_end(model, ids, mask, positions)
    assert not calls
    encode_text_end(towers[0].train(), ids) if case == "evaluation" else None
    assert len(calls) == (case == "evaluation")
