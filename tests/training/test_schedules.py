import logging

import pytest

from e2fashion.training.schedules import cosine_with_warmup, linear_with_warmup


def test_warmup_rises_linearly_to_the_base_rate() -> None:
    multiplier = cosine_with_warmup(warmup_steps=4, total_steps=100)
    assert [multiplier(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


def test_cosine_is_half_way_down_in_the_middle_and_zero_at_the_end() -> None:
    multiplier = cosine_with_warmup(warmup_steps=0, total_steps=100)
    assert multiplier(50) == pytest.approx(0.5)
    assert multiplier(100) == pytest.approx(0.0)


def test_a_warmup_longer_than_the_run_is_cut_to_a_tenth_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    multiplier = cosine_with_warmup(warmup_steps=100, total_steps=20)
    assert multiplier(2) == pytest.approx(1.0)
    (line,) = caplog.messages
    assert line == "warm-up of 2 steps instead of train.warmup_steps=100: a tenth of the stage's 20 steps"


def test_a_warmup_that_fits_needs_no_word(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    cosine_with_warmup(warmup_steps=10, total_steps=100)
    cosine_with_warmup(warmup_steps=0, total_steps=5)
    assert not caplog.messages


def test_the_linear_schedule_rises_and_falls_in_straight_lines() -> None:
    multiplier = linear_with_warmup(warmup_steps=4, total_steps=100)
    assert [multiplier(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert multiplier(52) == pytest.approx(0.5)
    assert multiplier(100) == multiplier(200) == 0.0
