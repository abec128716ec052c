"""The file of published values: sourced, numbers or n/a, and read strictly."""

from pathlib import Path

import pytest

from e2fashion.metrics.retrieval import DIRECTIONS, TOP_K
from e2fashion.published import load_published
from e2fashion.types import E2FashionError

FILE = Path(__file__).resolve().parents[1] / "experiments" / "published.yaml"
ROWS = load_published(FILE)
GOOD = "tables: [t], system: E2, data: d, task: retrieval, protocol: full, source: s, values: {i2t R@1: 1}"


def test_retrieval_values_are_percentages_under_names_that_tables_know() -> None:
    names = {(direction, f"R@{k}") for direction in DIRECTIONS for k in TOP_K} | {("both", "SumR")}
    for row in (row for row in ROWS if row.task == "retrieval"):
        assert {name.partition(" ")[::2] for name in row.values} <= names
        assert all(0 < value <= 100 for value in row.columns().values())
        assert row.protocol in ("full", "full_multiview", "sample_100", "n/a")


def test_a_system_stands_once_in_a_table() -> None:
    places = [(table, row.system) for row in ROWS for table in row.tables]
    assert len(set(places)) == len(places)


def test_the_paper_s_known_numbers() -> None:
    known = {row.system: row.columns() for row in ROWS if "table1" in row.tables}
    assert known["E2"] == {("i2t", "R@1"): 62.8, ("t2i", "R@1"): 64.5}
    assert known["CLIP-FT"] == {("i2t", "R@1"): 55.2, ("t2i", "R@1"): 55.4}
    assert known["FILIP-FT"] == {}
    assert next(row.label() for row in ROWS if row.system == "E2") == "E2 (Fashion-Gen, published)"


def test_every_row_tells_its_source_in_words() -> None:
    assert all(len(row.citation) > 10 for row in ROWS)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (GOOD.replace("source: s", "source: hearsay"), "row 1 names the source 'hearsay'"),
        (GOOD.replace("i2t R@1: 1", "i2t R@1: about 60"), "'i2t R@1' is 'about 60'; write a number, or n/a"),
        (GOOD.replace("system: E2, ", ""), "lacks 'system'"),
        (GOOD + ", guess: true", "unknown field 'guess'"),
        (GOOD.replace("source: s", "source: [s]"), "'source' is \\['s'\\]; write the name of a source"),
        (GOOD.replace("values: {i2t R@1: 1}", "values: 1"), "'values' is 1; write a mapping"),
        (GOOD.replace("tables: [t]", "tables: 3"), "row 1 is damaged \\(tables is 3\\)"),
    ],
)
def test_a_row_that_cannot_be_trusted_is_refused(row: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "published.yaml"
    file.write_text(f"sources: {{s: a source}}\nrows:\n  - {{{row}}}\n")
    with pytest.raises(E2FashionError, match=message):
        load_published(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sources: {s: a}\nrows: {", "is not valid YAML of a mapping"),
        ("rows: []\n", "needs mappings 'sources' and 'data_sets', a list"),
        ("sources: {s: a}\nrows: 3\n", "needs mappings 'sources' and 'data_sets', a list"),
        ("sources: {s: a}\nrows: [3]\n", "row 1 is 3: a row is a mapping"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "published.yaml"
    file.write_text(text)
    with pytest.raises(E2FashionError, match=message):
        load_published(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match=r"no published values at .*nowhere\.yaml"):
        load_published(tmp_path / "nowhere.yaml")
