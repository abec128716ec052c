"""The start-up benchmark measures each command once a turn and compares its median with the bound."""

from pathlib import Path

import pytest

from scripts.bench import start_up
from scripts.bench.__main__ import BENCHMARKS
from scripts.bench.workplace import Workplace


def test_a_command_takes_processor_time() -> None:
    assert 0 < start_up.cpu_seconds(["--version"]) < 60


def test_the_median_of_every_command_is_compared_with_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.1, 0.2, 0.3, 0.4, 5.0] * 3)
    monkeypatch.setattr(start_up, "cpu_seconds", lambda arguments: next(times))
    workplace = Workplace(tmp_path)
    workplace.turns = 3
    results = BENCHMARKS["start_up"](workplace)
    assert [result.passed for result in results] == [True, True, True, True, False]
    assert results[-1].measured == "5.00 s (5.00 to 5.00)"
