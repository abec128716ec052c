"""Tables of how well indexes are searched: a row per model."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from e2fashion.eval.search.measure import BY_TAG, BY_TEXT, SEARCH
from e2fashion.eval.tables import MISSING_VALUE, Cell, Table
from e2fashion.types import ResultRecord

COLUMNS = {
    BY_TEXT: ("hits@1", "hits@5", "hits@10", "MRR"),
    BY_TAG: ("P@1", "P@5", "P@10", "hits@1", "hits@10", "MRR"),
}


def search_tables(records: Sequence[ResultRecord]) -> list[Table]:
    """One table per split, catalogue, kind of query and notion of a right answer; none without such records."""
    kinds: dict[tuple[str, ...], list[ResultRecord]] = {}
    for record in records:
        if record.task == SEARCH.task:
            key = (record.protocol, record.positives, record.split, record.data_fingerprint)
            kinds.setdefault((*key, str(record.extra.get("templates"))), []).append(record)
    return [_table(own) for own in kinds.values()]


def _table(records: Sequence[ResultRecord]) -> Table:
    metrics = COLUMNS[records[0].protocol]
    rows: dict[str, dict[str, list[ResultRecord]]] = {}
    for record in records:
        rows.setdefault(record.model, {}).setdefault(record.metric, []).append(record)
    lines = []
    for model, own in rows.items():
        cells = [_cell(own.get(metric, []), [other.get(metric, []) for other in rows.values()]) for metric in metrics]
        lines.append((Cell(model), *cells))
    return Table(("model", *metrics), tuple(lines), _caption(records))


def _cell(own: Sequence[ResultRecord], rivals: Sequence[Sequence[ResultRecord]]) -> Cell:
    """Mean and interval, or standard deviation over runs; best among the rivals, which contain it."""
    if not own:
        return Cell(MISSING_VALUE)
    digits = 3 if own[0].metric == "MRR" else 1
    means = [round(statistics.fmean(record.value for record in other), digits) for other in rivals if other]
    mean = statistics.fmean(record.value for record in own)
    text = f"{mean:.{digits}f}"
    if len(own) > 1:
        text += f" ± {statistics.stdev(record.value for record in own):.{digits}f}"
    elif own[0].low is not None and own[0].high is not None:
        text += f" [{own[0].low:.{digits}f}, {own[0].high:.{digits}f}]"
    return Cell(text, len(means) > 1 and round(mean, digits) == max(means))


def _caption(records: Sequence[ResultRecord]) -> str:
    first = records[0]
    where = f"{first.candidates:,.0f} products" + (f" of {first.split}" if first.split else "")
    if first.protocol == BY_TEXT:
        right = {"product": "the same product", "text": "any product with the same text"}[first.positives]
        texts = ", ".join(f"`{text}`" for text in sorted({record.text for record in records}))
        return f"Search by text among {where}: {first.queries:,} queries ({texts}), right is {right}."
    extra = first.extra
    return (
        f"Search for categories among {where}: {first.queries} values of `{first.positives}` asked for as "
        f"`{extra['templates']}`, right is any product of the value; {extra['rare_values']} values of fewer than "
        f"{extra['min_products']} products were not asked for. P@k by chance: {extra['chance']:.1f}."
    )
