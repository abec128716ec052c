"""Records survive the disk, a crash in the middle of a line, and being measured twice; tasks declare what is theirs."""

from __future__ import annotations

import ast
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from e2fashion.records import (
    DECLARED_IN,
    MODEL,
    RecordContext,
    append_records,
    declare,
    interrupted_measurements,
    kind_of,
    latest_records,
    read_records,
    settings_of,
)
from e2fashion.types import E2FashionError, ResultRecord
from tests.faults import kills

ROOT = Path(__file__).resolve().parents[1]
RECORD = ResultRecord(run="r", model="E2 ±", task="retrieval", metric="R@1", value=12.5, low=1.0, extra={"a": [1]})
OTHER = replace(RECORD, metric="R@5", value=30.0)


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.jsonl"
    append_records(path, [RECORD])
    append_records(path, [OTHER])
    assert read_records(path) == [RECORD, OTHER]
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2


def test_the_later_of_two_equal_measurements_counts(tmp_path: Path) -> None:
    again = replace(RECORD, value=13.0, commit="later")
    append_records(tmp_path / "r.jsonl", [RECORD, OTHER, again])
    assert read_records(tmp_path / "r.jsonl") == [OTHER, again]
    assert read_records(tmp_path / "r.jsonl", latest=False) == [RECORD, OTHER, again]


@pytest.mark.parametrize("field", ["run", "model", "split", "protocol", "direction", "positives", "text"])
def test_another_measurement_is_kept(field: str) -> None:
    assert len(latest_records([RECORD, replace(RECORD, **{field: "other"})])) == 2


def test_a_cut_off_last_line_is_left_out_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    append_records(path, [RECORD, OTHER])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.warns(UserWarning, match=r"r\.jsonl line 2 is damaged and was skipped"):
        assert read_records(path) == [RECORD]


def test_a_line_cut_within_a_letter_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    append_records(path, [RECORD, RECORD])
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex("±".encode()) + 1])
    with pytest.warns(UserWarning, match="line 2 is damaged"):
        assert read_records(path) == [RECORD]


def test_appending_after_a_crash_keeps_the_new_record(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    append_records(path, [RECORD, RECORD])
    path.write_bytes(path.read_bytes()[:-20])
    append_records(path, [OTHER])
    with pytest.warns(UserWarning, match="line 2 is damaged"):
        assert read_records(path) == [RECORD, OTHER]


def test_a_kill_while_records_are_appended_leaves_all_of_them_or_none(tmp_path: Path) -> None:
    path, result = tmp_path / "r.jsonl", set()
    append_records(path, [RECORD])
    before = path.read_bytes()
    for _ in kills(lambda: append_records(path, [OTHER, OTHER])):
        result.add(len(read_records(path, latest=False)))
        append_records(path, [OTHER])
        assert [file.name for file in tmp_path.iterdir()] == ["r.jsonl"]
        path.write_bytes(before)
    assert result == {1, 3}


def test_records_that_several_processes_append_at_once_are_all_there(tmp_path: Path) -> None:
    children = []
    for number in range(4):
        if (child := os.fork()) == 0:
            for step in range(10):
                append_records(tmp_path / "r.jsonl", [replace(RECORD, value=10.0 * number + step)])
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert sorted(record.value for record in read_records(tmp_path / "r.jsonl", latest=False)) == list(range(40))


def test_a_whole_record_without_newline_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    append_records(path, [RECORD])
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    append_records(path, [OTHER])
    assert read_records(path) == [RECORD, OTHER]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_not_a_number_is_refused_and_nothing_written(tmp_path: Path, value: float) -> None:
    with pytest.raises(E2FashionError, match="only finite numbers can be stored"):
        append_records(tmp_path / "r.jsonl", [RECORD, replace(RECORD, value=value)])
    assert not (tmp_path / "r.jsonl").exists()


def test_an_unknown_field_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text(json.dumps({**RECORD.as_dict(), "colour": "red"}))
    with pytest.raises(E2FashionError, match=r"line 1 has the unknown field 'colour'"):
        read_records(tmp_path / "r.jsonl")


def test_a_lacking_field_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text('{"run": "r"}\n')
    with pytest.raises(E2FashionError, match="line 1 lacks the field 'metric'"):
        read_records(tmp_path / "r.jsonl")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", 3),
        ("value", "high"),
        ("split", ["test"]),
        ("extra", 1),
        ("seed", {}),
        ("value", math.inf),
        ("low", ""),
    ],
)
def test_a_field_of_another_type_is_refused(tmp_path: Path, name: str, value: object) -> None:
    line = json.dumps(RECORD.as_dict() | {name: value})
    (tmp_path / "r.jsonl").write_text(line + "\n", encoding="utf-8")
    with pytest.raises(E2FashionError, match=rf"line 1 is damaged \({name} is .*\)\. Remove the line"):
        read_records(tmp_path / "r.jsonl")


def test_a_line_that_is_nested_without_end_counts_as_cut_off(tmp_path: Path) -> None:
    append_records(tmp_path / "r.jsonl", [RECORD])
    with (tmp_path / "r.jsonl").open("a", encoding="utf-8") as stream:
        stream.write("[" * 100_000 + "\n")
    with pytest.warns(UserWarning, match="line 2 is damaged"):
        assert read_records(tmp_path / "r.jsonl") == [RECORD]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match="there are no records at .*none.jsonl"):  # noqa: RUF043
        read_records(tmp_path / "none.jsonl")


def test_what_a_crash_may_have_left_half_written_is_named_until_it_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    append_records(path, [replace(RECORD, split="val"), replace(RECORD, split="test"), RECORD])
    assert interrupted_measurements(path) == set()
    path.write_bytes(path.read_bytes()[:-20])
    assert interrupted_measurements(path) == {("test", RECORD.protocol)}
    append_records(path, [replace(RECORD, split="test")], drop_damaged=True)
    assert interrupted_measurements(path) == set()
    assert len(read_records(path, latest=False)) == 3


def test_a_changed_digit_is_noticed_and_its_neighbors_are_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    append_records(path, [replace(RECORD, split=split) for split in ("train", "val", "test", "test")])
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines[:1], lines[1].replace("12.5", "13.5"), *lines[2:]]), encoding="utf-8")
    with pytest.warns(UserWarning, match=r"r\.jsonl line 2 is damaged and was skipped: evaluate again"):
        assert [record.split for record in read_records(path, latest=False)] == ["train", "test", "test"]
    assert {split for split, _ in interrupted_measurements(path)} == {"train", "test"}


@pytest.mark.parametrize("task", DECLARED_IN)
def test_a_task_declares_what_identifies_its_records(task: str) -> None:
    kind = kind_of(task)
    assert kind.task == task
    context = RecordContext(run="r", model="m", split="test")
    extra = dict.fromkeys((*kind.identified_by, *kind.reports), "before")
    record = kind.record(context, "accuracy", 1, extra=extra)
    assert set(settings_of(record)) == set(kind.identified_by)
    for key in kind.identified_by:
        other = kind.record(context, "accuracy", 2, extra=extra | {key: "after"})
        assert latest_records([record, other]) == [record, other]
    for key in kind.reports:
        other = kind.record(context, "accuracy", 2, extra=extra | {key: "after"})
        assert latest_records([record, other]) == [other]


def test_a_key_that_the_task_does_not_declare_is_refused() -> None:
    with pytest.raises(
        E2FashionError, match=r"record of 'model' has the key 'layr' in extra, .* add it to identified_by"
    ):
        MODEL.record(RecordContext(run="r", model="m", split=""), "parameters", 1, extra={"layr": 1})


@pytest.mark.parametrize("task", ["model", "of another package"])
def test_a_stored_key_that_nobody_declares_identifies(task: str) -> None:
    records = [replace(RECORD, task=task, extra={"layer": layer}) for layer in (1, 2, [1], {"a": 1}, {"a": 2})]
    assert latest_records(records) == records


def test_a_key_that_is_none_is_absent() -> None:
    assert latest_records([RECORD, replace(RECORD, value=1.0, extra=RECORD.extra | {"draws": None})])[0].value == 1.0


def test_a_task_is_declared_once() -> None:
    with pytest.raises(E2FashionError, match="'model' is declared already, with other keys"):
        declare("model", identified_by=("size",))
    with pytest.raises(E2FashionError, match="'size' is in identified_by and in reports"):
        declare("another", identified_by=("size",), reports=("size",))


def test_committed_records_have_declared_keys() -> None:
    for file in sorted((ROOT / "docs" / "results").glob("*.jsonl")):
        for record in read_records(file):
            kind = kind_of(record.task)
            assert set(record.extra) <= {*kind.identified_by, *kind.reports}, file.name


def test_records_are_made_in_one_place() -> None:
    makers = {
        file.relative_to(ROOT).as_posix()
        for package in ("e2fashion", "experiments", "scripts")
        for file in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ResultRecord"
    }
    assert makers == {"e2fashion/records.py"}
