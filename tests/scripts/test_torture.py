"""The quick part of ``make torture`` finds nothing, and its tools would find what they are for."""

import os
import random
import subprocess
from pathlib import Path

import pytest
from forked import Forked

from scripts.torture.__main__ import main as torture
from scripts.torture.child import RAISED, Child, run_in_child
from scripts.torture.fuzz import Reader, fuzz
from scripts.torture.mutations import mutate
from scripts.torture.operations import Operations, Strike
from scripts.torture.report import Session
from scripts.torture.snapshot import compare, snapshot
from scripts.torture.trials import Figures, spread


def test_the_quick_part_loses_nothing_and_every_damaged_file_is_explained(tmp_path: Path) -> None:
    # A process of its own: one that has trained may not fork.
    ended = Forked(torture, ["small", f"output={tmp_path}"], folder=tmp_path).wait()
    assert ended.code == 0, ended.out[-3000:] + ended.error[-3000:]
    figures = (tmp_path / "figures.md").read_text(encoding="utf-8")
    assert "| prepare overwrite=true | 6 | 0 | 0 | 0 | 0 | 0 | 0 |" in figures
    assert "| **all** | 280 |" in figures


def write_in_steps(folder: Path) -> None:
    """Seven operations: a folder, two files, a rename, an append, a removal of a file and of the folder."""
    (folder / "inner").mkdir()
    (folder / "inner" / "a").write_text("0123456789")
    (folder / "inner" / "a").rename(folder / "b")
    with (folder / "b").open("a") as stream:
        stream.write("abcdefghij")
    (folder / "c").write_text("c")
    (folder / "c").unlink()
    (folder / "inner").rmdir()


@pytest.mark.parametrize(
    ("strike", "at", "left"),
    [
        ("kill", 0, {}),
        ("kill", 2, {"inner/a": 10}),
        ("torn", 2, {"inner/a": 5}),
        ("kill", 4, {"b": 20}),
        ("torn", 4, {"b": 15}),
        ("full", 1, {}),
        ("read_only", 2, {"inner/a": 10}),
        ("kill", 99, {"b": 20}),
    ],
)
def test_a_process_is_struck_before_its_nth_operation(
    tmp_path: Path, strike: Strike, at: int, left: dict[str, int]
) -> None:
    (tmp_path / "elsewhere").write_text("not counted")
    place = tmp_path / "place"
    place.mkdir()

    def action() -> int:
        operations = Operations(place, at, strike)
        (tmp_path / "elsewhere").write_text("not counted")
        write_in_steps(place)
        return operations.count

    ended = run_in_child(action, place)
    expected = 7 if at == 99 else RAISED if strike in ("full", "read_only") else None
    assert ended.code == expected
    assert {str(file.relative_to(place)): file.stat().st_size for file in place.rglob("*") if file.is_file()} == left


def test_a_child_that_stops_itself_goes_on(tmp_path: Path) -> None:
    def action() -> int:
        Operations(tmp_path, 2, "stop")
        write_in_steps(tmp_path)
        return 5

    child = Child(action, tmp_path)
    assert child.until_stopped()
    assert (tmp_path / "inner" / "a").exists()
    child.resume()
    assert child.wait().code == 5
    assert (tmp_path / "b").exists()


def test_processes_that_outlive_a_killed_one_are_counted_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.torture.child.ORPHAN_SECONDS", 0.1)

    def action() -> int:
        subprocess.Popen(["sleep", "60"])
        os.kill(os.getpid(), 9)
        return 0

    assert run_in_child(action, tmp_path).orphans == 1


def test_snapshots_leave_out_times_and_name_what_differs(tmp_path: Path) -> None:
    for name, seconds, value in (("one", 1.0, 1), ("two", 2.0, 1), ("three", 2.0, 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "record.json").write_text(f'{{"seconds": {seconds}, "value": {value}}}')
    (tmp_path / "three" / ".partial").write_text("")
    one, two, three = (snapshot(tmp_path / name) for name in ("one", "two", "three"))
    assert compare(two, one) == ([], [])
    assert compare(three, one) == (["record.json"], [".partial"])


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".yaml", ".csv", ".safetensors", ".png", ".txt"])
def test_a_mutation_is_the_same_for_the_same_seed(ending: str) -> None:
    data = b'{"a": [1, 2], "b": "c"}\n'
    made = [mutate(data, Path(f"x{ending}"), [b"other"], random.Random(seed)) for seed in (*range(50), *range(50))]
    assert made[:50] == made[50:]
    assert len(set(made)) > 25


@pytest.mark.parametrize(
    ("code", "counted"),
    [
        ("raise ValueError", "unexplained"),
        ("raise E2FashionError('because')", "explained"),
        ("pass", "read"),
        ("os.abort()", "unexplained"),
        ("bytearray(2 << 30)", "unexplained"),
        ("time.sleep(60)", "hangs"),
    ],
)
def test_what_becomes_of_an_input_is_counted(
    tmp_path: Path, code: str, counted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.torture.fuzz.PATIENCE", 0.5 if counted == "hangs" else 30.0)
    (tmp_path / "intact").mkdir()
    (tmp_path / "intact" / "file.json").write_text("{}")

    def read(place: Path, damaged: Path) -> None:
        if place.name == "intact":
            return
        exec(f"import os, time\nfrom e2fashion.types import E2FashionError\n{code}", {})

    figures = fuzz(Reader("reader", tmp_path / "intact", ("*",), read), 3, 0, tmp_path / "out")
    assert figures.inputs == 3
    assert getattr(figures, counted) == 3
    assert figures.clean == (counted in ("read", "explained"))
    session = Session({}, [figures])
    assert (session.faults() == "") == figures.clean


def test_kills_are_spread_over_all_operations() -> None:
    assert [number for number, _ in spread(5, None, 0)] == list(range(5))
    numbers = [number for number, _ in spread(100, 10, 0)]
    assert [number // 10 for number in numbers] == list(range(10))
    assert Figures("a").clean
