import math
import os
import re
from pathlib import Path

import pandas as pd
import pytest

from e2fashion.types import E2FashionError
from scripts.bench import __main__ as bench
from scripts.bench import start_up
from scripts.bench.harness import (
    LARGE_PIXELS,
    MARKS,
    Context,
    Result,
    Timing,
    compare,
    in_fresh_process,
    interleave,
    keep,
    machine,
    table,
    threads,
)
from scripts.bench.ranking import measure_ranks


def test_variants_run_in_turns_and_the_warmup_is_not_counted() -> None:
    order: list[str] = []
    timing = interleave({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, turns=2, warmup=1)
    assert order == ["a", "b"] * 3
    assert [len(seconds) for seconds in timing.seconds.values()] == [2, 2]


def test_ratio_is_the_median_over_turns() -> None:
    timing = Timing({"slow": [4.0, 30.0, 9.0], "fast": [2.0, 3.0, 3.0]})
    assert timing.ratio("slow", "fast") == 3.0
    assert timing.median("slow") == 9.0
    assert timing.spread("slow", "fast") == "2.00 to 10.00"


def test_a_ratio_is_compared_with_its_target() -> None:
    timing = Timing({"slow": [4.0, 30.0, 9.0], "fast": [2.0, 3.0, 3.0]})
    pair = ("slow", "fast")
    met = compare("a", "x", timing, pair, "how", at_least=2.5)
    assert met == Result("a", "x", "at least 2.5 x", "3.00 x (2.00 to 10.00)", True, "how")
    share = compare("a", "x", timing, pair, "", at_most=0.9, percent=True)
    assert (share.target, share.measured, share.passed) == ("at most 90%", "300.0% (2.00 to 10.00)", False)
    assert compare("a", "x", timing, pair, "").passed is None
    second = met.also(", within 1 level", "at most 2 levels", False)
    assert (second.target, second.passed) == ("at least 2.5 x, within 1 level", False)
    assert second.measured == "3.00 x (2.00 to 10.00), at most 2 levels"


def test_memory_is_measured_in_a_fresh_process() -> None:
    assert in_fresh_process(os.getpid) != os.getpid()  # type: ignore[arg-type]
    assert in_fresh_process(math.gcd, 12, 18) == 6  # type: ignore[arg-type]
    assert set(measure_ranks(10, 50)) == {"extra_mb", "seconds"}


def test_a_command_takes_processor_time() -> None:
    assert 0 < start_up.cpu_seconds(["--version"]) < 60


def test_the_median_of_every_command_is_compared_with_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.1, 0.2, 0.3, 0.4, 5.0] * 3)
    monkeypatch.setattr(start_up, "cpu_seconds", lambda arguments: next(times))
    results = bench.BENCHMARKS["start_up"](Context(tmp_path, turns=3))
    assert [result.passed for result in results] == [True, True, True, True, False]
    assert results[-1].measured == "5.00 s (5.00 to 5.00)"


def test_threads_are_given_back() -> None:
    import torch

    before = torch.get_num_threads()
    with threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_table_shows_pass_miss_and_no_target() -> None:
    text = table([Result("a", "x", "at least 2 x", "3 x", True), Result("b", "y", "2", "1", False, "how")])
    text += table([Result("c", "z", "-", "1")])
    assert "| a | x | at least 2 x | 3 x | pass |" in text
    assert "| b | y | 2 | 1 | **miss** |" in text
    assert "- b, y: how" in text
    assert "| c | z | - | 1 |  |" in text


def test_machine_names_versions_and_threads() -> None:
    assert re.search(r"\d+ threads of \d+ cores.*torch \d", machine())


def test_a_kept_table_leaves_the_prose_around_it(tmp_path: Path) -> None:
    file = tmp_path / "performance.md"
    keep("new", file)
    assert file.read_text(encoding="utf-8") == "new"
    file.write_text(f"above\n{MARKS[0]}\nold\n{MARKS[1]}\nbelow\n", encoding="utf-8")
    keep("new\n", file)
    assert file.read_text(encoding="utf-8") == f"above\n{MARKS[0]}\nnew\n{MARKS[1]}\nbelow\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trainng"], "no benchmark 'trainng'. Benchmarks: training_step"),
        (["speed=1"], "no option 'speed'. Options: output"),
        (["turns=0"], "turns=0: give a whole number above 0"),
    ],
)
def test_wrong_arguments_are_named(arguments: list[str], message: str) -> None:
    with pytest.raises(E2FashionError, match=re.escape(message)):
        bench.parse(arguments)


def test_named_benchmarks_run_and_their_table_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    turns: list[int] = []

    def fake(context: Context) -> list[Result]:
        turns.append(context.turns)
        return [Result("fake", "claim", "1", "2", False)]

    monkeypatch.setitem(bench.BENCHMARKS, "ranking", fake)
    assert bench.main(["ranking", "turns=3", f"output={tmp_path / 'table.md'}"]) == 1
    assert turns == [3]
    assert "| fake | claim | 1 | 2 | **miss** |" in (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "**miss**" in capsys.readouterr().out


def test_an_unknown_name_is_reported_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["nothing"]) == 2
    assert capsys.readouterr().err.startswith("error: There is no benchmark 'nothing'")


def test_a_data_folder_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2FASHION_DATA", str(tmp_path / "gone"))
    with pytest.raises(E2FashionError, match="not a folder"):
        Context(tmp_path)


@pytest.mark.real_data
def test_excerpts_of_real_products(real_data: Path, tmp_path: Path) -> None:
    context = Context(tmp_path, data=real_data)
    assert sum(counts["products"] for counts in context.products(60).catalogue.manifest.splits.values()) == 60
    large = context.large_images(5)
    listed = pd.read_csv(tmp_path / "large-5-source" / "metadata.csv", dtype=str)
    assert len(listed) == 5
    from e2fashion.data.decode import decode_image

    row = large.catalogue.split(large.catalogue.split_names[0])[0]
    assert decode_image(row["image"]).shape == (3, LARGE_PIXELS, LARGE_PIXELS)
