"""Tables of retrieval: rows are models, columns metrics by direction; differences to a baseline."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from e2fashion.metrics.retrieval import DIRECTIONS, TOP_K
from e2fashion.tables import Column, Fact, KnownRow, Table, pivot
from e2fashion.tasks.retrieval.rankings import BOTH, RETRIEVAL
from e2fashion.types import E2FashionError, ResultRecord

Metric = tuple[str, str]
"""Direction and metric, as in ``("i2t", "R@1")``."""

RETRIEVAL_COLUMNS: tuple[Metric, ...] = (
    *((direction, f"R@{k}") for direction in DIRECTIONS for k in TOP_K),
    (BOTH, "SumR"),
)
TITLES = {"i2t": "I2T", "t2i": "T2I", BOTH: ""}
SHOWN_DIFFERENCES = ("R@1", "SumR")


def retrieval_table(
    records: Sequence[ResultRecord],
    *,
    split: str,
    protocol: str,
    positives: str,
    text: str | None = None,
    models: Sequence[str] | None = None,
    columns: Sequence[Metric] = RETRIEVAL_COLUMNS,
    published: Mapping[str, Mapping[Metric, float]] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Table:
    """One row per model (default: in the order of the records), one column per direction and metric.

    ``published`` adds rows of known numbers, named by ``labels``, which are never bold: those of a model of ours are
    below it, the others first. Higher is better, except for ``median_rank``.

    Raises:
        E2FashionError: no record fits.
    """
    chosen = [
        record
        for record in records
        if (record.task, record.split, record.protocol, record.positives)
        == (RETRIEVAL.task, split, protocol, positives)
        and text in (None, record.text)
        and (models is None or record.model in models)
    ]
    if not chosen:
        measured = sorted({(r.split, r.protocol, r.positives, r.text) for r in records if r.task == RETRIEVAL.task})
        raise E2FashionError(
            f"no retrieval record has split '{split}', protocol '{protocol}', positives '{positives}', text {text!r} "
            f"and a model of {models}: there are {measured}"
        )
    known = [
        KnownRow(((labels or {}).get(name, f"{name} (published)"),), values, after=name)
        for name, values in (published or {}).items()
    ]
    return pivot(
        chosen,
        ("model",),
        [Column(titled(*metric), metric, best="min" if metric[1] == "median_rank" else "max") for metric in columns],
        row=lambda record: record.model,
        column=lambda record: (record.direction, record.metric),
        rows=models,
        known=known,
        caption=_caption(chosen, protocol, split, positives),
    )


def titled(direction: str, metric: str) -> str:
    """A metric as headings name it, as in ``I2T R@1``."""
    return f"{TITLES.get(direction, direction)} {metric}".strip()


def difference_table(
    records: Sequence[ResultRecord], positives: str, metrics: Collection[str] = SHOWN_DIFFERENCES
) -> Table:
    """A line per model and metric: the difference in percentage points, its 95 % interval, and p.

    ``records`` compare models with one baseline (:func:`e2fashion.tasks.retrieval.rankings.compare_rankings`).
    """
    chosen = [record for record in records if record.positives == positives and compared_metric(record) in metrics]
    first = chosen[0]
    pooled = {", ".join(map(str, record.extra["seeds"])) for record in chosen if "seeds" in record.extra}
    seeds = f"seeds {pooled.pop()}" if len(pooled) == 1 else "all seeds"
    baselines = {record.extra["against"] for record in chosen}
    against = "the second model" if len(baselines) > 1 else first.extra["against"]
    caption = (
        f"Difference to {against} in percentage points, protocol `{first.protocol}` on {first.split}, a "
        f"hit is the same {positives}: paired bootstrap over products, the hits of {seeds} pooled; p is two-sided "
        "and does not cover variation over seeds."
    )
    return pivot(
        chosen,
        ("model", "metric"),
        [Column("difference", None, best="", signed=True), Fact("95 % interval", _interval), Fact("p", p_value)],
        row=lambda record: (
            f"{record.model} - {record.extra['against']}" if len(baselines) > 1 else record.model,
            titled(record.direction, compared_metric(record)),
        ),
        column=lambda record: None,
        caption=caption,
    )


def compared_metric(record: ResultRecord) -> str:
    """The metric of a record of a difference, whose name holds the baseline too."""
    return record.metric.partition(" - ")[0]


def _interval(records: Sequence[ResultRecord]) -> str:
    return f"[{records[0].low:+.1f}, {records[0].high:+.1f}]"


def p_value(records: Sequence[ResultRecord]) -> str:
    """The two-sided p of a difference."""
    return f"{records[0].extra['p_value']:.3f}"


def _caption(records: Sequence[ResultRecord], protocol: str, split: str, positives: str) -> str:
    def several(values: Sequence[float | str]) -> str:
        distinct = sorted(set(values), key=str)
        return " / ".join(f"{item:g}" if isinstance(item, float) else str(item) for item in distinct)

    directed = [record for record in records if record.direction != BOTH] or list(records)
    queries = several([float(record.queries) for record in directed])
    candidates = several([round(record.candidates, 1) for record in directed])
    hit = {"product": "the same product", "text": "any product with the same text"}.get(positives, positives)
    fewest = [record.extra["fewest_candidates"] for record in directed if "fewest_candidates" in record.extra]
    fewer = f" (at least {min(fewest)})" if fewest else ""
    texts = several([record.text for record in records if record.text])
    return (
        f"Protocol `{protocol}` on {split}: {queries} queries, {candidates} candidates{fewer}, a hit is {hit}"
        + (f"; text `{texts}`" if texts else "")
        + "."
    )
