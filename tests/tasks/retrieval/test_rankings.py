"""Paired comparison of two models' ranks, and their file."""

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
    compare_rankings,
    has_rankings,
    load_rankings,
    pool_rankings,
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
