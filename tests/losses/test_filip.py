"""FILIP's contrast against the cross-entropies of its definition, and with fewer tokens."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from e2fashion.losses.contrastive import ContrastiveLoss
from e2fashion.losses.filip import TokenContrast, token_info_nce
from e2fashion.losses.functional import info_nce
from e2fashion.similarity import most_active
from e2fashion.types import E2FashionError

SCALE = torch.tensor(2.0)


def tokens(lengths: list[int], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    found = F.normalize(torch.randn(len(lengths), max(lengths), 6, generator=generator), dim=-1)
    return found * (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])[..., None]


IMAGES, TEXTS = tokens([4] * 5, seed=0), tokens([3, 1, 6, 2, 5], seed=1)


def slow_loss(images: Tensor, texts: Tensor) -> Tensor:
    def similarity(query: Tensor, item: Tensor) -> Tensor:
        products = query[query.ne(0).any(-1)] @ item[item.ne(0).any(-1)].T
        return products.max(1).values.mean()

    own = torch.arange(len(images))
    i2t = torch.stack([torch.stack([similarity(image, text) for text in texts]) for image in images])
    t2i = torch.stack([torch.stack([similarity(text, image) for image in images]) for text in texts])
    return (F.cross_entropy(SCALE.exp() * i2t, own) + F.cross_entropy(SCALE.exp() * t2i, own)) / 2


def test_equals_the_definition_in_value_and_gradient() -> None:
    found, expected = ([item.clone().requires_grad_() for item in (IMAGES, TEXTS)] for _ in range(2))
    loss, slow = token_info_nce(*found, SCALE), slow_loss(*expected)
    torch.testing.assert_close(loss, slow)
    loss.backward()
    slow.backward()
    for one, other in zip(found, expected, strict=True):
        assert one.grad is not None
        torch.testing.assert_close(one.grad, other.grad)


def test_one_token_each_is_clip_s_loss() -> None:
    torch.testing.assert_close(
        token_info_nce(IMAGES[:, :1], TEXTS[:, :1], SCALE), info_nce(IMAGES[:, 0], TEXTS[:, 0], SCALE)
    )


def test_fewer_tokens_are_those_most_active_in_the_batch() -> None:
    kept = most_active(IMAGES, TEXTS, 0.5), most_active(TEXTS, IMAGES, 0.5)
    torch.testing.assert_close(token_info_nce(IMAGES, TEXTS, SCALE, keep=0.5), slow_loss(*kept))


def test_the_weighted_loss_takes_tokens_beside_regions() -> None:
    generator = torch.Generator().manual_seed(2)
    regions, tags = F.normalize(torch.randn(2, 5, 2, 6, generator=generator), dim=-1)
    present = torch.tensor([[True, False]] * 3 + [[True, True]] * 2)
    loss = ContrastiveLoss(["brand", "season"], 0.5, global_term=TokenContrast())
    found = loss(IMAGES, TEXTS, regions, tags, present, None, SCALE)
    plain = ContrastiveLoss(["brand", "season"], 0.5)(IMAGES[:, 0], TEXTS[:, 0], regions, tags, present, None, SCALE)
    torch.testing.assert_close(found.terms["global"], slow_loss(IMAGES, TEXTS))
    assert found.terms.keys() == plain.terms.keys()
    torch.testing.assert_close(found.terms["region/season"], plain.terms["region/season"])
    valued = ContrastiveLoss(["brand", "season"], 0.5, "same_value", global_term=TokenContrast())
    value = torch.tensor([[1, 2], [1, 3], [2, 2], [2, 2], [1, 2]])
    assert valued(IMAGES, TEXTS, regions, tags, present, value, SCALE).terms["global"] == found.terms["global"]


def test_bf16_products_are_close() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = token_info_nce(IMAGES, TEXTS, SCALE)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, slow_loss(IMAGES, TEXTS), atol=0.02, rtol=0)


@pytest.mark.parametrize("keep", [0.0, 1.5])
def test_impossible_shares_are_refused(keep: float) -> None:
    with pytest.raises(E2FashionError, match=f"token_keep is {keep}"):
        TokenContrast(keep)


def test_vectors_and_tokens_are_not_mistaken_for_each_other() -> None:
    nothing = (None, None, None, None, SCALE)
    with pytest.raises(E2FashionError, match=r"shape \(5, 4, 6\), .* give global_term=TokenContrast"):
        ContrastiveLoss()(IMAGES, TEXTS, *nothing)
    with pytest.raises(E2FashionError, match=r"compares tokens .* shapes \(5, 6\) and \(5, 6\)"):
        ContrastiveLoss(global_term=TokenContrast())(IMAGES[:, 0], TEXTS[:, 0], *nothing)
