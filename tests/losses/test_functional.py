"""InfoNCE against a loop, its closed forms, and what absent members must not do."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from e2fashion.losses.functional import count_present, info_nce
from tests.losses.members import members


def embeddings(number: int, width: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a, b = (F.normalize(torch.randn(number, width, generator=generator), dim=-1) for _ in range(2))
    return a, b


def slow_info_nce(
    a: Tensor, b: Tensor, logit_scale: float, present: list[bool] | None = None, value: list[int] | None = None
) -> float:
    """The definition, one number at a time."""
    here = [i for i in range(len(a)) if present is None or present[i]]
    if len(here) < 2:
        return 0.0
    total = 0.0
    for left, right in ((a, b), (b, a)):
        for i in here:
            logits = {j: math.exp(logit_scale) * float(left[i].double() @ right[j].double()) for j in here}
            positives = [j for j in here if (value is None and i == j) or (value is not None and value[i] == value[j])]
            normalizer = math.log(sum(math.exp(logit) for logit in logits.values()))
            total += normalizer - sum(logits[j] for j in positives) / len(positives)
    return total / (2 * len(here))


@settings(max_examples=40)
@given(st.data())
def test_equals_the_loop(data: st.DataObject) -> None:
    present, value = data.draw(members())
    a, b = embeddings(len(present), seed=data.draw(st.integers(0, 99)))
    scale = data.draw(st.floats(0.0, 3.0))
    found = info_nce(a, b, torch.tensor(scale), torch.tensor(present), None if value is None else torch.tensor(value))
    assert float(found) == pytest.approx(slow_info_nce(a, b, scale, present, value), abs=2e-5)


def test_collapsed_embeddings_cost_the_log_of_the_batch() -> None:
    same = F.normalize(torch.ones(6, 4), dim=-1)
    assert float(info_nce(same, same, torch.tensor(2.0))) == pytest.approx(math.log(6), abs=1e-6)


def test_orthogonal_pairs_have_a_closed_form() -> None:
    unit = torch.eye(5)
    expected = math.log(math.exp(10.0) + 4) - 10.0
    assert float(info_nce(unit, unit, torch.tensor(10.0).log())) == pytest.approx(expected, abs=1e-6)


def test_equals_clips_own_loss() -> None:
    from transformers.models.clip.modeling_clip import image_text_contrastive_loss

    a, b = embeddings(9)
    logits = torch.tensor(3.0).exp() * b @ a.T
    assert torch.allclose(info_nce(a, b, torch.tensor(3.0)), image_text_contrastive_loss(logits), atol=1e-6)


def test_is_symmetric_in_its_sides() -> None:
    a, b = embeddings(6)
    present = torch.tensor([True, False, True, True, True, True])
    scale = torch.tensor(1.5)
    assert torch.allclose(info_nce(a, b, scale, present), info_nce(b, a, scale, present), atol=1e-6)


@settings(max_examples=20)
@given(order=st.permutations(range(6)))
def test_does_not_depend_on_the_order_of_products(order: list[int]) -> None:
    a, b = embeddings(6)
    present, value = torch.tensor([True, True, False, True, True, True]), torch.tensor([0, 1, 1, 0, 2, 2])
    scale = torch.tensor(1.5)
    shuffled = info_nce(a[order], b[order], scale, present[order], value[order])
    assert torch.allclose(shuffled, info_nce(a, b, scale, present, value), atol=1e-6)


def test_distinct_values_equal_the_diagonal() -> None:
    a, b = embeddings(7)
    scale = torch.tensor(2.0)
    assert torch.equal(info_nce(a, b, scale), info_nce(a, b, scale, value=torch.tensor([5, 3, -1, 9, 2, 0, 7])))


def test_equal_values_are_not_pushed_apart() -> None:
    a, b = embeddings(4)
    a.requires_grad_()
    info_nce(a, b, torch.tensor(0.0), value=torch.zeros(4, dtype=torch.int64)).backward()
    # All logits are positives: the gradient is that of the softmax around its uniform target.
    probabilities = (a @ b.T).softmax(-1) + (b @ a.T).softmax(-1).T
    assert torch.allclose(a.grad, (probabilities - 0.5) @ b / 8, atol=1e-6)


@pytest.mark.parametrize("rubbish", [0.0, 1.0, torch.nan, torch.inf])
def test_absent_members_change_nothing(rubbish: float) -> None:
    a, b = embeddings(5)
    present = torch.tensor([True, False, True, True, False])
    expected = info_nce(a[present], b[present], torch.tensor(2.0))
    a[~present], b[~present] = rubbish, rubbish
    assert torch.allclose(info_nce(a, b, torch.tensor(2.0), present), expected, atol=1e-7)


@pytest.mark.parametrize("rubbish", [0.0, torch.nan])
@pytest.mark.parametrize("value", [None, torch.tensor([1, 1, 1, 0, 0])])
def test_absent_members_get_exactly_no_gradient(rubbish: float, value: Tensor | None) -> None:
    a, b = embeddings(5)
    present = torch.tensor([True, False, True, True, False])
    a[~present] = rubbish
    a.requires_grad_()
    b.requires_grad_()
    info_nce(a, b, torch.tensor(2.0), present, value).backward()
    assert (a.grad[~present] == 0).all()
    assert (b.grad[~present] == 0).all()
    assert a.grad[present].abs().min() > 0
    assert b.grad.isfinite().all()


@pytest.mark.parametrize("here", [[], [2]])
def test_a_lonely_member_is_exactly_zero(here: list[int]) -> None:
    a, b = (item.requires_grad_() for item in embeddings(4))
    scale = torch.tensor(2.0, requires_grad=True)
    present = torch.zeros(4, dtype=torch.bool)
    present[here] = True
    loss = info_nce(a, b, scale, present)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert int(count_present(present)) == len(here)
    assert all(bool((item.grad == 0).all()) for item in (a, b, scale))


def test_gradients_of_the_scale_match_differences() -> None:
    a, b = embeddings(6)
    scale = torch.tensor(1.0, requires_grad=True)
    info_nce(a, b, scale).backward()
    step = 1e-3
    difference = (slow_info_nce(a, b, 1.0 + step) - slow_info_nce(a, b, 1.0 - step)) / (2 * step)
    assert float(scale.grad) == pytest.approx(difference, abs=1e-4)


def test_leading_dimensions_are_independent_problems() -> None:
    pairs = [embeddings(5, seed=seed) for seed in range(3)]
    a, b = (torch.stack(items) for items in zip(*pairs, strict=True))
    present = torch.tensor([[True] * 5, [True, False, True, False, True], [False] * 5])
    scale = torch.tensor(2.0)
    alone = [info_nce(*pair, scale, here) for pair, here in zip(pairs, present, strict=True)]
    assert torch.allclose(info_nce(a, b, scale, present), torch.stack(alone), atol=1e-6)


@pytest.mark.parametrize("value", [None, torch.tensor([0, 0, 1, 2, 1, 0, 3])])
def test_shares_sum_to_the_whole(value: Tensor | None) -> None:
    a, b = embeddings(7)
    present = torch.tensor([True, True, False, True, True, True, True])
    scale = torch.tensor(2.0)
    shares = [
        info_nce(a[first:last], b[first:last], scale, present, value, joint=(a, b), first=first)
        for first, last in ((0, 3), (3, 4), (4, 7))
    ]
    assert torch.allclose(torch.stack(shares).sum(), info_nce(a, b, scale, present, value), atol=1e-6)


def test_autocast_does_not_reach_the_sum() -> None:
    a, b = embeddings(16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = info_nce(a, b, torch.tensor(4.6))
    assert found.dtype == torch.float32
    assert torch.equal(found, info_nce(a, b, torch.tensor(4.6)))


def test_the_largest_scale_stays_finite() -> None:
    a, b = (item.requires_grad_() for item in embeddings(8))
    info_nce(a, b, torch.tensor(math.log(100.0))).backward()
    assert a.grad.isfinite().all()
    assert b.grad.isfinite().all()


def gradients_of_tags(texts: Tensor, index: list[int], value: list[int], *, same_value: bool) -> list[Tensor]:
    """Loss, and its gradients, of eight images and tags whose features are ``texts[index]``."""
    images, texts = embeddings(8)[0].requires_grad_(), texts.clone().requires_grad_()
    present = torch.tensor([True] * 7 + [False])
    tags = F.normalize(texts, dim=-1)[index]
    loss = info_nce(images, tags, torch.tensor(1.7), present, torch.tensor(value) if same_value else None)
    return [loss, *torch.autograd.grad(loss, (images, texts))]


def test_equal_values_with_one_text_each_are_the_diagonal_loss() -> None:
    value = [0, 1, 0, 2, 1, 0, 3, 3]
    one_text_each, own_texts = embeddings(4, seed=1)[0], embeddings(8, seed=1)[0]
    diagonal, same = (gradients_of_tags(one_text_each, value, value, same_value=same) for same in (False, True))
    for expected, actual in zip(diagonal, same, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)
    rows = list(range(8))
    diagonal, same = (gradients_of_tags(own_texts, rows, value, same_value=same) for same in (False, True))
    assert not any(torch.allclose(a, b, atol=1e-3) for a, b in zip(diagonal, same, strict=True))
