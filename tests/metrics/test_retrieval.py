"""Recall and its companions on hand-made ranks, their intervals, and the torchmetrics class."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from e2fashion.metrics import CrossModalRecall, mean_reciprocal_rank, median_rank, ranks, recall_at, summarize
from e2fashion.metrics.retrieval import err_at, ndcg_at, rbp
from e2fashion.types import E2FashionError

RANKS = torch.tensor([1, 2, 5, 6, 10, 11, 100])


@pytest.mark.parametrize(("k", "hits"), [(1, 1), (5, 3), (10, 5), (100, 7)])
def test_recall_is_the_share_of_hits_in_percent(k: int, hits: int) -> None:
    assert float(recall_at(RANKS, k)) == pytest.approx(100 * hits / 7)


def test_median_and_reciprocal_rank() -> None:
    assert int(median_rank(RANKS)) == 6
    assert float(mean_reciprocal_rank(torch.tensor([1, 2, 4]))) == pytest.approx((1 + 0.5 + 0.25) / 3)


def test_sum_r_adds_both_directions() -> None:
    result = summarize({"i2t": RANKS, "t2i": torch.ones(7, dtype=torch.int64)})
    assert result["SumR"].value == pytest.approx(100 * (1 + 3 + 5) / 7 + 300)


def test_names_are_those_of_the_records() -> None:
    names = [
        f"{direction}/{metric}"
        for direction in ("i2t", "t2i")
        for metric in ("R@1", "R@5", "R@10", "median_rank", "MRR")
    ]
    assert list(summarize({"i2t": RANKS, "t2i": RANKS})) == [*names, "SumR"]


def test_intervals_enclose_their_values_and_repeat() -> None:
    result = {"i2t": torch.randint(1, 30, (200,)), "t2i": torch.randint(1, 30, (200,))}
    first = summarize(result, resamples=300, seed=4)
    assert all(item.low <= item.value <= item.high for item in first.values())
    assert first == summarize(result, resamples=300, seed=4)


def test_intervals_equal_resampling_the_ranks() -> None:
    """The medians and sums of drawn products, one resample at a time."""
    from e2fashion.metrics.bootstrap import interval, resample_weights

    result = {"i2t": torch.tensor([1, 7, 3, 12, 2]), "t2i": torch.tensor([4, 1, 1, 20, 6])}
    drawn = []
    for weights in torch.cat(list(resample_weights(5, 40, seed=3))):
        again = {name: item.repeat_interleave(weights.long()) for name, item in result.items()}
        drawn.append([item.value for item in summarize(again).values()])
    low, high = interval(torch.tensor(drawn, dtype=torch.float64))
    estimates = summarize(result, resamples=40, seed=3).values()
    assert torch.allclose(torch.tensor([item.low for item in estimates]).double(), low, atol=1e-5)
    assert torch.allclose(torch.tensor([item.high for item in estimates]).double(), high, atol=1e-5)


def test_directions_with_other_numbers_of_queries_share_products() -> None:
    result = {"i2t": torch.tensor([1, 2, 3, 1]), "t2i": torch.tensor([1, 4])}
    unit = {"i2t": torch.tensor([8, 8, 5, 5]), "t2i": torch.tensor([5, 8])}
    assert summarize(result, unit, resamples=50)["SumR"].high <= 600


def pairs(number: int = 40) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(number, 8, generator=generator)
    text = image + torch.randn(number, 8, generator=generator)
    return F.normalize(image, dim=1), F.normalize(text, dim=1)


def test_the_metric_equals_the_functions_over_several_updates() -> None:
    image, text = pairs()
    metric = CrossModalRecall()
    for rows in torch.arange(40).split(13):
        metric.update(image[rows], text[rows], rows)
    expected = summarize({"i2t": ranks(image, text), "t2i": ranks(text, image)})
    assert {name: float(value) for name, value in metric.compute().items()} == pytest.approx(
        {name: item.value for name, item in expected.items()}
    )


def test_equal_text_is_a_hit_when_ids_are_groups() -> None:
    image, text = torch.eye(4), torch.eye(4)[[0, 0, 2, 3]]
    by_product, by_text = CrossModalRecall(), CrossModalRecall()
    by_product.update(image, text, torch.arange(4))
    by_text.update(image, text, torch.tensor([0, 0, 2, 3]))
    assert float(by_product.compute()["i2t/R@1"]) == 50.0
    assert float(by_text.compute()["t2i/R@1"]) == 100.0


def test_a_collapsed_encoder_finds_nothing() -> None:
    metric = CrossModalRecall()
    same = F.normalize(torch.ones(30, 4), dim=1)
    metric.update(same, same, torch.arange(30))
    assert float(metric.compute()["SumR"]) == 0.0


def test_several_views_and_intervals() -> None:
    image, text = pairs(20)
    metric = CrossModalRecall(resamples=50)
    metric.update(image.repeat_interleave(2, 0), text, torch.arange(20).repeat_interleave(2), torch.arange(20))
    result = metric.compute()
    assert result["i2t/R@1/low"] <= result["i2t/R@1"] <= result["i2t/R@1/high"]


def test_reset_forgets() -> None:
    metric = CrossModalRecall()
    metric.update(torch.eye(3), torch.eye(3)[[1, 2, 0]], torch.arange(3))
    metric.reset()
    metric.update(torch.eye(3), torch.eye(3), torch.arange(3))
    assert float(metric.compute()["SumR"]) == 600.0


GRADES = st.lists(st.integers(0, 3), min_size=1, max_size=12)


@settings(max_examples=60)
@given(ranked=GRADES, missed=st.lists(st.integers(0, 3), max_size=4), k=st.integers(1, 15))
def test_ndcg_equals_trec_eval(ranked: list[int], missed: list[int], k: int) -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval")
    judged = [*ranked, *missed]
    qrels = {"q": {f"d{number}": grade for number, grade in enumerate(judged)}}
    run = {"q": {f"d{number}": float(len(ranked) - number) for number in range(len(ranked))}}
    evaluated = pytrec_eval.RelevanceEvaluator(qrels, {f"ndcg_cut.{k}"}).evaluate(run)
    found = ndcg_at(torch.tensor([ranked]), torch.tensor([judged]), k)
    assert float(found) == pytest.approx(evaluated["q"][f"ndcg_cut_{k}"], abs=1e-6)


@settings(max_examples=60)
@given(ranked=GRADES, k=st.integers(1, 15))
def test_err_is_the_expected_reciprocal_of_the_stop(ranked: list[int], k: int) -> None:
    expected, reached = 0.0, 1.0
    for position, grade in enumerate(ranked[:k], start=1):
        stop = (2**grade - 1) / 2**3
        expected += reached * stop / position
        reached *= 1 - stop
    assert float(err_at(torch.tensor([ranked]), k, highest=3)) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=60)
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
