"""Ranks against a loop over queries, ties, and memory that follows the chunk."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch
from forked import Forked
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from e2fashion.metrics import CrossModalRecall, ranking
from e2fashion.metrics.ranking import Comparison, TokenComparison, compare, ranks, ranks_among
from e2fashion.types import E2FashionError


def slow_ranks(query: Tensor, gallery: Tensor, query_ids: list[int], gallery_ids: list[int]) -> list[int]:
    """The definition, one comparison at a time."""
    result = []
    for q, row in zip(query_ids, query.tolist(), strict=True):
        scores = [sum(x * y for x, y in zip(row, item, strict=True)) for item in gallery.tolist()]
        best = max(score for score, g in zip(scores, gallery_ids, strict=True) if g == q)
        result.append(1 + sum(score >= best and g != q for score, g in zip(scores, gallery_ids, strict=True)))
    return result


def small_integers(*shape: int, seed: int) -> Tensor:
    """Embeddings whose inner products are exact in fp32, with many ties."""
    return torch.randint(-2, 3, shape, generator=torch.Generator().manual_seed(seed)).float()


@settings(max_examples=60)
@given(st.data())
def test_equals_the_loop_with_ties_and_several_positives(data: st.DataObject) -> None:
    gallery_ids = data.draw(st.lists(st.integers(-3, 4), min_size=1, max_size=12))
    query_ids = data.draw(st.lists(st.sampled_from(gallery_ids), min_size=1, max_size=12))
    seed = data.draw(st.integers(0, 999))
    query, gallery = small_integers(len(query_ids), 3, seed=seed), small_integers(len(gallery_ids), 3, seed=seed + 1)
    result = ranks(
        query, gallery, torch.tensor(query_ids), torch.tensor(gallery_ids), chunk=data.draw(st.integers(1, 13))
    )
    assert result.tolist() == slow_ranks(query, gallery, query_ids, gallery_ids)


@settings(max_examples=60)
@given(st.data())
def test_the_best_row_of_an_item_counts(data: st.DataObject) -> None:
    items = data.draw(st.integers(1, 6))
    item_of = torch.tensor(data.draw(st.permutations([*range(items), *data.draw(st.lists(st.integers(0, items - 1)))])))
    item_ids = data.draw(st.lists(st.integers(0, 3), min_size=items, max_size=items))
    query_ids = data.draw(st.lists(st.sampled_from(item_ids), min_size=1, max_size=9))
    query, gallery = small_integers(len(query_ids), 3, seed=items), small_integers(len(item_of), 3, seed=items + 1)
    expected = []
    for wanted, vector in zip(query_ids, query, strict=True):
        scores = [max(float(vector @ row) for row in gallery[item_of == item]) for item in range(items)]
        best = max(score for score, group in zip(scores, item_ids, strict=True) if group == wanted)
        rivals = [score for score, group in zip(scores, item_ids, strict=True) if group != wanted]
        expected.append(1 + sum(score >= best for score in rivals))
    found = ranks(query, gallery, torch.tensor(query_ids), torch.tensor(item_ids), item_of=item_of)
    assert found.tolist() == expected


@settings(max_examples=20)
@given(order=st.permutations(range(9)), columns=st.permutations(range(9)))
def test_does_not_depend_on_the_order(order: list[int], columns: list[int]) -> None:
    query, gallery, ids = small_integers(9, 4, seed=0), small_integers(9, 4, seed=1), torch.arange(9) // 2
    expected = ranks(query, gallery, ids, ids)
    assert torch.equal(ranks(query[order], gallery[columns], ids[order], ids[columns]), expected[order])


def test_rows_without_ids_are_their_own_positives() -> None:
    query, gallery = small_integers(30, 5, seed=2), small_integers(30, 5, seed=3)
    assert torch.equal(ranks(query, gallery), ranks(query, gallery, torch.arange(30), torch.arange(30)))


def test_equals_the_whole_matrix_on_real_numbers() -> None:
    generator = torch.Generator().manual_seed(0)
    query, gallery = (F.normalize(torch.randn(200, 16, generator=generator), dim=1) for _ in range(2))
    scores = query.double() @ gallery.double().T
    expected = (scores >= scores.diagonal()[:, None]).sum(1)
    assert torch.equal(ranks(query, gallery, chunk=7), expected)


def test_a_perfect_encoder_ranks_first() -> None:
    assert ranks(torch.eye(6), torch.eye(6)).tolist() == [1] * 6


def test_a_collapsed_encoder_ranks_last() -> None:
    same = torch.full((50, 4), 0.5)  # inner products that are exact whatever the order of summing
    assert ranks(same, same).tolist() == [50] * 50


def test_equal_texts_are_rivals_or_positives() -> None:
    image = torch.eye(4)
    text = torch.eye(4)[[0, 0, 2, 3]]
    assert ranks(image[:1], text, torch.tensor([0]), torch.tensor([0, 1, 2, 3])).tolist() == [2]
    assert ranks(image[:1], text, torch.tensor([0]), torch.tensor([0, 0, 2, 3])).tolist() == [1]


def test_low_precision_embeddings_are_ranked_in_fp32() -> None:
    query, gallery = torch.randn(40, 8).bfloat16(), torch.randn(40, 8).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = ranks(query, gallery)
    assert torch.equal(result, ranks(query.float(), gallery.float()))


def test_inputs_are_left_alone() -> None:
    query, gallery = torch.randn(9, 4), torch.randn(9, 4)
    before = query.clone(), gallery.clone()
    ranks(query, gallery)
    assert torch.equal(query, before[0])
    assert torch.equal(gallery, before[1])


def test_not_a_number_is_refused() -> None:
    broken = torch.randn(5, 3)
    broken[[2, 4], 1] = torch.nan
    with pytest.raises(E2FashionError, match="2 of 5 gallery embeddings are not finite, the first is row 2"):
        ranks(torch.randn(5, 3), broken)


def test_a_query_without_positive_is_refused() -> None:
    with pytest.raises(E2FashionError, match=r"1 of 2 queries have no positive .* row 1 with id 9"):
        ranks(torch.eye(2), torch.eye(2), torch.tensor([0, 9]), torch.tensor([0, 1]))


def test_other_sizes_need_ids() -> None:
    with pytest.raises(E2FashionError, match=r"2 queries and 3 gallery items .* give the ids of both"):
        ranks(torch.eye(3)[:2], torch.eye(3))


def test_an_empty_gallery_is_refused() -> None:
    with pytest.raises(E2FashionError, match="the gallery embeddings are empty"):
        ranks(torch.eye(2), torch.zeros(0, 2))


def print_growth() -> int:
    """Megabytes that ranking adds to the largest size of this process."""
    torch.set_num_threads(1)
    query, gallery = torch.randn(12_000, 4), torch.randn(12_000, 4)
    ranks(query[:64], gallery[:64])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ranks(query, gallery)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
    return 0


def test_memory_follows_the_chunk(tmp_path: Path) -> None:
    """12,000 x 12,000 scores are 576 MB; the default chunk keeps the process within 300 MB of where it was."""
    assert 0 < float(Forked(print_growth, folder=tmp_path).wait().out) < 300


@settings(max_examples=30)
@given(st.data())
def test_own_candidates_equal_the_loop(data: st.DataObject) -> None:
    items = data.draw(st.integers(1, 8))
    gallery = small_integers(items, 3, seed=data.draw(st.integers(0, 99)))
    lists = data.draw(
        st.lists(st.lists(st.integers(0, items - 1), min_size=1, max_size=items, unique=True), min_size=1, max_size=6)
    )
    query = small_integers(len(lists), 3, seed=7)
    padded = torch.full((len(lists), max(map(len, lists)) + 1), -1)
    for row, own in zip(padded, lists, strict=True):
        row[: len(own)] = torch.tensor(own)
    expected = [
        slow_ranks(query[q : q + 1], gallery[own], [0], list(range(len(own))))[0] for q, own in enumerate(lists)
    ]
    assert ranks_among(query, gallery, padded, chunk=2).tolist() == expected


def test_candidates_start_with_the_positive() -> None:
    with pytest.raises(E2FashionError, match="give every query a row that starts with its positive"):
        ranks_among(torch.eye(2), torch.eye(2), torch.tensor([[0, 1], [-1, 0]]))


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
    monkeypatch.setattr(ranking, "BLOCK_TOKENS", request.param)


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
    assert type(compared) is Comparison
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
