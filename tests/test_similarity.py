"""Token-wise similarity against a loop over pairs and tokens, its gradient, and the choice of active tokens."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from e2fashion.similarity import join_items, most_active, present_tokens, token_similarities, token_similarity
from e2fashion.types import E2FashionError


def items(lengths: list[int], seed: int = 0, width: int = 5, longest: int | None = None) -> Tensor:
    """Normalized tokens (N, T, C) of these lengths, zeros behind them."""
    generator = torch.Generator().manual_seed(seed)
    tokens = F.normalize(torch.randn(len(lengths), longest or max(lengths), width, generator=generator), dim=-1)
    return tokens * (torch.arange(tokens.shape[1]) < torch.tensor(lengths)[:, None])[..., None]


def slow(query: Tensor, gallery: Tensor) -> Tensor:
    """The definition: for every pair the mean over the query's tokens of the maximum over the item's."""
    rows = []
    for one in query:
        row = []
        for other in gallery:
            best = [max(a @ b for b in other[other.ne(0).any(-1)]) for a in one[one.ne(0).any(-1)]]
            row.append(torch.stack(best).mean())
        rows.append(torch.stack(row))
    return torch.stack(rows)


IMAGES = items([4, 4, 4], seed=1)
TEXTS = items([3, 1, 6, 2], seed=2, longest=8)


def test_both_directions_equal_the_loop() -> None:
    forth, back = token_similarities(IMAGES, TEXTS)
    torch.testing.assert_close(forth, slow(IMAGES, TEXTS))
    torch.testing.assert_close(back, slow(TEXTS, IMAGES))
    assert torch.equal(token_similarity(IMAGES, TEXTS), forth)
    torch.testing.assert_close(token_similarity(TEXTS, IMAGES), back)


def test_negative_maxima_are_not_hidden_by_padding() -> None:
    image = items([2], seed=3)
    text = F.pad(-image[:, :1], (0, 0, 0, 5))
    expected = -(1 + image[0, 0] @ image[0, 1]) / 2
    torch.testing.assert_close(token_similarity(image, text)[0, 0], expected)


def test_one_token_each_is_the_inner_product() -> None:
    one, other = items([1] * 4, seed=4), items([1] * 3, seed=5)
    forth, back = token_similarities(one, other)
    torch.testing.assert_close(forth, one[:, 0] @ other[:, 0].T)
    torch.testing.assert_close(back, forth.T)


def test_gradients_equal_the_loop_s() -> None:
    result, expected = ([item.clone().requires_grad_() for item in (IMAGES, TEXTS)] for _ in range(2))
    weights = torch.randn(3, 4, generator=torch.Generator().manual_seed(6))
    forth, back = token_similarities(*result)
    ((forth * weights).sum() + (back.T * weights**2).sum()).backward()
    ((slow(*expected) * weights).sum() + (slow(*reversed(expected)).T * weights**2).sum()).backward()
    for one, other in zip(result, expected, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(one.grad, other.grad)


def test_most_active_tokens_are_those_that_something_resembles() -> None:
    kept = most_active(TEXTS, IMAGES, keep=0.5)
    assert kept.shape == (4, 3, 5)
    assert present_tokens(kept).sum(1).tolist() == [2, 1, 3, 1]  # half of 3, 1, 6, 2, rounded up
    flat = IMAGES.flatten(0, 1)
    for text, chosen in zip(TEXTS, kept, strict=True):
        real = text[text.ne(0).any(-1)]
        activity = (real @ flat.T).amax(1)
        number = int(chosen.ne(0).any(-1).sum())
        best = activity.topk(number).indices.sort().values
        torch.testing.assert_close(chosen[:number], real[best])
    assert most_active(TEXTS, IMAGES, keep=1.0) is TEXTS


def test_batches_of_different_length_are_joined() -> None:
    joined = join_items([TEXTS[:2, :3], TEXTS[2:]])
    assert torch.equal(joined, TEXTS)
    assert torch.equal(join_items([TEXTS[:2, 0], TEXTS[2:, 0]]), TEXTS[:, 0])


def test_tokens_of_different_models_are_refused() -> None:
    with pytest.raises(E2FashionError, match=r"\(3, 4, 5\) and \(1, 2, 7\) have different widths"):
        token_similarity(IMAGES, items([2], width=7))
