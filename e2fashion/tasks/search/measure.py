"""How well an index is searched, products by their text and categories by their name, and its tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from e2fashion.measuring import identity_of, results_file
from e2fashion.metrics.bootstrap import bootstrap, estimates, weighted_means
from e2fashion.metrics.ranking import ranks
from e2fashion.metrics.retrieval import hits_at, precision_at
from e2fashion.records import ENCODING, RecordContext, RunIdentity, declare
from e2fashion.run_folder import RunFolder
from e2fashion.tables import Column, Table, pivot
from e2fashion.tasks.search.config import IndexEvaluateConfig
from e2fashion.tasks.search.index import ProductIndex, load_index_encoder, model_of, open_index
from e2fashion.tasks.search.snapshot import Snapshot
from e2fashion.tasks.search.storage import DESCRIPTION
from e2fashion.tasks.search.tags import Conditions, TagValue, suggest, tag_text
from e2fashion.types import E2FashionError, ResultRecord

SEARCH = declare(
    "search",
    identified_by=("entity", "templates", "min_products", "views", "text_weight", "region_score_weight", *ENCODING),
    reports=("rare_values", "chance"),
)
BY_TEXT, BY_TAG = "product_text", "category_to_product"
TOP_K = (1, 5, 10)
SLOT = "{}"


@dataclass(frozen=True)
class _Measured:
    """Values (Q,) of each metric for the queries of one kind, and which answers are right."""

    protocol: str
    positives: str
    values: dict[str, Tensor]
    extra: dict[str, Any] = field(default_factory=dict)


def evaluate(config: IndexEvaluateConfig) -> tuple[Path, list[ResultRecord]]:
    """Open an index and measure its search; the file where the records belong, and the records."""
    index = open_index(config.index, load_index_encoder(config))
    run = RunFolder(Path(model_of(config)))
    results = results_file(config.output, run, "search", index.checked_encoder())
    return results, measure_search(index, config, identity_of(run.read_record()))


def measure_search(
    index: ProductIndex, config: IndexEvaluateConfig, run: RunIdentity | None = None
) -> list[ResultRecord]:
    """Records (task ``search``) of an index that was opened with its encoder.

    ``product_text``: every product's text, by the encoder's template, must find the product, or any with the same text:
    hits@k and MRR. ``category_to_product``: the name of a tag's value must find products that carry it: P@k, hits@k
    and MRR, means over values. In an index with regions the tags that a query names count, as in search. Shares in
    percent with the 95 % interval of a bootstrap over queries. Only images of the index are candidates; a rank counts
    equal scores against the model.

    Raises:
        E2FashionError: a column that the index lacks, one without values to ask for, or a template without its slot.
    """
    if SLOT not in config.template:
        raise E2FashionError(f"the template '{config.template}' has no slot: write {SLOT} where the value goes")
    for column in config.columns:
        if column not in index.tag_columns:
            hint = suggest(column, index.tag_columns)
            raise E2FashionError(f"the index {index.path} has no tag '{column}': {hint}")
    snapshot = index.snapshot()
    measured = _by_text(index, snapshot, config)
    measured += [_by_tag(index, snapshot, column, config) for column in dict.fromkeys(config.columns)]
    context = _context(index, snapshot, run or RunIdentity())
    return [record for each in measured for record in _records(each, index, config, context)]


def _by_text(index: ProductIndex, snapshot: Snapshot, config: IndexEvaluateConfig) -> list[_Measured]:
    encoder, descriptions = index.checked_encoder(), snapshot.column(DESCRIPTION)
    if all(description is None for description in descriptions):
        return []  # images from files
    encoder.template.validate(list(snapshot.tags))
    columns = {name: _texts(snapshot.column(name)) for name in encoder.template.columns}
    texts = [
        encoder.template.render({name: values[row] for name, values in columns.items()}, description or "")
        for row, description in enumerate(descriptions)
    ]
    distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    group = torch.tensor([distinct[text] for text in texts])
    query = index.embed_queries(list(distinct), config.region_weight)[group]
    kinds = {"product": torch.arange(len(texts)), "text": group}
    return [_Measured(BY_TEXT, kind, _by_rank(query, snapshot, config, ids, ids)) for kind, ids in kinds.items()]


def _by_tag(index: ProductIndex, snapshot: Snapshot, column: str, config: IndexEvaluateConfig) -> _Measured:
    tags = _texts(snapshot.column(column))
    counts = Counter(value for value in tags if value is not None)
    values = sorted(value for value, count in counts.items() if count >= config.min_products)
    if not values:
        raise E2FashionError(
            f"no value of '{column}' has {config.min_products} products in {index.path}: lower min_products, or ask "
            "for another tag"
        )
    number = {value: position for position, value in enumerate(values)}
    ids = torch.tensor([-1 if value is None else number.get(value, -1) for value in tags])
    texts = [config.template.replace(SLOT, value) for value in values]
    query = index.embed_queries(texts, config.region_weight)
    rows = snapshot.nearest(query, Conditions(), max(TOP_K), config.views)[1]
    relevant = ids[snapshot.product_of[rows]] == torch.arange(len(values))[:, None]
    measured = {f"P@{k}": precision_at(relevant, k) for k in TOP_K}
    measured |= _by_rank(query, snapshot, config, torch.arange(len(values)), ids)
    extra = {
        "entity": column,
        "templates": config.template,
        "min_products": config.min_products,
        "rare_values": len(counts) - len(values),
        "chance": 100 * sum(counts[value] for value in values) / len(values) / len(index),
    }
    return _Measured(BY_TAG, column, measured, extra)


def _by_rank(
    query: Tensor, snapshot: Snapshot, config: IndexEvaluateConfig, query_ids: Tensor, product_ids: Tensor
) -> dict[str, Tensor]:
    """Measures (Q,) of the rank of each query's best right product, scored by the views that a search would take."""
    gallery, rows = snapshot.gallery(config.views)
    item_of = snapshot.product_of[rows] if len(rows) > len(snapshot) else None
    found = ranks(query, gallery[:, : query.shape[1]], query_ids, product_ids, item_of=item_of)
    return {f"hits@{k}": hits_at(found, k) for k in TOP_K} | {"MRR": found.double().reciprocal()}


def _texts(values: list[TagValue | None]) -> list[str | None]:
    return [None if value is None else tag_text(value) for value in values]


def _context(index: ProductIndex, snapshot: Snapshot, run: RunIdentity) -> RecordContext:
    origin = index.facts.origin
    # Products that were added or removed since make other data of it.
    fingerprint = origin.fingerprint if origin.content == snapshot.content else snapshot.content
    return run.context(index.checked_encoder().name, ",".join(origin.splits), fingerprint)


def _records(
    measured: _Measured, index: ProductIndex, config: IndexEvaluateConfig, context: RecordContext
) -> list[ResultRecord]:
    """One record per metric, the mean over queries."""
    encoder = index.checked_encoder()
    if measured.protocol == BY_TEXT:
        context = replace(context, text=encoder.template.template)
    values = torch.stack(list(measured.values.values()), dim=1).double()
    queries = len(values)
    means = weighted_means(values, torch.arange(queries), queries)
    averages = {metric: float(values[:, column].mean()) for column, metric in enumerate(measured.values)}
    drawn = bootstrap(means, queries, config.resamples, config.seed)
    transform = encoder.transform
    if config.views != "first":
        measured.extra["views"] = config.views
    if index.facts.text_weight:
        measured.extra["text_weight"] = index.facts.text_weight
    if index.facts.regions:
        weight = index.facts.region_weight if config.region_weight is None else config.region_weight
        measured.extra["region_score_weight"] = weight
    encoding = {"image_size": transform.size, "resize": transform.resize, "precision": "fp16 index"}
    return [
        SEARCH.record(
            context,
            metric,
            *estimate,
            protocol=measured.protocol,
            direction="t2i",
            positives=measured.positives,
            queries=queries,
            candidates=float(len(index)),
            extra={**encoding, **measured.extra},
        )
        for metric, estimate in estimates(averages, drawn).items()
    ]


COLUMNS = {BY_TEXT: ("hits@1", "hits@5", "hits@10", "MRR"), BY_TAG: ("P@1", "P@5", "P@10", "hits@1", "hits@10", "MRR")}
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
