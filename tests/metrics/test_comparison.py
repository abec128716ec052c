"""Retrieval by tokens in blocks against a slow loop; ties; candidates; vectors as before."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from e2fashion.metrics import CrossModalRecall, comparison
from e2fashion.metrics.comparison import TokenComparison, VectorComparison, compare
from e2fashion.metrics.ranking import ranks, ranks_among
from e2fashion.types import E2FashionError


def tokens(number: int, length: int, seed: int, shortest: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    result = F.normalize(torch.randn(number, length, 6, generator=generator), dim=-1)
    lengths = torch.randint(shortest or length, length + 1, (number,), generator=generator)
    return result * (torch.arange(length) < lengths[:, None])[..., None]


def slow_scores(query: Tensor, gallery: Tensor) -> Tensor:
    scores = torch.empty(len(query), len(gallery))
    for i, one in enumerate(query):
        for j, other in enumerate(gallery):
            one_real, other_real = one[one.ne(0).any(-1)], other[other.ne(0).any(-1)]
            scores[i, j] = (one_real @ other_real.T).amax(1).mean()
    return scores


@pytest.fixture(params=[8, 40, 4096])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "BLOCK_TOKENS", request.param)


IMAGES, TEXTS = tokens(11, 4, seed=0), tokens(11, 7, seed=1, shortest=2)
SIDES = {"i2t": (IMAGES, TEXTS), "t2i": (TEXTS, IMAGES)}


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("direction", ["i2t", "t2i"])
def test_scores_and_ranks_equal_a_slow_loop(direction: str) -> None:
    compared = compare(IMAGES, TEXTS)
    expected = slow_scores(*SIDES[direction])
    assert isinstance(compared, TokenComparison)
    torch.testing.assert_close(compared.matrices[direction], expected)
    torch.testing.assert_close(torch.stack([compared.scores(direction, row) for row in range(11)]), expected)
    assert torch.equal(compared.ranks(direction), (expected >= expected.diagonal()[:, None]).sum(1))
    ids = torch.arange(11) // 2
    best = expected.masked_fill(ids[:, None] != ids, -torch.inf).amax(1, keepdim=True)
    rivals = (expected >= best) & (ids[:, None] != ids)
    assert torch.equal(compared.ranks(direction, ids, ids), 1 + rivals.sum(1))


@pytest.mark.parametrize("direction", ["i2t", "t2i"])
def test_ranks_among_candidates_equal_the_loop(direction: str) -> None:
    candidates = torch.tensor([[3, 1, 5, -1], [0, 2, 4, 10]])
    queries = torch.tensor([3, 0])
    expected = slow_scores(*SIDES[direction])[queries].gather(1, candidates.clamp(min=0))
    expected[candidates < 0] = -torch.inf
    result = compare(IMAGES, TEXTS).ranks_among(direction, queries, candidates)
    assert torch.equal(result, (expected >= expected[:, :1]).sum(1))


@pytest.mark.usefixtures("block")
def test_equal_items_tie_to_the_bit_and_count_against_the_model() -> None:
    images, texts = tokens(23, 5, seed=2), tokens(23, 6, seed=3, shortest=3)
    texts[:] = texts[0].clone()
    compared = compare(images, texts)
    assert compared.ranks("i2t").tolist() == [23] * 23
    everybody = torch.arange(23).expand(23, 23)
    assert compared.ranks_among("i2t", torch.arange(23), everybody).tolist() == [23] * 23
    images[:] = images[0].clone()
    assert compare(images, texts).ranks("t2i").tolist() == [23] * 23


def test_vectors_are_ranked_as_before() -> None:
    image, text = IMAGES[:, 0], TEXTS[:, 0]
    compared = compare(image, text)
    assert isinstance(compared, VectorComparison)
    assert torch.equal(compared.ranks("t2i"), ranks(text, image))
    lists = torch.tensor([[2, 1], [0, 4]])
    assert torch.equal(compared.ranks_among("i2t", lists[:, 0], lists), ranks_among(image[lists[:, 0]], text, lists))
    assert torch.equal(compared.scores("t2i", 3), image @ text[3])


def test_the_metric_takes_tokens_in_batches() -> None:
    metric = CrossModalRecall()
    for rows in (slice(0, 4), slice(4, 11)):
        metric.update(IMAGES[rows], TEXTS[rows], torch.arange(11)[rows])
    result = compare(IMAGES, TEXTS).ranks("i2t")
    assert float(metric.compute()["i2t/R@1"]) == pytest.approx(100 * float((result == 1).double().mean()))


def test_tokens_against_vectors_are_refused() -> None:
    with pytest.raises(E2FashionError, match=r"\(11, 4, 6\) cannot be compared with texts of shape \(11, 6\)"):
        compare(IMAGES, TEXTS[:, 0])


def test_tokens_that_are_not_finite_are_named() -> None:
    broken = IMAGES.clone()
    broken[3, 1, 2] = torch.nan
    with pytest.raises(E2FashionError, match="1 of 11 query embeddings are not finite, the first is row 3"):
        compare(broken, TEXTS)
