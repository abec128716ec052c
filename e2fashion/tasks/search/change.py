"""Add products to an index, embed some anew, or remove some; whatever fails or is interrupted leaves it as it was.

A change that was the last one already is not made again: its command may have been killed right behind the commit.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from e2fashion.disk import locked
from e2fashion.encoder import Encoder
from e2fashion.tasks.search.build import EmbedSettings, change_of, embed_pending, request_of
from e2fashion.tasks.search.filters import suggest
from e2fashion.tasks.search.index import ProductIndex, open_index
from e2fashion.tasks.search.manifest import IndexManifest, Pending
from e2fashion.tasks.search.shards import discard_others
from e2fashion.tasks.search.sources import Products, ProductSource, open_products
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)


def add_products(
    path: str | Path,
    encoder: Encoder,
    source: ProductSource,
    split: str = "all",
    settings: EmbedSettings | None = None,
) -> ProductIndex:
    """Embed the products of ``source``, none of which the index may hold yet, and add them.

    Repeated with the same source it changes nothing, and a warning says so.

    Raises:
        E2FashionError: one is there already, or as for :func:`~e2fashion.tasks.search.build.build_index`.
    """
    with locked(Path(path)):
        return _embed_more("add", Path(path), encoder, source, split, settings or EmbedSettings())


def update_products(
    path: str | Path,
    encoder: Encoder,
    source: ProductSource,
    split: str = "all",
    settings: EmbedSettings | None = None,
) -> ProductIndex:
    """Embed the products of ``source``, all of which the index must hold, and replace what it holds of them.

    Repeated with the same source it changes nothing, and a warning says so.

    Raises:
        E2FashionError: one is not there, or as for :func:`~e2fashion.tasks.search.build.build_index`.
    """
    with locked(Path(path)):
        return _embed_more("update", Path(path), encoder, source, split, settings or EmbedSettings())


def remove_products(path: str | Path, product_ids: Sequence[str]) -> ProductIndex:
    """Take products out of an index: they are not found any more, and their rows are let go with their shard.

    Repeated with the same ids it changes nothing, and a warning says so.

    Raises:
        E2FashionError: no ids, an id twice, one that the index does not hold, or all of them. Nothing is removed then.
    """
    with locked(Path(path)):
        return _remove(Path(path), product_ids)


def _remove(path: Path, product_ids: Sequence[str]) -> ProductIndex:
    index = open_index(path)
    _require_idle(index)
    wanted = list(product_ids)
    if not wanted:
        raise E2FashionError("there are no ids to remove: name one product or more")
    if len(set(wanted)) < len(wanted):
        doubled = Counter(wanted).most_common(1)[0][0]
        raise E2FashionError(f"product '{doubled}' is to be removed twice: name it once")
    change = change_of("remove", "\0".join(sorted(wanted)))
    if index.manifest.last_change == change:
        return _unchanged(index, f"these {len(wanted)} products were removed already")
    rows: dict[str, list[int]] = {}
    for name, row in _rows_of(index, wanted).values():
        rows.setdefault(name, []).append(row)
    if len(wanted) == len(index):
        raise E2FashionError(
            f"all {len(index)} products would be removed, and an index cannot be empty: delete the folder {path}"
        )
    manifest = replace(index.manifest.without_rows(rows), last_change=change)
    manifest.save(index.path)
    discard_others(index.path, manifest.shards)
    return open_index(path, verify=False)


def _embed_more(
    verb: str, folder: Path, encoder: Encoder, source: ProductSource, split: str, settings: EmbedSettings
) -> ProductIndex:
    products = open_products(source, split, all_exist=settings.on_error == "stop")
    index = open_index(folder, encoder)
    ids: list[str] = products.ids.to_pylist()
    skipped = [name for name in ids if name in index.manifest.skipped]
    same = index.manifest.last_change == change_of(verb, request_of(products))
    if same and not (skipped and settings.on_error == "stop"):  # skipped pictures are not passed over then
        return _unchanged(index, f"the {verb} of these {len(ids)} products was made already")
    there = set(index.product_ids)
    wrong = [name for name in ids if (name in there) == (verb == "add")]
    if wrong and verb == "add":
        raise E2FashionError(
            f"{len(wrong)} of {len(ids)} products are in {folder} already, the first is '{wrong[0]}': use 'e2fashion "
            "index update' for those"
        )
    if wrong:
        raise E2FashionError(
            f"{len(wrong)} of {len(ids)} products are not in {folder}, the first is '{wrong[0]}' (near it: "
            f"{suggest(wrong[0], index.product_ids)}): use 'e2fashion index add' for those"
        )
    manifest = _started(verb, index.manifest, products)
    manifest.save(folder)
    replaced = {} if verb == "add" else _rows_of(index, ids)
    embed_pending(folder, manifest, encoder, products, range(len(ids)), settings, replaced)
    return open_index(folder, encoder, verify=False)


def _started(verb: str, manifest: IndexManifest, products: Products) -> IndexManifest:
    """The manifest with what is to be embedded, or as it is where the same was interrupted."""
    request = request_of(products)
    pending = manifest.pending
    if pending is not None and (pending.verb, pending.request) == (verb, request):
        logger.info("going on behind %s of %s products", f"{pending.done:,}", f"{pending.total:,}")
        return manifest
    if pending is not None:
        logger.warning(
            "what was left of an interrupted %s (%d of %d products) is given up",
            pending.verb,
            pending.done,
            pending.total,
        )
    return replace(manifest, pending=Pending(verb, request, len(products.ids)))


def _unchanged(index: ProductIndex, why: str) -> ProductIndex:
    """The index as it is, without the files that a kill behind the commit left there."""
    logger.warning("%s: %s, nothing is changed", index.path, why)
    pending = index.manifest.pending
    discard_others(index.path, [*index.manifest.shards, *(pending.shards if pending else ())])
    return index


def _require_idle(index: ProductIndex) -> None:
    pending = index.manifest.pending
    if pending is not None:
        raise E2FashionError(
            f"an {pending.verb} of {index.path} was interrupted ({pending.done} of {pending.total} products): finish "
            "it by repeating its command first"
        )


def _rows_of(index: ProductIndex, product_ids: Sequence[str]) -> dict[str, tuple[str, int]]:
    """The name of the shard and the row in it of every product."""
    places = {name: row for row, name in enumerate(index.product_ids)}
    unknown = [name for name in product_ids if name not in places]
    if unknown:
        raise E2FashionError(
            f"{len(unknown)} of {len(product_ids)} products are not in {index.path}, the first is '{unknown[0]}'; near "
            f"it: {suggest(unknown[0], index.product_ids)}"
        )
    stored = index.gallery.stored_rows(torch.tensor([places[name] for name in product_ids])).numpy()
    starts = np.cumsum([0, *(shard.rows for shard in index.manifest.shards)])
    numbers = (np.searchsorted(starts, stored, side="right") - 1).tolist()
    return {
        name: (index.manifest.shards[number].name, row - int(starts[number]))
        for name, row, number in zip(product_ids, stored.tolist(), numbers, strict=True)
    }
