"""Write what an index lacks of a source: compare by checksums, embed, and commit, product by product.

Also the choice of the text's share in vectors of image and text, on val.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import pyarrow as pa
import torch
import xxhash
from torch import Tensor

from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder
from e2fashion.tasks.search.changes import writing
from e2fashion.tasks.search.config import EmbedConfig
from e2fashion.tasks.search.engines import Embedder, embed_here, embed_with_ray, joined, texts_of
from e2fashion.tasks.search.facts import IndexFacts
from e2fashion.tasks.search.places import Place
from e2fashion.tasks.search.sources import CatalogueProducts, Products
from e2fashion.tasks.search.storage import (
    CONTENT,
    DESCRIPTION,
    LOCATION,
    PRODUCT_ID,
    ROW_SUM,
    SOURCE,
    VECTOR,
    VECTOR_SUM,
    VIEW,
    among,
    fitted,
    open_table,
    read_rows,
    row_sums,
    table_schema,
    vector_sums,
)
from e2fashion.tasks.search.tags import Typing
from e2fashion.terminal import progress_bar
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)
ROWS_AT_ONCE = 2000


def write_products(
    place: Place, encoder: Encoder, products: Products, config: EmbedConfig, progress: bool, may_replace: bool = True
) -> None:
    """Embed and write what an index lacks of a source, and note what is skipped.

    Raises:
        E2FashionError: products differ from those of the index and ``may_replace`` is off, or a tag of another kind.
    """
    facts = _with_new_tags(place, products)
    reads = encoder if facts.text_weight else None
    plan = _plan(place, products, facts.typing, reads)
    if plan.replaced and not may_replace:
        raise E2FashionError(
            f"{len(plan.replaced)} products are in {place} already and differ, the first is '{plan.replaced[0]}': "
            "replace=true replaces them"
        )
    if plan.unchanged:
        counts = (plan.unchanged, len(plan.positions), len(plan.embedded))
        logger.info("%s: %d products are unchanged; images of others: %d, of which %d are embedded", place, *counts)
    parts = list(_whole_products(products.ids, config.commit_rows, plan.positions))
    batches = [
        wanted[start : start + config.batch_size]
        for part in parts
        for wanted in ([position for position in part if position in plan.embedded],)
        for start in range(0, len(wanted), config.batch_size)
    ]
    skipped: dict[str, str] = {}
    written = 0
    embed = embed_here if config.engine == "local" else embed_with_ray
    items = embed(Embedder(encoder, products, facts), batches, config)
    with (
        closing(items),
        progress_bar(total=len(plan.embedded), desc=f"embed with {encoder.name}", unit="image", shown=progress) as bar,
    ):
        for part in parts:
            vectors: dict[int, Tensor] = {}
            for _ in range(sum(position in plan.embedded for position in part)):
                position, made = next(items)
                if isinstance(made, Tensor):
                    vectors[position] = made
                else:
                    product = products.ids[position].as_py()
                    if config.on_error == "stop":
                        remedy = "or leave such images out with on_error=skip."
                        raise E2FashionError(f"product '{product}': {made.rstrip('.')}; {remedy}")
                    skipped[product] = made
                bar.update()
            vectors |= _stored_vectors(place, products, [each for each in part if each not in plan.embedded])
            written += _commit(place, products, vectors, facts, reads)
    _note_skipped(place, products, skipped)
    if skipped and not written and not len(open_table(place)):
        raise E2FashionError(
            f"none of the {len(products.ids)} images can be read; the first: {next(iter(skipped.values()))}"
        )


def tags_of(products: Products, positions: Sequence[int] | None = None) -> pa.Table:
    """The tags of these images (None: of all)."""
    chosen = range(len(products.ids)) if positions is None else positions
    return products.table(chosen).drop_columns([PRODUCT_ID, VIEW, DESCRIPTION, LOCATION])


@dataclass(frozen=True)
class _Plan:
    """What of a source an index lacks: positions of the images, and which of them must be embedded."""

    positions: list[int]
    embedded: set[int]
    replaced: list[str]
    unchanged: int


def _plan(place: Place, products: Products, typing: Typing, encoder: Encoder | None) -> _Plan:
    """Compare the images, texts and tags of a source with what an index holds."""
    few = among(sorted(set(products.ids.to_pylist()))) if len(products.ids) <= ROWS_AT_ONCE else None
    held = read_rows(place, [PRODUCT_ID, VIEW, CONTENT, ROW_SUM], few).to_pydict()
    keys = zip(held[PRODUCT_ID], held[VIEW], strict=True)
    stored = dict(zip(keys, zip(held[CONTENT], held[ROW_SUM], strict=True), strict=True))
    views_held = Counter(held[PRODUCT_ID])
    changed, embedded, replaced = [], set(), []
    unchanged = 0
    for positions in _whole_products(products.ids, ROWS_AT_ONCE):
        new: list[int] = []
        known: list[int] = []
        for position, product in zip(positions, products.ids.take(pa.array(positions)).to_pylist(), strict=True):
            (known if product in views_held else new).append(position)
        if new:  # their images need not be read here
            typing.typed(products.table(new))  # a value that is no number is refused before anything is embedded
            changed += new
            embedded |= set(new)
        if not known:
            continue
        rows = _rows(products, known, typing, encoder)
        by_product: dict[str, list[tuple[int, bool, bool]]] = {}
        columns = (rows[name].to_pylist() for name in (PRODUCT_ID, VIEW, CONTENT, ROW_SUM))
        for position, product, view, content, row_sum in zip(known, *columns, strict=True):
            before = stored.get((product, view), (None, None))
            by_product.setdefault(product, []).append((position, before[0] == content, before == (content, row_sum)))
        for product, images in by_product.items():
            if all(same for _, _, same in images) and len(images) == views_held.get(product):
                unchanged += 1
                continue
            changed += [position for position, _, _ in images]
            embedded |= {position for position, has_vector, _ in images if not has_vector}
            replaced.append(product)
    return _Plan(sorted(changed), embedded, replaced, unchanged)


def _whole_products(ids: pa.Array, at_least: int, positions: Sequence[int] | None = None) -> Iterator[list[int]]:
    """Positions in lists of ``at_least`` (but the last one), with all images of a product in one list."""
    found: list[int] = []
    for position in range(len(ids)) if positions is None else positions:
        if len(found) >= at_least and ids[position] != ids[found[-1]]:
            yield found
            found = []
        found.append(position)
    if found:
        yield found


def _rows(products: Products, positions: Sequence[int], typing: Typing, encoder: Encoder | None) -> pa.Table:
    """The rows of a table for these images, without vectors: typed tags, and checksums.

    The texts by the template of an ``encoder`` belong to what a vector is made from.
    """
    given = products.table(positions)
    rows = typing.typed(given)
    source = products.origin.path if products.origin.kind == "catalogue" else ""
    rows = rows.append_column(SOURCE, pa.array([source] * len(rows), pa.string()))
    contents = [xxhash.xxh3_128_hexdigest(products.content(position)) for position in positions]
    if encoder is not None:
        texts = texts_of(encoder, given)
        both = zip(contents, texts, strict=True)
        contents = [xxhash.xxh3_128_hexdigest(f"{of_image} {text}".encode()) for of_image, text in both]
    rows = rows.append_column(CONTENT, pa.array(contents, pa.string()))
    return rows.append_column(ROW_SUM, pa.array(row_sums(rows), pa.string()))


def _with_new_tags(place: Place, products: Products) -> IndexFacts:
    """The facts of an index, after columns for tags that it lacks were added to its table."""
    facts = IndexFacts.load(place)
    columns = tags_of(products, range(min(1, len(products.ids)))).column_names
    if set(columns) <= set(facts.typing.kinds):
        return facts
    tags = tags_of(products)
    with writing(place) as change:
        typing = change.facts.typing.extended(tags)
        schema = table_schema(facts.width, typing.types)
        if new := [item for item in schema if item.name not in change.table.schema.names]:
            change.table.add_columns(new)
        change.facts = replace(change.facts, typing=typing)
    return change.facts


def _stored_vectors(place: Place, products: Products, positions: Sequence[int]) -> dict[int, Tensor]:
    """The vectors (C,) fp16 that an index holds of images."""
    if not positions:
        return {}
    rows = products.table(positions)
    ids = sorted(set(rows[PRODUCT_ID].to_pylist()))
    held = read_rows(place, [PRODUCT_ID, VIEW, VECTOR], among(ids))
    vectors = torch.from_numpy(held[VECTOR].combine_chunks().flatten().to_numpy().copy()).view(len(held), -1)
    row_of = {
        key: row for row, key in enumerate(zip(held[PRODUCT_ID].to_pylist(), held[VIEW].to_pylist(), strict=True))
    }
    keys = zip(rows[PRODUCT_ID].to_pylist(), rows[VIEW].to_pylist(), strict=True)
    return {position: vectors[row_of[key]] for position, key in zip(positions, keys, strict=True) if key in row_of}


def _commit(
    place: Place, products: Products, vectors: Mapping[int, Tensor], facts: IndexFacts, encoder: Encoder | None
) -> int:
    """Write the images of whole products with their vectors (C,) fp16, in place of what there was of these products.

    Raises:
        E2FashionError: a vector is not finite.
    """
    if not vectors:
        return 0
    positions = sorted(vectors)
    stacked = torch.stack([vectors[position] for position in positions])
    bad = (~stacked.isfinite().all(dim=-1)).nonzero().flatten()
    if len(bad):
        product = products.ids[positions[int(bad[0])]].as_py()
        raise E2FashionError(
            f"{len(bad)} embeddings are not finite, the first is that of product '{product}': the model has diverged"
        )
    values = pa.array(stacked.numpy().reshape(-1), pa.float16())
    column = pa.FixedSizeListArray.from_arrays(values, stacked.shape[1])
    rows = _rows(products, positions, facts.typing, encoder)
    rows = rows.append_column(VECTOR_SUM, vector_sums(column)).append_column(VECTOR, column)
    with writing(place) as writer:
        table = writer.table
        rows = fitted(rows, table.schema)
        former = among(sorted(set(rows[PRODUCT_ID].to_pylist())))
        if not table.count_rows(former):
            table.add(rows)  # keeps their order
        else:
            change = table.merge_insert([PRODUCT_ID, VIEW]).when_matched_update_all().when_not_matched_insert_all()
            change.when_not_matched_by_source_delete(former).execute(rows)
    return len(rows)


def _note_skipped(place: Place, products: Products, skipped: dict[str, str]) -> None:
    if not skipped and not IndexFacts.load(place).skipped:
        return
    with writing(place) as change:
        there = set(products.ids.to_pylist()) if change.facts.skipped else set()
        kept = {product: why for product, why in change.facts.skipped.items() if product not in there}
        change.facts = replace(change.facts, skipped=kept | skipped)
    if skipped:
        logger.warning("%d products were skipped, the first: %s", len(skipped), next(iter(skipped.values())))


TEXT_WEIGHTS = tuple(step / 10 for step in range(10))
BEST, LEAST_PRODUCTS, BATCH_SIZE = 10, 5, 64


def choose_text_weight(encoder: Encoder, products: Products) -> float:
    """The share with the highest P@10 of tag values, asked for by their names, among the images of the val split.

    The smallest of equal ones. Values of fewer than five images are not asked for (ours).

    Raises:
        E2FashionError: the source is no catalogue with a val split and such values.
    """
    origin = products.origin
    catalogue = Catalogue.load(origin.path) if origin.kind == "catalogue" else None
    if catalogue is None or "val" not in catalogue.split_names:
        raise E2FashionError(f"text_weight cannot be chosen on {origin.path}, which has no val split: give it")
    val = CatalogueProducts(catalogue, ["val"])
    positions = range(len(val.ids))
    squares = [
        torch.stack([val.square(position, encoder.transform) for position in positions[start : start + BATCH_SIZE]])
        for start in range(0, len(positions), BATCH_SIZE)
    ]
    images = torch.cat([encoder.embed_squares(part) for part in squares])
    texts = texts_of(encoder, val.table(positions))
    text_embeds = encoder.embed_texts(texts)
    asked = []
    for values in (catalogue.split("val")[tag] for tag in catalogue.tag_columns):
        names = sorted(name for name, count in Counter(filter(None, values)).items() if count >= LEAST_PRODUCTS)
        right = torch.tensor([[value == name for value in values] for name in names])
        asked += [(encoder.embed_texts(names), right)] if names else []
    if not asked:
        raise E2FashionError(f"text_weight cannot be chosen on {origin.path}: its val split has too few tags: give it")

    def precision(weight: float) -> float:
        gallery = joined(images, texts, text_embeds, weight)
        return sum(_precision(query, gallery, right) for query, right in asked) / len(asked)

    measured = {weight: precision(weight) for weight in TEXT_WEIGHTS}
    chosen = max(measured, key=lambda weight: (measured[weight], -weight))
    logger.info("text_weight %.1f: P@%d %.1f %%, without texts %.1f %%", chosen, BEST, measured[chosen], measured[0.0])
    return chosen


def _precision(query: Tensor, gallery: Tensor, right: Tensor) -> float:
    """P@10 in percent, or at as many as there are, the mean over queries (Q, C) with right answers (Q, N)."""
    found = (query @ gallery.T).topk(min(BEST, len(gallery)), dim=1).indices
    most = right.sum(1).clamp(max=found.shape[1])
    return float((100 * right.gather(1, found).sum(1) / most).mean())
