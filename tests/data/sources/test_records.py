"""Quotation marks that do not pair cost their own row, and no text that was quoted as it should be."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_products import picture, write_csv

from e2fashion.data.config import Preparation
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.data.sources.base import SourceProblem
from e2fashion.data.sources.folder import FolderSource
from e2fashion.data.sources.records import Record, read_records
from e2fashion.data.sources.tables import DelimitedTable
from e2fashion.types import E2FashionError

HEADER = "product_id,image,brand,description"
DELIMITERS = [",", ";", "\t", "|"]


def records(text: str, delimiter: str = ",") -> list[Record]:
    return list(read_records(text.splitlines(keepends=True), delimiter))


def table_text(broken: dict[int, str], rows: int = 12) -> str:
    """Twelve products; ``broken`` replaces the description of some, with what follows it on its line."""
    lines = [HEADER]
    lines += [f"{n},{n}.jpg,B{n % 3},{broken.get(n, f'plain tee number {n}')}" for n in range(1, rows + 1)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("delimiter", DELIMITERS)
@pytest.mark.parametrize(
    ("broken", "faulty"),
    [
        ({3: '"Vintage tee', 6: '"Red tee'}, [4, 7]),  # the second mark would close the first one
        ({3: '"Vintage tee', 6: 'Red tee"'}, [4]),  # the same, and the number of fields is right
        ({3: '"Vintage tee', 4: 'Red tee"'}, [4]),  # the next row alone would be swallowed
        ({5: '"Big shirt'}, [6]),  # never closed
        ({12: '"Big shirt'}, [13]),  # in the last row
        ({1: '"Big shirt'}, [2]),  # in the first
        ({3: '"Vintage" tee'}, [4]),
        ({3: '"Vintage \\"tee\\""'}, [4]),
        ({3: '"Vintage tee', 5: '"Red, plain tee"'}, [4]),
        (dict.fromkeys(range(1, 13), '"tee'), list(range(2, 14))),
    ],
)
def test_a_stray_mark_costs_its_own_row(broken: dict[int, str], faulty: list[int], delimiter: str) -> None:
    result = records(table_text(broken).replace(",", delimiter), delimiter)
    assert [record.line for record in result if record.fault] == faulty
    assert [record.line for record in result] == list(range(1, 14))
    assert {record.column for record in result if record.fault} == {3}


@pytest.mark.parametrize("delimiter", DELIMITERS)
@pytest.mark.parametrize(
    "text",
    [
        "first line\nsecond line",
        "a tee, red, blue and green\nwith sleeves, short or long, wide or narrow",
        "\n\n  washed at 30 degrees\r\n- 100% cotton\n",
        'the so-called "boyfriend" cut\nand more',
        '5" heel',
        '"',
        "",
        "x" * 100_000 + "\n" + "y" * 20_000,
    ],
)
@pytest.mark.parametrize("column", range(4))
def test_quoted_texts_over_several_lines_stay_whole(text: str, column: int, delimiter: str) -> None:
    rows = [["1", "1.jpg", "Acme", "tee"], ["2", "2.jpg", "Acme", "tee"], ["3", "3.jpg", "Acme", "tee"]]
    rows[1][column] = text.replace(",", delimiter)
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter).writerows([HEADER.split(","), *rows])
    result = records(stream.getvalue(), delimiter)
    assert [record.fields for record in result[1:]] == rows
    assert not any(record.fault for record in result)


def test_a_mark_inside_a_field_that_begins_without_one_is_a_character() -> None:
    (_, record) = records('id,name\n1,5" heel, a "must\n'.replace(", a", " a"))
    assert (record.fields, record.fault) == (["1", '5" heel a "must'], "")


def test_a_text_that_looks_like_a_row_is_refused_and_told_what_to_do() -> None:
    result = records('id,image,sizes\n1,1.jpg,"S,M,L\nXS,S,M"\n2,2.jpg,S\n')
    assert (result[1].line, result[1].fault) == (
        2,
        "a quotation mark that is not closed before line 3, which is a separate row",
    )
    assert "needs a blank behind its delimiters" in result[1].remedy


def test_a_mark_without_end_is_not_searched_for_in_the_whole_file_again_and_again() -> None:
    lines = ["id,name", *('1,"a b' for _ in range(3000)), *(f"prose of line {n}" for n in range(3000))]
    result = records("\n".join(lines))
    assert sum(bool(record.fault) for record in result) == 3000


cells = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\0\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), max_size=12
)


@settings(max_examples=200)
@given(st.lists(st.lists(cells, min_size=3, max_size=3), min_size=1, max_size=6), st.sampled_from(DELIMITERS))
def test_what_csv_writes_is_read_back_or_refused(rows: list[list[str]], delimiter: str) -> None:
    """Never another number of rows: what is not a fault is what was written."""
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([["a b", "b", "c"], *rows])
    result = records(stream.getvalue(), delimiter)
    if not any(record.fault for record in result):
        assert [record.fields for record in result[1:]] == rows


@settings(max_examples=300)
@given(st.text(st.sampled_from('ab,"\n '), max_size=60))
def test_every_line_is_in_a_record_or_blank(text: str) -> None:
    result = records(f"id,name\n{text}")
    assert result[0].fields == ["id", "name"]
    ends = [record.line for record in result[1:]] + [None]
    lines = f"id,name\n{text}".splitlines()
    for record, end in zip(result[1:], ends[1:], strict=True):
        inside = lines[record.line - 1 : end - 1 if end else None]
        assert sum(len(field) for field in record.fields) <= sum(len(line) + 1 for line in inside)
        if record.fault:
            assert not any(lines[record.line : end - 1 if end else None])


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    for number in range(1, 13):
        (tmp_path / f"{number}.jpg").write_bytes(picture(number))
    (tmp_path / "t.csv").write_text(table_text({3: '"Vintage tee', 6: '"Red tee'}))
    return tmp_path


def test_preparing_stops_at_the_line_of_the_mark(shop: Path) -> None:
    message = r"t.csv line 4 \(product 3\): stray quotation mark in field 'description': a quotation mark that is not"
    with pytest.raises(E2FashionError, match=message):
        prepare_catalogue(FolderSource(str(shop)), shop / "out", progress=False)


def test_preparing_skips_the_rows_of_stray_marks_alone(shop: Path) -> None:
    catalogue = prepare_catalogue(FolderSource(str(shop)), shop / "out", Preparation(on_error="skip"), progress=False)
    assert catalogue.manifest.skipped == {"stray quotation mark": 2}
    assert sum(counts["products"] for counts in catalogue.manifest.splits.values()) == 10
    with (shop / "out" / "skipped.csv").open(newline="") as stream:
        assert [row["row"] for row in csv.DictReader(stream)] == ["t.csv line 4", "t.csv line 7"]


def test_a_comma_in_another_column_than_the_last_shifts_nothing(tmp_path: Path) -> None:
    rows = [f"{n},{colour},Fall,2011,Casual,Shirt" for n, colour in enumerate(["Red", "Blue", "Red", "Red"], start=1)]
    rows += ["5,Navy, Blue,Fall,2011,Casual,Shirt", "6,Red,Fall,2011,Casual,Shirt, striped", "7,Red,Fall,2011,A,B,C"]
    file = tmp_path / "t.csv"
    file.write_text("\n".join(["id,colour,season,year,usage,name", *rows]))
    result = list(DelimitedTable(file, join_last=True).rows(["colour", "name"]))
    problems = [(row.row, row.field, row.reason) for row in result if isinstance(row, SourceProblem)]
    assert problems == [("t.csv line 6", "colour", "shifted fields"), ("t.csv line 8", "usage", "shifted fields")]
    assert ("t.csv line 7", {"colour": "Red", "name": "Shirt, striped"}) in result


def test_all_delimiters_through_the_table(tmp_path: Path) -> None:
    for delimiter in DELIMITERS:
        file = write_csv(tmp_path / "t.csv", ["id", "name"], [["1", "two\nlines"], ["2", "b"]], delimiter=delimiter)
        assert [values["name"] for _, values in DelimitedTable(file).rows(["name"])] == ["two\nlines", "b"]  # type: ignore[misc]
