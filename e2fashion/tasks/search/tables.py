"""Tables of how well indexes are searched: a row per model."""

from __future__ import annotations

from collections.abc import Sequence

from e2fashion.tables import Column, Table, pivot
from e2fashion.tasks.search.measure import BY_TAG, BY_TEXT, SEARCH
from e2fashion.types import ResultRecord

COLUMNS = {
    BY_TEXT: ("hits@1", "hits@5", "hits@10", "MRR"),
    BY_TAG: ("P@1", "P@5", "P@10", "hits@1", "hits@10", "MRR"),
}
WEIGHT, TEXT_WEIGHT = "region_score_weight", "text_weight"
VIEWS = {"best": "the view that fits best", "mean": "the mean of its views"}


def search_tables(records: Sequence[ResultRecord]) -> list[Table]:
    """One table per split, catalogue, kind of query and notion of a right answer; none without such records."""
    kinds = SEARCH.grouped(
        records,
        lambda one: (
            *(one.protocol, one.positives, one.split, one.data_fingerprint),
            *(str(one.extra.get(key)) for key in ("templates", WEIGHT, "views", TEXT_WEIGHT)),
        ),
    )
    return [_table(group) for group in kinds.values()]


def _table(records: Sequence[ResultRecord]) -> Table:
    return pivot(
        records,
        ("model",),
        [
            Column(metric, metric, 3 if metric == "MRR" else 1, interval=True)
            for metric in COLUMNS.get(records[0].protocol, COLUMNS[BY_TEXT])
        ],
        row=lambda record: record.model,
        column=lambda record: record.metric,
        caption=_caption(records),
    )


def _caption(records: Sequence[ResultRecord]) -> str:
    first = records[0]
    where = f"{first.candidates:,.0f} products" + (f" of {first.split}" if first.split else "")
    if WEIGHT in first.extra:
        where += f" under the regional score (weight {first.extra[WEIGHT]:g})"
    if "views" in first.extra:
        where += f", each by {VIEWS[first.extra['views']]}"
    if TEXT_WEIGHT in first.extra:
        where += f", with texts of weight {first.extra[TEXT_WEIGHT]:g} in their vectors"
    if first.protocol == BY_TEXT:
        right = {"product": "the same product", "text": "any product with the same text"}.get(
            first.positives, first.positives
        )
        texts = ", ".join(f"`{text}`" for text in sorted({record.text for record in records}))
        return f"Search by text among {where}: {first.queries:,} queries ({texts}), right is {right}."
    extra = first.extra
    return (
        f"Search for categories among {where}: {first.queries} values of `{first.positives}` asked for as "
        f"`{extra['templates']}`, right is any product of the value; {extra['rare_values']} values of fewer than "
        f"{extra['min_products']} products were not asked for. P@k by chance: {extra['chance']:.1f}."
    )
