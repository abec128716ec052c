"""What data sets hold, as records: the numbers of a table of data statistics, and how often each tag occurs."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.describe import describe_catalogue
from e2fashion.published import PublishedRow
from e2fashion.records import RecordContext, declare
from e2fashion.tables import Column, KnownRow, Table, pivot
from e2fashion.types import E2FashionError, ResultRecord

STATISTICS = declare("data_statistics")
COLUMNS = ("pairs", "brands", "products", "mean words per description")


def statistics_records(title: str, catalogue: Catalogue) -> list[ResultRecord]:
    """Pairs, brands, products and mean description length of all splits together.

    A catalogue without brands has no record of them. Words are what white space separates, counted once a product.
    """
    found = describe_catalogue(catalogue)
    splits = list(found.splits.values())
    products = sum(split.products for split in splits)
    values = {"pairs": float(sum(split.pairs for split in splits)), "products": float(products)}
    values[COLUMNS[3]] = sum(split.mean_words * split.products for split in splits) / products
    if "brand" in found.values:
        values["brands"] = float(found.values["brand"])
    context = RecordContext(run=found.fingerprint[:12], model=title, split="", data_fingerprint=found.fingerprint)
    return [
        STATISTICS.record(context, metric, values[metric], queries=products) for metric in COLUMNS if metric in values
    ]


def statistics_table(records: Sequence[ResultRecord], published: Sequence[PublishedRow] = ()) -> Table:
    """A row per data set, the published one of the same name below it."""
    ours = {record.model for record in records}
    return pivot(
        records,
        ("data set",),
        [Column(name, name, int(name.startswith("mean")), best="", thousands=True) for name in COLUMNS],
        row=lambda record: record.model,
        column=lambda record: record.metric,
        known=[
            KnownRow((f"{row.system} (published)",), row.values, after=row.system, last=row.system not in ours)
            for row in published
        ],
        caption="All splits together; words are what white space separates.",
    )


def tag_counts(catalogue: Catalogue, column: str) -> list[int]:
    """Products of every value of a tag column in all splits, the most frequent first.

    Raises E2FashionError when the catalogue has no such column, or nothing in it.
    """
    if column not in catalogue.tag_columns:
        raise E2FashionError(
            f"the catalogue {catalogue.path} has no tag column '{column}'; it has: {', '.join(catalogue.tag_columns)}"
        )
    counts: Counter[str] = Counter()
    for split in catalogue.split_names:
        rows = catalogue.split(split)
        tags = dict(zip(rows["product_id"], rows[column], strict=True))
        counts.update(tag for tag in tags.values() if tag is not None)
    if not counts:
        raise E2FashionError(f"no product of {catalogue.path} has a value in the tag column '{column}'")
    return sorted(counts.values(), reverse=True)


def share_of_rare(counts: Sequence[int], below: int = 10) -> float:
    """The share of values that fewer than ``below`` products have, in percent."""
    return 100 * statistics.fmean(count < below for count in counts)
