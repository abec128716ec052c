"""Statistics of data sets, counted by hand on the small catalogue."""

import pytest

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.describe import share_of_rare, statistics_records, statistics_table, tag_counts
from e2fashion.published import PublishedRow
from e2fashion.tables import to_markdown
from e2fashion.types import E2FashionError


def test_statistics_are_those_of_all_splits(synth_catalogue: Catalogue) -> None:
    values = {record.metric: record.value for record in statistics_records("Synth", synth_catalogue)}
    rows = [row for split in synth_catalogue.split_names for row in synth_catalogue.split(split)]
    first = {row["product_id"]: row for row in reversed(rows)}
    assert values["pairs"] == len(rows)
    assert values["products"] == len(first)
    assert values["brands"] == len({row["brand"] for row in rows} - {None})
    words = [len(row["description"].split()) for row in first.values()]
    assert values["mean words per description"] == pytest.approx(sum(words) / len(words))


def test_published_statistics_stand_below_ours(synth_catalogue: Catalogue) -> None:
    row = PublishedRow(("t",), "Synth", "synth", "data_statistics", "n/a", "s", {"pairs": 293018.0, "brands": None})
    lines = to_markdown(statistics_table(statistics_records("Synth", synth_catalogue), [row])).splitlines()
    assert lines[2].startswith("| Synth | 240 |")
    assert lines[3] == "| Synth (published) | 293,018 | n/a | n/a | n/a |"


def test_tags_are_counted_once_a_product(synth_catalogue: Catalogue) -> None:
    counts = tag_counts(synth_catalogue, "brand")
    assert counts == sorted(counts, reverse=True)
    assert 0 < sum(counts) < 120 + 1
    with pytest.raises(E2FashionError, match=r"no tag column 'maker'; it has: .*Name one of them"):
        tag_counts(synth_catalogue, "maker")


def test_rare_values() -> None:
    assert share_of_rare([50, 10, 9, 1]) == 50.0
