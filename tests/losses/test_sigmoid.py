"""The sigmoid loss against its definition, and with absent members and tokens."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from transformers import SiglipConfig, SiglipModel

from e2fashion.losses.contrastive import ContrastiveLoss
from e2fashion.losses.filip import TokenContrast, token_info_nce
from e2fashion.losses.functional import sigmoid_share
from tests.losses.members import members

SCALE, BIAS = torch.tensor(1.0), torch.tensor(-2.0)


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def slow_sigmoid(a: Tensor, b: Tensor, present: list[bool], value: list[int] | None) -> float:
    """The definition, one pair at a time."""
    here = [i for i, is_present in enumerate(present) if is_present]
    if len(here) < 2:
        return 0.0
    total = 0.0
    for i in here:
        for j in here:
            match = i == j if value is None else value[i] == value[j]
            logit = math.exp(float(SCALE)) * float(a[i].double() @ b[j].double()) + float(BIAS)
            total -= math.log(1 / (1 + math.exp(-logit if match else logit)))
    return total / len(here)


@settings(max_examples=40)
@given(st.data())
def test_equals_the_loop(data: st.DataObject) -> None:
    present, value = data.draw(members())
    a, b = unit(2, len(present), 8, seed=data.draw(st.integers(0, 99)))
    values = None if value is None else torch.tensor(value)
    found = sigmoid_share(a, b, SCALE, BIAS, present=torch.tensor(present), value=values)
    assert float(found) == pytest.approx(slow_sigmoid(a, b, present, value), abs=1e-5)


def test_equals_the_loss_of_siglip() -> None:
    tower = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = SiglipConfig(
        text_config={**tower, "vocab_size": 20}, vision_config={**tower, "image_size": 8, "patch_size": 4}
    )
    torch.manual_seed(0)
    model = SiglipModel(config).eval()
    with torch.no_grad():
        output = model(torch.randint(0, 20, (5, 4)), torch.randn(5, 3, 8, 8), return_loss=True)
        found = sigmoid_share(output.image_embeds, output.text_embeds, model.logit_scale, model.logit_bias)
    torch.testing.assert_close(found, output.loss, atol=1e-6, rtol=1e-6)


def test_absent_members_have_no_gradient_even_if_not_finite() -> None:
    a, b = unit(4, 8), unit(4, 8, seed=1)
    a[2] = float("nan")
    a.requires_grad_()
    present = torch.tensor([True, True, False, True])
    loss = sigmoid_share(a, b, SCALE, BIAS, present=present)
    loss.backward()
    assert a.grad is not None
    assert torch.equal(a.grad[2], torch.zeros(8))
    assert a.grad.isfinite().all()
    rest = [0, 1, 3]
    torch.testing.assert_close(loss, sigmoid_share(a[rest], b[rest], SCALE, BIAS))


def test_a_bias_makes_every_term_a_sigmoid_loss() -> None:
    image, text = unit(6, 8), unit(6, 8, seed=1)
    regions, tags = unit(6, 1, 8, seed=2), unit(6, 1, 8, seed=3)
    present, value = torch.tensor([[True]] * 5 + [[False]]), torch.tensor([[0], [1], [1], [2], [0], [0]])
    found = ContrastiveLoss(["brand"], 0.3, "same_value")(image, text, regions, tags, present, value, SCALE, BIAS)
    whole = sigmoid_share(image, text, SCALE, BIAS)
    regional = sigmoid_share(regions[:, 0], tags[:, 0], SCALE, BIAS, present=present[:, 0], value=value[:, 0])
    torch.testing.assert_close(found.total, 0.7 * whole + 0.3 * regional)


def test_one_token_each_is_the_loss_of_vectors() -> None:
    image, text = unit(5, 1, 8), unit(5, 1, 8, seed=1)
    expected = sigmoid_share(image[:, 0], text[:, 0], SCALE, BIAS)
    torch.testing.assert_close(TokenContrast()(image, text, SCALE, BIAS), expected)


@pytest.mark.parametrize("bias", [None, BIAS])
def test_tokens_in_chunks_equal_one_piece(bias: Tensor | None) -> None:
    found, expected = ([unit(5, 4, 8).requires_grad_(), unit(5, 3, 8, seed=1).requires_grad_()] for _ in range(2))
    chunked = token_info_nce(*found, SCALE, logit_bias=bias, chunk_size=2)
    whole = token_info_nce(*expected, SCALE, logit_bias=bias)
    torch.testing.assert_close(chunked, whole)
    for one, other in zip(torch.autograd.grad(chunked, found), torch.autograd.grad(whole, expected), strict=True):
        torch.testing.assert_close(one, other)
