"""How well an index is searched: products by their own text, and categories by their name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from e2fashion.encoder import Encoder
from e2fashion.metrics.bootstrap import RESAMPLES, bootstrap, interval, weighted_means
from e2fashion.metrics.ranking import ranks
from e2fashion.metrics.retrieval import hits_at, precision_at
from e2fashion.records import ENCODING, RecordContext, RunIdentity, declare
from e2fashion.tasks.search.filters import suggest
from e2fashion.tasks.search.index import ProductIndex
from e2fashion.tasks.search.shards import DESCRIPTION
from e2fashion.types import E2FashionError, ResultRecord

SEARCH = declare(
    "search",
    identified_by=("entity", "templates", "min_products", *ENCODING),
    reports=("rare_values", "chance"),
)
BY_TEXT, BY_TAG = "product_text", "category_to_product"
TOP_K = (1, 5, 10)
SLOT = "{}"


@dataclass(frozen=True)
class SearchSettings:
    """``columns`` are tags whose values are asked for, each value of at least ``min_products`` products once.

    ``template`` is the text of such a query, with a slot ``{}`` for the value.
    """

    columns: Sequence[str] = ()
    template: str = SLOT
    min_products: int = 10
    resamples: int = RESAMPLES
    seed: int = 0


def measure_search(
    index: ProductIndex, encoder: Encoder, settings: SearchSettings, run: RunIdentity | None = None
) -> list[ResultRecord]:
    """Records (task ``search``) of an index with the encoder that built it.

    ``product_text``: every product's text, by the encoder's template, must find the product, or any with the same text:
    hits@k and MRR. ``category_to_product``: the name of a tag's value must find products that carry it: P@k, hits@k
    and MRR, means over values. Shares in percent with the 95 % interval of a bootstrap over queries. Only pictures
    of the index are candidates; a rank counts equal scores against the model.

    Raises:
        E2FashionError: a column that the index lacks, one without values to ask for, or a template without its slot.
    """
    if SLOT not in settings.template:
        raise E2FashionError(f"the template '{settings.template}' has no slot: write {SLOT} where the value goes")
    for column in settings.columns:
        if column not in index.tag_columns:
            there = suggest(column, index.tag_columns) if index.tag_columns else "none"
            raise E2FashionError(f"the index {index.path} has no tag '{column}'; its tags: {there}")
    gallery = index.gallery.chunk(0, len(index))
    context = _context(index, encoder, run or RunIdentity())
    how = {"image_size": encoder.transform.size, "resize": encoder.transform.resize, "precision": "fp16 index"}
    records = _by_text(index, encoder, gallery, settings, context, how)
    for column in dict.fromkeys(settings.columns):
        records += _by_tag(index, encoder, gallery, column, settings, context, how)
    return records


def _by_text(
    index: ProductIndex,
    encoder: Encoder,
    gallery: Tensor,
    settings: SearchSettings,
    context: RecordContext,
    how: Mapping[str, Any],
) -> list[ResultRecord]:
    rows = index.products.to_pylist()
    if all(row[DESCRIPTION] is None for row in rows):
        return []  # pictures from files
    encoder.template.validate(index.tag_columns)
    texts = [encoder.template.render(row, row[DESCRIPTION] or "") for row in rows]
    distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    group = torch.tensor([distinct[text] for text in texts])
    query = encoder.embed_texts(list(distinct))[group]
    context = replace(context, text=encoder.template.template)
    records = []
    for positives, ids in (("product", torch.arange(len(rows))), ("text", group)):
        values = _of_ranks(ranks(query, gallery, ids, ids))
        records += _records(values, settings, context, BY_TEXT, positives, len(index), how)
    return records


def _by_tag(
    index: ProductIndex,
    encoder: Encoder,
    gallery: Tensor,
    column: str,
    settings: SearchSettings,
    context: RecordContext,
    how: Mapping[str, Any],
) -> list[ResultRecord]:
    own: list[str | None] = index.products[column].to_pylist()
    counts: dict[str, int] = {}
    for value in own:
        if value is not None:
            counts[value] = counts.get(value, 0) + 1
    values = sorted(value for value, count in counts.items() if count >= settings.min_products)
    if not values:
        raise E2FashionError(
            f"no value of '{column}' has {settings.min_products} products in {index.path}: lower min_products, or ask "
            "for another tag"
        )
    number = {value: place for place, value in enumerate(values)}
    ids = torch.tensor([-1 if value is None else number.get(value, -1) for value in own])
    query = encoder.embed_texts([settings.template.replace(SLOT, value) for value in values])
    found = index.nearest_rows(query, top=max(TOP_K), engine="exact")[1]
    relevant = ids[found] == torch.arange(len(values))[:, None]
    measured = {f"P@{k}": precision_at(relevant, k) for k in TOP_K}
    measured |= _of_ranks(ranks(query, gallery, torch.arange(len(values)), ids))
    extra = {
        **how,
        "entity": column,
        "templates": settings.template,
        "min_products": settings.min_products,
        "rare_values": len(counts) - len(values),
        "chance": 100 * sum(counts[value] for value in values) / len(values) / len(index),
    }
    return _records(measured, settings, context, BY_TAG, column, len(index), extra)


def _of_ranks(found: Tensor) -> dict[str, Tensor]:
    return {f"hits@{k}": hits_at(found, k) for k in TOP_K} | {"MRR": found.double().reciprocal()}


def _context(index: ProductIndex, encoder: Encoder, run: RunIdentity) -> RecordContext:
    origins = [shard.origin for shard in index.manifest.shards]
    fingerprints = list(dict.fromkeys(origin.fingerprint for origin in origins))
    splits = list(dict.fromkeys(split for origin in origins for split in origin.splits))
    whole = len(fingerprints) == 1 and not any(shard.removed for shard in index.manifest.shards)
    # What was added or removed since makes other data of it.
    return run.context(encoder.name, ",".join(splits), fingerprints[0] if whole else index.manifest.data_fingerprint)


def _records(
    measured: Mapping[str, Tensor],
    settings: SearchSettings,
    context: RecordContext,
    protocol: str,
    positives: str,
    count: int,
    extra: Mapping[str, Any],
) -> list[ResultRecord]:
    """One record per metric, of values by query (Q,)."""
    values = torch.stack(list(measured.values()), dim=1).double()
    queries = len(values)
    means = weighted_means(values, torch.arange(queries), queries)
    low, high = interval(bootstrap(means, queries, settings.resamples, settings.seed))
    return [
        SEARCH.record(
            context,
            metric,
            float(values[:, place].mean()),
            float(low[place]),
            float(high[place]),
            protocol=protocol,
            direction="t2i",
            positives=positives,
            queries=queries,
            candidates=float(count),
            extra=extra,
        )
        for place, metric in enumerate(measured)
    ]
