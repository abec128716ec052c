"""nDCG against trec_eval, ERR and RBP against their definitions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from e2fashion.metrics.graded import err_at, ndcg_at, rbp
from e2fashion.types import E2FashionError

GRADES = st.lists(st.integers(0, 3), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(ranked=GRADES, missed=st.lists(st.integers(0, 3), max_size=4), k=st.integers(1, 15))
def test_ndcg_equals_trec_eval(ranked: list[int], missed: list[int], k: int) -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval")
    judged = [*ranked, *missed]
    qrels = {"q": {f"d{number}": grade for number, grade in enumerate(judged)}}
    run = {"q": {f"d{number}": float(len(ranked) - number) for number in range(len(ranked))}}
    evaluated = pytrec_eval.RelevanceEvaluator(qrels, {f"ndcg_cut.{k}"}).evaluate(run)
    found = ndcg_at(torch.tensor([ranked]), torch.tensor([judged]), k)
    assert float(found) == pytest.approx(evaluated["q"][f"ndcg_cut_{k}"], abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(ranked=GRADES, k=st.integers(1, 15))
def test_err_is_the_expected_reciprocal_of_the_stop(ranked: list[int], k: int) -> None:
    expected, reached = 0.0, 1.0
    for position, grade in enumerate(ranked[:k], start=1):
        stop = (2**grade - 1) / 2**3
        expected += reached * stop / position
        reached *= 1 - stop
    assert float(err_at(torch.tensor([ranked]), k, highest=3)) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(ranked=GRADES, persistence=st.floats(0.05, 0.95), k=st.none() | st.integers(1, 15))
def test_rbp_is_the_expected_utility_of_what_is_read(ranked: list[int], persistence: float, k: int | None) -> None:
    expected = sum((1 - persistence) * persistence**place * grade / 3 for place, grade in enumerate(ranked[:k]))
    assert float(rbp(torch.tensor([ranked]), persistence, k, highest=3)) == pytest.approx(expected, abs=1e-12)


def test_queries_are_independent() -> None:
    relevance = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0]])
    together = ndcg_at(relevance, relevance, 2), err_at(relevance, 2), rbp(relevance, 0.8)
    for row in range(3):
        alone = relevance[row : row + 1]
        each = ndcg_at(alone, alone, 2), err_at(alone, 2), rbp(alone, 0.8)
        assert [float(value[row]) for value in together] == [float(value) for value in each]
    assert float(together[0][1]) == 0.0


def test_one_relevant_item_has_closed_forms() -> None:
    relevance = torch.zeros(1, 10)
    relevance[0, 3] = 1
    assert float(ndcg_at(relevance, torch.ones(1, 1), 10)) == pytest.approx(1 / torch.tensor(5.0).log2().item())
    assert float(err_at(relevance, 10)) == pytest.approx(0.5 / 4)
    assert float(rbp(relevance, 0.5)) == pytest.approx(0.5**4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rbp(torch.ones(1, 2), 1.0), "persistence is 1.0"),
        (lambda: err_at(torch.full((1, 2), 2.0), 5), r"grades from 2 to 2: .* to 1, the highest"),
        (lambda: ndcg_at(-torch.ones(1, 2), torch.ones(1, 2), 5), "grades from -1 to -1"),
        (lambda: ndcg_at(torch.ones(1, 2), torch.ones(1, 2), 0), "k is 0"),
    ],
)
def test_mistakes_are_named(call: object, message: str) -> None:
    with pytest.raises(E2FashionError, match=message):
        call()  # type: ignore[operator]
