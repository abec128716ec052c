"""Resampling: seeded, unbiased, and by product."""

from __future__ import annotations

import pytest
import torch

from e2fashion.metrics.bootstrap import bootstrap, interval, paired_bootstrap, resample_weights, weighted_means


def test_every_resample_draws_as_many_as_there_are() -> None:
    blocks = list(resample_weights(units=7, resamples=120))
    assert [len(block) for block in blocks] == [50, 50, 20]
    assert all(bool((block.sum(1) == 7).all()) for block in blocks)


def test_the_seed_decides() -> None:
    first, again, other = (torch.cat(list(resample_weights(9, 10, seed))) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    hits = (torch.arange(400) < 120).double()[:, None]
    drawn = bootstrap(weighted_means(hits, torch.arange(400), 400), 400, resamples=4000)
    low, high = interval(drawn)
    error = (0.3 * 0.7 / 400) ** 0.5
    assert float(low) == pytest.approx(0.3 - 1.96 * error, abs=0.005)
    assert float(high) == pytest.approx(0.3 + 1.96 * error, abs=0.005)


def test_means_equal_a_loop_over_drawn_products() -> None:
    unit = torch.tensor([0, 0, 1, 2, 2, 2])
    values = torch.randn(6, 2).double()
    for weights in torch.cat(list(resample_weights(3, 5))):
        drawn = [
            values[q]
            for product in range(3)
            for _ in range(int(weights[product]))
            for q in (unit == product).nonzero()[:, 0]
        ]
        assert torch.allclose(weighted_means(values, unit, 3)(weights[None])[0], torch.stack(drawn).mean(0))


def test_repeated_views_do_not_make_the_interval_narrower() -> None:
    hits = (torch.arange(100) % 2).double()[:, None]
    once = interval(bootstrap(weighted_means(hits, torch.arange(100), 100), 100))
    views = torch.arange(100).repeat_interleave(10)
    often = interval(bootstrap(weighted_means(hits.repeat_interleave(10, 0), views, 100), 100))
    assert torch.allclose(torch.stack(once), torch.stack(often))


def test_a_clear_difference_is_significant() -> None:
    a, b = torch.ones(200), (torch.arange(200) % 4 > 0).float()
    result = paired_bootstrap(a, b, resamples=2000)
    assert result.value == pytest.approx(0.25)
    assert result.low > 0.15
    assert result.p_value == pytest.approx(1 / 2000)


def test_the_same_model_does_not_differ_from_itself() -> None:
    hits = (torch.arange(50) % 3 == 0).float()
    result = paired_bootstrap(hits, hits, resamples=100)
    assert (result.value, result.low, result.high, result.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_a_coin_is_not_significant() -> None:
    a, b = (torch.rand(300, generator=torch.Generator().manual_seed(seed)).round() for seed in (0, 1))
    assert paired_bootstrap(a, b, resamples=1000).p_value > 0.05


def test_swapping_the_models_mirrors_the_difference() -> None:
    a, b = torch.rand(40), torch.rand(40)
    there, back = paired_bootstrap(a, b, resamples=500), paired_bootstrap(b, a, resamples=500)
    assert (there.value, there.low) == (pytest.approx(-back.value), pytest.approx(-back.high))


def test_unpaired_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="are not paired"):
        paired_bootstrap(torch.ones(3), torch.ones(4))
