"""Ranks: the paired comparison of two models, their file, and recall by groups."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from e2fashion.disk import DamagedError
from e2fashion.disk.tensors import save_tensors
from e2fashion.records import RecordContext
from e2fashion.tasks.retrieval.rankings import (
    Ranking,
    bounded_groups,
    compare_rankings,
    frequency_groups,
    has_rankings,
    length_groups,
    load_rankings,
    pool_rankings,
    recall_by_group,
    save_rankings,
)
from e2fashion.types import E2FashionError

CONTEXT = RecordContext(run="run", model="E2", split="val")


def ranking(ranks: list[int]) -> Ranking:
    number = len(ranks)
    return Ranking("i2t", "product", torch.tensor(ranks), torch.arange(number), torch.full((number,), number))


def test_the_difference_is_in_percentage_points() -> None:
    ours, baseline = ranking([1] * 30 + [9] * 10), ranking([1] * 20 + [9] * 20)
    first, _, last = compare_rankings([ours], [baseline], CONTEXT, "full", "CLIP-FT", resamples=500)
    assert (first.metric, first.value) == ("R@1 - CLIP-FT", pytest.approx(25.0))
    assert first.extra["p_value"] < 0.05
    assert 0 < first.low < 25 < first.high
    assert (last.metric, last.value, last.extra["p_value"]) == ("R@10 - CLIP-FT", 0.0, 1.0)


def test_other_queries_are_refused() -> None:
    ours = ranking([1, 2, 3])
    other = replace(ours, product=torch.tensor([0, 1, 5]))
    with pytest.raises(E2FashionError, match="'E2' and 'CLIP-FT' were asked different queries"):
        compare_rankings([ours], [other], CONTEXT, "full", "CLIP-FT")


def test_sum_r_is_compared_where_both_directions_ask_about_the_same_products() -> None:
    ours = [ranking([1] * 30 + [9] * 10), replace(ranking([1] * 40), direction="t2i")]
    baseline = [ranking([1] * 20 + [9] * 20), replace(ranking([7] * 40), direction="t2i")]
    *_, last = compare_rankings(ours, baseline, CONTEXT, "full", "CLIP-FT", resamples=200)
    assert (last.metric, last.direction) == ("SumR - CLIP-FT", "both")
    assert last.value == pytest.approx(2 * 25 + 2 * 100)  # R@1 and R@5 of both directions
    assert last.extra["p_value"] == pytest.approx(1 / 200)


def test_seeds_are_pooled_and_their_mean_difference_is_kept() -> None:
    seeds = [ranking([1, 9, 9, 9]), ranking([1, 1, 1, 9])]
    (pooled,) = pool_rankings([[item] for item in seeds])
    assert (pooled.ranks.tolist(), pooled.product.tolist()) == ([1, 9, 9, 9, 1, 1, 1, 9], [0, 1, 2, 3] * 2)
    (baseline,) = pool_rankings([[ranking([9] * 4)]] * 2)
    first, *_ = compare_rankings([pooled], [baseline], CONTEXT, "full", "CLIP-FT", resamples=200)
    assert first.value == pytest.approx((25 + 75) / 2)


def test_damaged_or_missing_rankings_are_one_error(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match=r"none cannot be read .*evaluate again"):
        load_rankings(tmp_path / "none")
    save_rankings(tmp_path / "empty", [], ["p"])
    assert load_rankings(tmp_path / "empty") == ([], ["p"])
    save_tensors(tmp_path / "other", {"a/b/ranks": torch.ones(1)}, {"product_ids": "[]"})
    with pytest.raises(DamagedError, match="other is damaged"):
        load_rankings(tmp_path / "other")


def test_rankings_that_are_not_intact_are_measured_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "ranks"
    assert not has_rankings(file)
    assert not caplog.records
    save_rankings(file, [ranking([1, 2, 3])], ["p", "q", "r"])
    assert has_rankings(file)
    file.write_bytes(file.read_bytes().replace(b'\\"q', b'\\"x'))
    assert not has_rankings(file)
    assert "ranks is damaged: its content is not what was written. It is measured again." in caplog.text


def ranking_of(ranks: list[int], product: list[int] | None = None) -> Ranking:
    places = torch.tensor(product if product is not None else list(range(len(ranks))))
    return Ranking("i2t", "text", torch.tensor(ranks), places, torch.full((len(ranks),), 50))


def test_ranges_have_names() -> None:
    name = bounded_groups([0, 1, 10])
    assert [name(number) for number in (0, 1, 9, 10, 99)] == ["0", "1-9", "1-9", "10+", "10+"]
    assert bounded_groups([5])(3) == "<5"


def test_bounds_must_increase() -> None:
    with pytest.raises(E2FashionError, match=r"bounds are \[3, 1\]"):
        bounded_groups([3, 1])


def test_brands_by_what_training_saw() -> None:
    training = ["Nike"] * 10 + ["Puma", None]
    assert frequency_groups(training, ["Nike", "Puma", "Fila", None], (0, 1, 10)) == ["10+", "1-9", "0", "unknown"]


def test_texts_by_their_words() -> None:
    assert length_groups(["a b", "a b c d e f"], (0, 5)) == ["0-4", "5+"]


def test_recall_of_each_group_and_their_mean_is_the_whole() -> None:
    records = recall_by_group([ranking_of([1, 2, 1, 1])], {"brand": ["0", "0", "10+", "10+"]}, CONTEXT, "full")
    result = {record.extra["group"]: record for record in records}
    assert {group: record.value for group, record in result.items()} == {"0": 50.0, "10+": 100.0}
    assert [record.extra["group"] for record in records] == ["0", "10+"]
    assert sum(record.value * record.queries for record in records) / 4 == 75.0
    assert (result["10+"].low, result["10+"].high) == (100.0, 100.0)
    assert result["0"].low == 0.0


def test_pictures_of_one_product_are_one_unit() -> None:
    record = recall_by_group([ranking_of([1, 1, 5, 5], [0, 0, 1, 1])], {"all": ["a", "a"]}, CONTEXT, "full")[0]
    assert (record.value, record.queries) == (50.0, 4)
    assert (record.low, record.high) == (0.0, 100.0)


def test_a_division_must_know_every_product() -> None:
    with pytest.raises(E2FashionError, match="'brand' groups 1 products, the ranking has 2"):
        recall_by_group([ranking_of([1, 1])], {"brand": ["0"]}, CONTEXT, "full")
