"""Exact search gives what a loop over all rows gives."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from e2fashion.tasks.search import exact
from e2fashion.tasks.search.exact import nearest
from e2fashion.types import E2FashionError


def unit(*shape: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def by_hand(query: torch.Tensor, rows: torch.Tensor, top: int, tie: list[int]) -> list[list[int]]:
    """Sort all rows of every query in fp64: best score first, then the smaller tie."""
    scores = (query[:, None].double() * rows[None].double()).sum(-1).tolist()
    return [sorted(range(len(rows)), key=lambda row: (-each[row], tie[row]))[:top] for each in scores]


def in_bf16(patch: pytest.MonkeyPatch, coarse: bool = True) -> None:
    """Look for candidates in bfloat16, or not, whatever the processor."""
    patch.setattr(exact, "multiplies_bf16", lambda device: coarse)
    patch.setattr(exact, "QUERIES_OF_BF16", 1)


@settings(max_examples=60)
@given(
    items=st.integers(1, 300),
    distinct=st.integers(1, 300),
    top=st.integers(1, 40),
    seed=st.integers(0, 10**6),
    chunk_rows=st.sampled_from([64, 128, 2**15]),
    some=st.booleans(),
    coarse=st.booleans(),
)
def test_results_equal_a_loop_over_all_rows(
    items: int, distinct: int, top: int, seed: int, chunk_rows: int, some: bool, coarse: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    vectors = unit(distinct, 6, seed=seed)
    rows = vectors[torch.randint(distinct, (items,), generator=generator)]  # many equal ones: ties
    tie = torch.randperm(items, generator=generator)
    query = unit(3, 6, seed=seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "LEAST_ROWS", chunk_rows)
        patch.setattr(exact, "CHUNK_SCORES", 1)
        in_bf16(patch, coarse)
        chosen = (torch.rand(items, generator=generator) < 0.5).nonzero()[:, 0] if some else None
        scores, found = nearest(query, rows, top, tie, chosen)
    left = list(range(items)) if chosen is None else chosen.tolist()
    expected = by_hand(query, rows[left], top, tie[left].tolist())
    assert found.tolist() == [[left[row] for row in each] for each in expected]
    torch.testing.assert_close(scores, (query.double() @ rows.double().T).gather(1, found))


@settings(max_examples=30)
@given(
    spread=st.sampled_from([1e-4, 1e-3, 1e-2, 0.3]),
    length=st.sampled_from([1e-3, 1.0, 50.0]),
    most=st.sampled_from([0, 8, 256]),
    half=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_rows_that_bfloat16_cannot_tell_apart_are_ranked(
    spread: float, length: float, most: int, half: bool, seed: int
) -> None:
    rows = length * F.normalize(unit(1, 48, seed=seed) + spread * unit(1_500, 48, seed=seed + 1), dim=-1)
    rows = rows.half() if half else rows
    query = 3 * F.normalize(unit(1, 48, seed=seed) + 0.5 * unit(9, 48, seed=seed + 2), dim=-1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "LEAST_ROWS", 256)
        patch.setattr(exact, "CHUNK_SCORES", 1)
        patch.setattr(exact, "COARSE", most)
        patch.setattr(exact, "MOST_LENGTH", 50.0)
        in_bf16(patch)
        found = nearest(query, rows, 12)[1]
    assert found.tolist() == by_hand(query, rows, 12, list(range(len(rows))))


@given(seed=st.integers(0, 10**6), dimension=st.integers(1, 300), scale=st.sampled_from([1e-3, 1.0, 1e3]))
@settings(max_examples=40)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_row_of_the_best_is_below_the_bound(dtype: torch.dtype, seed: int, dimension: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    query = scale * torch.randn(8, dimension, generator=generator)
    rows = F.normalize(torch.randn(64, dimension, generator=generator), dim=-1)
    products = (rows.to(dtype) @ query.to(dtype).T).float()
    rounding = exact.Rounding.of(query, query.to(dtype))
    rounding.see(rows.to(dtype))
    best = (rows.double() @ query.double().T).argmax(0)
    bound = rounding.below(products.amax(0))
    assert (products[best, torch.arange(8)] >= bound).all()


@pytest.mark.parametrize("chunk_rows", [2_048, 5_120])
def test_blocks_of_large_chunks_lose_nothing(chunk_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "LEAST_ROWS", chunk_rows)
    monkeypatch.setattr(exact, "CHUNK_SCORES", 1)
    monkeypatch.setattr(exact, "QUERIES_AT_ONCE", 7)
    rows, query = unit(6_001, 16, seed=1), unit(20, 16, seed=2)
    expected = (query.double() @ rows.double().T).topk(5, dim=1).indices
    assert torch.equal(nearest(query, rows, 5)[1], expected)


def test_a_collapsed_encoder_gives_the_same_rows_each_time() -> None:
    rows = unit(1, 8, seed=0).expand(9_000, -1).contiguous()
    scores, found = nearest(rows[:1], rows, 3)
    assert torch.equal(nearest(rows[:1], rows, 3)[1], found)
    assert len(set(found[0].tolist())) == 3
    torch.testing.assert_close(scores, torch.ones(1, 3, dtype=torch.float64))
    tie = torch.arange(899, -1, -1)
    assert nearest(rows[:1], rows[:900], 3, tie)[1].tolist() == [[899, 898, 897]]


@pytest.mark.parametrize("coarse", [False, True])
def test_ties_of_many_queries_are_bounded(coarse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "MOST_PAIRS", 1)
    in_bf16(monkeypatch, coarse)
    rows = unit(1, 8, seed=0).expand(9_000, -1).contiguous()
    scores, found = nearest(rows[:5], rows, 3)
    assert all(len(set(each)) == 3 for each in found.tolist())
    torch.testing.assert_close(scores, torch.ones(5, 3, dtype=torch.float64))


def test_what_cannot_be_searched() -> None:
    gallery = unit(3, 4, seed=0)
    with pytest.raises(E2FashionError, match="top is 0; give a number of products from 1"):
        nearest(unit(1, 4, seed=1), gallery, 0)
    with pytest.raises(E2FashionError, match="1 of 1 queries are not finite"):
        nearest(torch.full((1, 4), torch.nan), gallery, 1)
    assert nearest(unit(2, 4, seed=1), gallery, 10)[1].shape == (2, 3)
