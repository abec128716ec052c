"""Tables from records: bold, spread, unknown numbers, and the three formats."""

from __future__ import annotations

from dataclasses import replace

import pytest

from e2fashion.tables import Cell, to_csv, to_latex, to_markdown
from e2fashion.tasks.retrieval.tables import retrieval_table
from e2fashion.types import E2FashionError, ResultRecord

COLUMNS = (("i2t", "R@1"), ("t2i", "median_rank"))


def record(model: str, metric: str, value: float, direction: str = "i2t", **changes: object) -> ResultRecord:
    made = ResultRecord(
        run="r",
        model=model,
        task="retrieval",
        metric=metric,
        value=value,
        low=value - 1,
        high=value + 1,
        split="val",
        protocol="full",
        direction=direction,
        positives="product",
        queries=50,
        candidates=50.0,
    )
    return replace(made, **changes)


RECORDS = [
    record("CLIP_FT", "R@1", 20.0),
    record("E2", "R@1", 25.04),
    record("CLIP_FT", "median_rank", 4.0, "t2i"),
    record("E2", "median_rank", 3.0, "t2i"),
]
CHOICE = {"split": "val", "protocol": "full", "positives": "product"}


def test_the_best_of_each_column_is_marked() -> None:
    table = retrieval_table(RECORDS, **CHOICE, columns=COLUMNS)
    assert table.rows == (
        (Cell("CLIP_FT"), Cell("20.0"), Cell("4.0")),
        (Cell("E2"), Cell("25.0", best=True), Cell("3.0", best=True)),
    )


def test_equal_to_the_printed_digit_is_a_tie_and_not_marked() -> None:
    records = [record("a", "R@1", 20.04), record("b", "R@1", 20.01), record("c", "R@1", 3.0)]
    assert not any(row[1].best for row in retrieval_table(records, **CHOICE, columns=COLUMNS[:1]).rows)


def test_a_lonely_row_is_not_marked() -> None:
    [row] = retrieval_table(RECORDS, **CHOICE, models=["E2"], columns=COLUMNS).rows
    assert not any(cell.best for cell in row)


def test_seeds_become_mean_and_spread() -> None:
    seeds = [record("E2", "R@1", value, seed=seed) for seed, value in enumerate((20.0, 22.0, 24.0))]
    [row] = retrieval_table(seeds, **CHOICE, columns=COLUMNS[:1]).rows
    assert row[1].text == "22.0 ± 2.0"


def test_published_numbers_are_not_marked_and_unknown_ones_not_made_up() -> None:
    published = {"E2 (paper)": {("i2t", "R@1"): 62.8}}
    table = retrieval_table(RECORDS, **CHOICE, columns=COLUMNS, published=published)
    assert table.rows[0] == (Cell("E2 (paper) (published)"), Cell("62.8"), Cell("n/a"))
    assert table.rows[2][1].best


def test_a_metric_that_was_not_measured_is_not_available() -> None:
    assert {row[-1].text for row in retrieval_table(RECORDS, **CHOICE).rows} == {"n/a"}


def test_other_splits_protocols_and_texts_stay_out() -> None:
    noise = [
        record("E2", "R@1", 99.0, **change)
        for change in ({"split": "test"}, {"protocol": "sample_100"}, {"positives": "text"}, {"text": "other"})
    ]
    table = retrieval_table([*RECORDS, *noise], **CHOICE, text="", columns=COLUMNS)
    assert table.rows[1][1].text == "25.0"


def test_the_caption_names_the_protocol() -> None:
    records = [replace(item, candidates=16.5, extra={"fewest_candidates": 10}, text="{brand}") for item in RECORDS]
    caption = retrieval_table(records, **CHOICE, columns=COLUMNS).caption
    assert caption == (
        "Protocol `full` on val: 50 queries, 16.5 candidates (at least 10), a hit is the same product; text `{brand}`."
    )


def test_markdown() -> None:
    assert to_markdown(retrieval_table(RECORDS, **CHOICE, columns=COLUMNS)) == (
        "| model | I2T R@1 | T2I median_rank |\n"
        "| --- | ---: | ---: |\n"
        "| CLIP_FT | 20.0 | 4.0 |\n"
        "| E2 | **25.0** | **3.0** |\n"
        "\n"
        "Protocol `full` on val: 50 queries, 50 candidates, a hit is the same product.\n"
    )


def test_latex_escapes_and_marks() -> None:
    text = to_latex(retrieval_table(RECORDS, **CHOICE, columns=COLUMNS))
    assert r"CLIP\_FT & 20.0 & 4.0 \\" in text
    assert r"E2 & \textbf{25.0} & \textbf{3.0} \\" in text


def test_csv_has_a_line_per_number() -> None:
    lines = to_csv(retrieval_table(RECORDS, **CHOICE, columns=COLUMNS)).splitlines()
    assert lines[:2] == ["model,metric,value,sd,low,high,n", "CLIP_FT,I2T R@1,20,,19,21,1"]


def test_no_record_names_those_that_exist() -> None:
    with pytest.raises(E2FashionError, match=r"no retrieval record has split 'test'.*\('val', 'full', 'product', ''\)"):
        retrieval_table(RECORDS, **{**CHOICE, "split": "test"})
