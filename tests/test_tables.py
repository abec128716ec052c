"""The table engine: mean ± deviation, intervals, the best value, known rows, and three formats."""

from __future__ import annotations

import statistics
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2fashion.records import MODEL, RecordContext
from e2fashion.tables import (
    Cell,
    Column,
    Fact,
    KnownRow,
    Measured,
    Table,
    pivot,
    to_csv,
    to_frame,
    to_latex,
    to_markdown,
    with_columns,
    without_repeats,
)
from e2fashion.types import ResultRecord

VALUES = st.floats(0, 100)


def record(model: str, metric: str, value: float, seed: int = 0, interval: bool = False) -> ResultRecord:
    context = RecordContext(run=f"{model}{seed}", model=model, split="test", seed=seed, data_fingerprint="f" * 64)
    bounds = (value - 1, value + 1) if interval else (None, None)
    return MODEL.record(context, metric, value, *bounds, protocol="full")


def table(records: list[ResultRecord], *columns: Column | Fact, **options: object) -> Table:
    columns = columns or tuple(Column(name, name) for name in dict.fromkeys(record.metric for record in records))
    return pivot(records, ("model",), columns, lambda one: one.model, lambda one: one.metric, **options)  # type: ignore[arg-type]


def texts(made: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in made.rows]


@given(st.lists(st.lists(VALUES, min_size=1, max_size=4), min_size=1, max_size=4))
def test_a_cell_is_the_mean_of_its_records_and_one_value_at_most_is_bold(runs: list[list[float]]) -> None:
    records = [record(str(row), "a", value, seed) for row, own in enumerate(runs) for seed, value in enumerate(own)]
    made = table(records, Column("a", "a", digits=2))
    for (_, cell), own in zip(made.rows, runs, strict=True):
        assert cell.value is not None
        assert cell.value.mean == pytest.approx(statistics.fmean(own), abs=1e-9)
        assert cell.value.n == len(own)
        assert (cell.value.sd is None) == (len(own) == 1)
        if cell.value.sd is not None:
            assert cell.value.sd == pytest.approx(statistics.stdev(own), abs=1e-9)
    shown = [float(row[1].text.partition(" ")[0]) for row in made.rows]
    bold = [row[1].best for row in made.rows]
    assert sum(bold) == (len(shown) > 1 and shown.count(max(shown)) == 1)
    assert all(value == max(shown) for value, best in zip(shown, bold, strict=True) if best)


def test_intervals_are_of_single_records() -> None:
    records = [record("a", "x", 5, interval=True), *(record("b", "x", 5.0 + seed, seed, True) for seed in (0, 1))]
    assert texts(table(records, Column("x", "x", interval=True))) == [["a", "5.0 [4.0, 6.0]"], ["b", "5.5 ± 0.7"]]
    assert texts(table(records[:1], Column("x", "x", digits=0, signed=True))) == [["a", "+5"]]


def test_lower_may_be_better_and_rivals_may_be_few() -> None:
    records = [record(name, "x", value) for name, value in (("a1", 3), ("a2", 1), ("b1", 9))]
    best = [row[1].best for row in table(records, Column("x", "x", best="min")).rows]
    assert best == [False, True, False]
    assert [row[1].best for row in table(records, rivals=lambda model: model[0]).rows] == [True, False, False]
    assert not any(row[1].best for row in table(records, Column("x", "x", best="")).rows)


def test_what_was_not_measured_is_not_available() -> None:
    made = table([record("a", "x", 1), record("b", "y", 2)], rows=["b", "a", "c"])
    assert texts(made) == [["b", "n/a", "2.0"], ["a", "1.0", "n/a"], ["c", "n/a", "n/a"]]


def test_known_rows_stand_where_they_belong_and_are_never_best() -> None:
    known = [
        KnownRow(("first",), {"x": 99}),
        KnownRow(("last",), {}, last=True),
        KnownRow(("behind a",), {"x": 98}, after="a"),
    ]
    made = table([record("a", "x", 1), record("b", "x", 2)], known=known)
    assert texts(made) == [["first", "99.0"], ["a", "1.0"], ["behind a", "98.0"], ["b", "2.0"], ["last", "n/a"]]
    assert [row[1].best for row in made.rows] == [False, False, False, True, False]


def test_facts_and_further_columns() -> None:
    fact = Fact("seeds", lambda own: str(len(own)))
    made = table([record("a", "x", 1), record("a", "x", 3, 1)], fact, Column("x", "x"))
    assert texts(made) == [["a", "2", "2.0 ± 1.4"]]
    wider = with_columns(made, ("one", "two"), {"a": [Cell("1"), Cell("2")]}, position=1)
    assert wider.header == ("model", "one", "two", "seeds", "x")
    assert texts(with_columns(made, ("p",), {})) == [["a", "2", "2.0 ± 1.4", "n/a"]]


def test_a_spread_may_come_from_the_records() -> None:
    column = Column("x", "x", spread=lambda one: 0.25 if one.model == "a" else None)
    assert texts(table([record("a", "x", 1), record("b", "x", 2)], column)) == [["a", "1.0 ± 0.2"], ["b", "2.0"]]


def test_equal_tables_are_not_repeated() -> None:
    first = replace(table([record("a", "x", 1)]), caption="By product.")
    second, other = replace(first, caption="By text."), table([record("a", "x", 2)])
    kept = without_repeats({"": first, "_text": second, "_other": other})
    assert list(kept) == ["", "_other"]
    assert kept[""].caption == "By product. The same values hold for: By text."


def test_csv_has_the_numbers_in_columns() -> None:
    fact = Fact("note", lambda own: "a, b")
    made = table(
        [record("a", "x", 1.23456, interval=True), record("b", "x", 1), record("b", "x", 2, 1)], fact, Column("x", "x")
    )
    known = pivot([], ("model",), [Column("x", "x")], str, str, known=[KnownRow(("p",), {"x": 7.5})])
    assert to_csv(made).splitlines() == [
        "model,note,metric,value,sd,low,high,n",
        'a,"a, b",x,1.23456,,0.23456,2.23456,1',
        'b,"a, b",x,1.5,0.7071067812,,,2',
    ]
    assert to_csv(known).splitlines()[1] == "p,x,7.5,,,,"
    assert list(to_frame(Table(("a", "b"), ((Cell("1"), Cell("2")),))).columns) == ["a", "b"]


def test_latex_carries_what_was_measured() -> None:
    made = replace(table([record("a_b", "x", 1), record("c", "x", 2, seed=3)]), caption="Protocol `full_x` at 50 %.")
    measured = replace(made.measured, data="Fashion-Gen", scale="small", smoke=True)
    text = to_latex(replace(made, measured=measured))
    printed = "SMOKE TEST, the numbers are meaningless; data: Fashion-Gen; scale: small; seeds: 0, 3; protocol: full"
    assert text.splitlines()[:2] == [f"% {printed}", "% Protocol `full_x` at 50 %."]
    assert f"\\caption{{Protocol \\texttt{{full\\_x}} at 50 \\%. ({printed})}}" in text
    assert "\\begin{tabular}{lr}" in text
    assert "a\\_b & 1.0 \\\\" in text
    assert "c & \\textbf{2.0} \\\\" in text


def test_records_say_what_was_measured() -> None:
    assert table([record("a", "x", 1)]).measured == Measured("catalogue ffffffffffff", "", (0,), "full", "test")
    assert Measured().line() == ""


def test_text_of_data_stays_text() -> None:
    made = table([record("a|b\n<i>", "x", 1)])
    assert "| a\\|b\\\\n\\<i\\> | 1.0 |" in to_markdown(made)
    assert "\n<" not in to_latex(made)
