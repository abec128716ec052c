"""The bfloat16 pass leaves every query its best rows; a search gives the same with it and without."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from e2fashion.tasks.search import exact
from e2fashion.tasks.search.exact import Gallery, nearest, prefilter, prefilter_pays


def drawn(items: int, dimension: int, spread: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries (20, C) and rows (N, C) around one direction: the smaller ``spread``, the denser."""
    generator = torch.Generator().manual_seed(seed)
    center = torch.randn(dimension, generator=generator)
    vectors = F.normalize(center + spread * torch.randn(20 + items, dimension, generator=generator), dim=-1)
    return vectors[:20], vectors[20:]


@settings(max_examples=40, deadline=None)
@given(
    items=st.integers(700, 3_000),
    kept=st.integers(1, 4),
    spread=st.sampled_from([0.05, 0.5, 3.0]),
    scale=st.sampled_from([1.0, -1.0, 7.0]),
    seed=st.integers(0, 10**6),
)
def test_no_best_row_is_lost(items: int, kept: int, spread: float, scale: float, seed: int) -> None:
    query, rows = drawn(items, 24, spread, seed)
    query = query * scale
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "PREFILTER_BYTES", 512 * 2 * len(query))
        found = prefilter(query, Gallery([rows]), kept)
    best = (query.double() @ rows.double().T).topk(kept, dim=1).indices
    left = set(zip(found.queries.tolist(), found.positions.tolist(), strict=True))
    decided = (~found.undecided).nonzero().flatten().tolist()
    assert {(number, row) for number in decided for row in best[number].tolist()} <= left
    assert {number for number, _ in left} == set(decided)


def test_a_spread_gallery_leaves_few_rows_and_no_query_undecided() -> None:
    query, rows = drawn(5_000, 64, 10.0, seed=1)
    found = prefilter(query, Gallery([rows]), 5)
    assert not found.undecided.any()
    assert len(found.queries) < 20 * 40


def test_a_dense_gallery_leaves_every_query_undecided() -> None:
    query, rows = drawn(20_000, 16, 1e-4, seed=2)
    found = prefilter(query, Gallery([rows]), 2)
    assert found.undecided.all()
    assert not len(found.queries)


@pytest.mark.parametrize("spread", [0.02, 1.0])
def test_a_search_gives_the_same_with_it_and_without(spread: float, monkeypatch: pytest.MonkeyPatch) -> None:
    query, rows = drawn(6_001, 32, spread, seed=3)
    rows[4_000:4_050] = rows[:50]  # equal scores
    tie = torch.randperm(len(rows), generator=torch.Generator().manual_seed(4))
    results = []
    for able in (False, True):
        monkeypatch.setattr(exact, "prefilter_pays", lambda *_, able=able: able)
        results.append(nearest(query, Gallery([rows.half()]), 5, tie))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_some_queries_may_be_dense_and_others_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "prefilter_pays", lambda *_: True)
    _, crowd = drawn(3_000, 32, 1e-4, seed=5)
    _, others = drawn(3_000, 32, 10.0, seed=6)
    rows = torch.cat([others, crowd])
    query = torch.cat([others[:15], crowd[:5]])
    found = prefilter(query, Gallery([rows]), 3)
    assert found.undecided.tolist() == 15 * [False] + 5 * [True]
    scores, rows_found = nearest(query, Gallery([rows]), 3)
    expected = (query.double() @ rows.double().T).topk(3, dim=1).values
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-12)
    assert rows_found[:15, 0].tolist() == list(range(15))


def test_it_pays_on_such_processors_alone_and_with_much_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert prefilter_pays(1_000, 200_000, 10)
    assert not prefilter_pays(1, 200_000, 10)
    assert not prefilter_pays(1_000, 1_000, 10)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert not prefilter_pays(1_000, 200_000, 10)
