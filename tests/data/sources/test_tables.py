from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from raw_products import write_csv

from e2fashion.data.sources.base import SourceProblem
from e2fashion.data.sources.tables import DelimitedTable, as_text, open_table, require_columns
from e2fashion.types import E2FashionError


def rows_of(file: Path, **options: Any) -> list[Any]:
    table = open_table(file, **options)
    return list(table.rows(table.columns))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_read_from_the_header(delimiter: str, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "t.csv", ["id", "name"], [["1", "a,b;c"]], delimiter=delimiter)
    assert rows_of(file) == [("t.csv line 2", {"id": "1", "name": "a,b;c"})]


def test_lines_are_counted_in_the_file_not_in_records(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "t.csv", ["id", "name"], [["1", "two\nlines"], ["2", "b"]])
    assert [where for where, _ in rows_of(file)] == ["t.csv line 2", "t.csv line 4"]
    assert len(open_table(file)) == 2


def test_a_byte_order_mark_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("\ufeffid,name\r\n\r\n1,a\r\n", encoding="utf-8")
    assert rows_of(file) == [("t.csv line 3", {"id": "1", "name": "a"})]


def test_wrong_number_of_fields(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "t.csv", ["id", "name"], [["1", "a", "b"], ["2", "c"]])
    problem, (where, _) = rows_of(file)
    assert problem == SourceProblem(
        "t.csv line 2",
        "1",
        "name",
        "3 fields where the header has 2",
        "quote fields that contain ',', or complete the row",
        "wrong number of fields",
    )
    assert where == "t.csv line 3"


def test_surplus_fields_go_back_to_an_unquoted_last_column(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text('id,name\n1,a, b,c\n2,"d, e"\n')
    assert [values["name"] for _, values in DelimitedTable(file, join_last=True).rows(["name"])] == ["a, b,c", "d, e"]


def test_latin_1_is_read_when_it_is_named(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "t.csv", ["id", "name"], [["1", "Café"]], encoding="latin-1")
    assert rows_of(file, encoding="latin-1")[0][1]["name"] == "Café"


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("id,name\n1,a\n".encode("utf-16"), {}, r"begins with the mark of UTF-16.*encoding=utf-16"),
        (b"id,name\n1,a\n", {"encoding": "utf-9"}, r"encoding='utf-9' is unknown to Python"),
        (b"id\n1\n2", {"encoding": "utf-16"}, r"is not written in encoding 'utf-16'"),
        (b"", {}, r"t.csv is empty: its first line must name the columns"),
        (b"id,id\n", {}, r"has two columns 'id'"),
        (b"id,name\n", {"delimiter": "::"}, r"delimiter='::' must be a single character"),
        (b"id,name\n", {"delimiter": '"'}, r"must be a single character, and no quotation mark"),
        (b'id,"name\n1,a\n', {}, r"t.csv line 1: a quotation mark that is never closed.*Correct the header"),
        ("id,name\n1,a\n".encode("utf-16-le"), {}, r"column name 'i.x00d.x00' holds control characters.*utf-16"),
        (b"id,name\n1," + b"x" * (1 << 24), {}, r"t.csv line 2 is longer than 16,777,216 characters"),
    ],
)
def test_files_that_are_no_tables(content: bytes, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(E2FashionError, match=message):
        rows_of(tmp_path / "t.csv", **options)


def test_json_lines(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"id": 1, "name": "a"}\n\n{"id": 2}\nnot json\n[1]\n')
    first, second, third, fourth = rows_of(tmp_path / "t.jsonl")
    assert first == ("t.jsonl line 1", {"id": 1, "name": "a"})
    assert second == ("t.jsonl line 3", {"id": 2, "name": None})
    assert (third.row, third.reason) == ("t.jsonl line 4", "invalid JSON")
    assert fourth.value == "a list instead of an object"


@pytest.mark.parametrize("line", ["[" * 100_000, '{"id": ' * 100_000, "9" * 10_000, '{"id": 1, "name": "\\ud8'])
def test_json_that_python_cannot_read_is_one_row_s_problem(line: str, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(f'{{"id": 1}}\n{line}\n{{"id": 2}}\n')
    first, problem, second = rows_of(tmp_path / "t.jsonl")
    assert (first[1]["id"], problem.reason, second[1]["id"]) == (1, "invalid JSON", 2)


def test_json_lines_without_objects(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text("")
    with pytest.raises(E2FashionError, match="holds no JSON object"):
        open_table(tmp_path / "t.jsonl")


def test_parquet_reads_only_the_columns_asked_for(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": range(600), "name": ["a"] * 600}), tmp_path / "t.parquet")
    table = open_table(tmp_path / "t.parquet")
    rows = list(table.rows(["id"]))
    assert len(table) == len(rows) == 600
    assert rows[599] == ("t.parquet row 600", {"id": 599})


def test_a_damaged_parquet_file(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(E2FashionError, match=r"t.parquet is not a readable Parquet file"):
        open_table(tmp_path / "t.parquet")


def test_a_parquet_file_that_is_damaged_behind_its_header(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"id": range(600), "name": [f"a{n}" for n in range(600)]}), file)
    content = file.read_bytes()
    refused = 0
    for place in range(4, len(content) - 8, 97):
        file.write_bytes(
            content[:place] + bytes(255 - byte for byte in content[place : place + 8]) + content[place + 8 :]
        )
        try:
            rows_of(file)
        except E2FashionError as error:
            refused += "t.parquet is not a readable Parquet file" in str(error)
    assert refused > 5


def test_a_kind_of_file_that_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "t.xlsx").touch()
    with pytest.raises(E2FashionError, match=r"not '.xlsx'. Save the table in one of these formats"):
        open_table(tmp_path / "t.xlsx")


def test_a_missing_column_is_suggested(tmp_path: Path) -> None:
    table = open_table(write_csv(tmp_path / "t.csv", ["SKU", "Titel", "Marke"], []))
    with pytest.raises(
        E2FashionError,
        match=r"no column 'marke' \(tags.brand\). Did you mean 'Marke'\? Its columns are: SKU, Titel, Marke",
    ):
        require_columns(table, {"tags.brand": "marke"})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        (math.nan, None),
        (3.0, "3"),
        (2.5, "2.5"),
        (7, "7"),
        (True, "true"),
        ("Café".encode(), "Café"),
        (b"\xe9", "\udce9"),
        ("NA", "NA"),
        (["red", None, "blue"], "red; blue"),
    ],
)
def test_cells_as_text(value: Any, text: str | None) -> None:
    assert as_text(value) == text
