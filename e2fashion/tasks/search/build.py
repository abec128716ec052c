"""Embed products into an index, shard by shard; add, update and remove some.

What is interrupted goes on behind the last whole shard, and a change that fails leaves the index as it was. A change
that was the last one already is not made again: its command may have been killed right behind the commit.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from e2fashion.arithmetic import set_threads
from e2fashion.data.transforms import ImageTransform
from e2fashion.disk import clear_leftovers, locked
from e2fashion.encoder import Encoder, require_single_vectors
from e2fashion.hub import StoredSource
from e2fashion.measuring import load_named, to_device
from e2fashion.tasks.search.config import EmbedConfig, IndexBuildConfig, IndexChangeConfig, IndexRemoveConfig
from e2fashion.tasks.search.index import ProductIndex, check_same_encoder, load_index_encoder, open_index
from e2fashion.tasks.search.query import suggest
from e2fashion.tasks.search.sources import Products, ProductSource, open_products
from e2fashion.tasks.search.storage import (
    INDEX_FILE,
    IndexedEncoder,
    IndexManifest,
    Pending,
    discard_others,
    read_shard,
    write_shard,
)
from e2fashion.terminal import progress_bar
from e2fashion.text_files import read_list
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)


def build(config: IndexBuildConfig, progress: bool = True) -> ProductIndex:
    """Load the model of a configuration and build the index; as :func:`build_index`."""
    set_threads(config.threads)
    encoder, _ = load_named(config)
    to_device(encoder, config.accelerator)
    return build_index(encoder, config.source, config.output, config, config.model, progress)


def change(config: IndexChangeConfig, update: bool, progress: bool = True) -> ProductIndex:
    """Load the model of an index and embed more products; as :func:`add_products` and :func:`update_products`."""
    encoder = load_index_encoder(config)
    return (update_products if update else add_products)(config.index, encoder, config.source, config, progress)


def remove(config: IndexRemoveConfig) -> ProductIndex:
    """Remove the products that a configuration lists; as :func:`remove_products`."""
    listed = read_list(Path(config.file), "a text file with one product id a line") if config.file is not None else []
    return remove_products(config.index, [*config.ids, *listed])


def build_index(
    encoder: Encoder,
    source: ProductSource,
    output: str | Path,
    config: EmbedConfig | None = None,
    encoder_source: str = "",
    progress: bool = True,
) -> ProductIndex:
    """Embed the products of a catalogue, or images in files, into the folder ``output``.

    Called again after an interrupt it goes on; called again when done it opens what is there. ``encoder_source`` is the
    folder or hub name that loads the encoder; the index remembers it.

    Raises:
        E2FashionError: ``output`` holds something else, a product occurs twice, an image cannot be read, or the encoder
            compares tokens.
    """
    require_single_vectors(encoder, "an index")
    config = config or EmbedConfig()
    folder, products = Path(output), open_products(source, config.split, config.on_error == "stop")
    with locked(folder):
        manifest = _started_build(folder, encoder, encoder_source, products)
        if manifest.pending is not None:
            _embed_pending(folder, manifest, encoder, products, config, progress)
    return open_index(folder, encoder, verify=False)


def add_products(
    path: str | Path,
    encoder: Encoder,
    source: ProductSource,
    config: EmbedConfig | None = None,
    progress: bool = True,
) -> ProductIndex:
    """Embed the products of ``source``, none of which the index may hold yet, and add them.

    Repeated with the same source it changes nothing, and a warning says so.

    Raises:
        E2FashionError: the index holds one already, or as for :func:`build_index`.
    """
    with locked(Path(path)):
        return _embed_more("add", Path(path), encoder, source, config or EmbedConfig(), progress)


def update_products(
    path: str | Path,
    encoder: Encoder,
    source: ProductSource,
    config: EmbedConfig | None = None,
    progress: bool = True,
) -> ProductIndex:
    """Embed the products of ``source``, all of which the index must hold, and replace what it holds of them.

    Repeated with the same source it changes nothing, and a warning says so.

    Raises:
        E2FashionError: the index lacks one, or as for :func:`build_index`.
    """
    with locked(Path(path)):
        return _embed_more("update", Path(path), encoder, source, config or EmbedConfig(), progress)


def remove_products(path: str | Path, product_ids: Sequence[str]) -> ProductIndex:
    """Remove products from an index: searches skip their rows, and a shard without a row left is deleted.

    Repeated with the same ids it changes nothing, and a warning says so.

    Raises:
        E2FashionError: no ids, an id twice, one that the index does not hold, or all of them. Nothing is removed then.
    """
    with locked(Path(path)):
        index = open_index(path)
        if (pending := index.manifest.pending) is not None:
            raise E2FashionError(
                f"an {pending.verb} of {index.path} was interrupted ({pending.done} of {pending.total} products): "
                "finish it by repeating its command first"
            )
        wanted = list(product_ids)
        if not wanted:
            raise E2FashionError("there are no ids to remove: name one product or more")
        if len(set(wanted)) < len(wanted):
            doubled = Counter(wanted).most_common(1)[0][0]
            raise E2FashionError(f"product '{doubled}' is to be removed twice: name it once")
        last_change = _change_id("remove", "\0".join(sorted(wanted)))
        if index.manifest.last_change == last_change:
            return _unchanged(index, f"these {len(wanted)} products were removed already")
        rows = _by_shard(_stored_rows(index, wanted).values())
        if len(wanted) == len(index):
            raise E2FashionError(
                f"all {len(index)} products would be removed, and an index cannot be empty: delete the folder {path}"
            )
        manifest = replace(index.manifest.without_rows(rows), last_change=last_change)
        manifest.save(index.path)
        discard_others(index.path, manifest.shards)
        return open_index(path, verify=False)


def _request_id(products: Products) -> str:
    """The identity of the products that are embedded: their origin and ids."""
    ids = hashlib.sha256("\0".join(products.ids.to_pylist()).encode()).hexdigest()
    return hashlib.sha256(json.dumps([asdict(products.origin), ids]).encode()).hexdigest()


def _change_id(verb: str, request: str) -> str:
    """The identity of a change of an index: its verb and its request."""
    return hashlib.sha256(f"{verb}\0{request}".encode()).hexdigest()


def _started_build(folder: Path, encoder: Encoder, source: str, products: Products) -> IndexManifest:
    """The manifest of an index to go on with or that is done, or of a new one."""
    request = _request_id(products)
    if (folder / INDEX_FILE).is_file():
        manifest = IndexManifest.load(folder)
        check_same_encoder(folder, manifest, encoder)
        building = manifest.pending if not manifest.shards else None
        if (building.request if building else manifest.built_from) != request:
            raise E2FashionError(
                f"'{folder}' holds an index of other products: choose another output, remove the folder, or use "
                "'e2fashion index add'"
            )
        if _is_whole(folder, manifest):
            if building is None:
                logger.info("%s holds these products already", folder)
            elif building.done:
                logger.info("going on behind %s of %s products", f"{building.done:,}", f"{building.total:,}")
            return manifest
    else:
        clear_leftovers(folder / INDEX_FILE)  # of a build that was killed while it wrote its first manifest
        if folder.exists() and any(folder.iterdir()):
            raise E2FashionError(f"'{folder}' is no index and not empty: choose another folder for the index")
        folder.mkdir(parents=True, exist_ok=True)
    return _new_manifest(folder, encoder, source, products, request)


def _is_whole(folder: Path, manifest: IndexManifest) -> bool:
    """Whether all shards are what was written; False, with a warning, where building again loses nothing.

    Raises:
        E2FashionError: a shard is damaged, and products were added or removed since the index was built.
    """
    shards = manifest.all_shards
    try:
        for shard in shards:
            read_shard(folder, shard, manifest.encoder.dimension)
    except E2FashionError as damage:
        if any(shard.origin != shards[0].origin or shard.removed for shard in shards):
            raise
        logger.warning("%s. It is built again", damage)
        return False
    return True


def _new_manifest(folder: Path, encoder: Encoder, source: str, products: Products, request: str) -> IndexManifest:
    """The manifest of an index without products yet."""
    from e2fashion import __version__

    transform, location = encoder.transform, StoredSource.of(source, folder)
    identity = IndexedEncoder(
        encoder.name, encoder.fingerprint, encoder.dimension, transform.size, transform.resize, **asdict(location)
    )
    pending = Pending("build", request, len(products.ids))
    manifest = IndexManifest(identity, pending=pending, built_from=request, created_by=f"e2fashion {__version__}")
    manifest.save(folder)
    return manifest


def _embed_more(
    verb: str, folder: Path, encoder: Encoder, source: ProductSource, config: EmbedConfig, progress: bool
) -> ProductIndex:
    products = open_products(source, config.split, config.on_error == "stop")
    index = open_index(folder, encoder)
    manifest, request, ids = index.manifest, _request_id(products), products.ids.to_pylist()
    some_skipped = any(name in manifest.skipped for name in ids)
    # Images that were skipped are an error where on_error says so, also the second time.
    if manifest.last_change == _change_id(verb, request) and not (some_skipped and config.on_error == "stop"):
        return _unchanged(index, f"the {verb} of these {len(ids)} products was made already")
    replaced: dict[str, tuple[str, int]] = {}
    held = set(index.product_ids)
    if verb == "update":
        replaced = _stored_rows(index, ids, ": use 'e2fashion index add' for those")
    elif there := [name for name in ids if name in held]:
        raise E2FashionError(
            f"{len(there)} of {len(ids)} products are in {folder} already, the first is '{there[0]}': use 'e2fashion "
            "index update' for those"
        )
    pending = manifest.pending
    if pending is not None and (pending.verb, pending.request) == (verb, request):
        logger.info("going on behind %s of %s products", f"{pending.done:,}", f"{pending.total:,}")
    else:
        if pending is not None:
            logger.warning(
                "the interrupted %s (%d of %d products) is given up", pending.verb, pending.done, pending.total
            )
        manifest = replace(manifest, pending=Pending(verb, request, len(ids)))
    manifest.save(folder)
    _embed_pending(folder, manifest, encoder, products, config, progress, replaced)
    return open_index(folder, encoder, verify=False)


def _unchanged(index: ProductIndex, why: str) -> ProductIndex:
    """The index as it is, without the files that a kill behind the commit left there."""
    logger.warning("%s: %s, nothing is changed", index.path, why)
    discard_others(index.path, index.manifest.all_shards)
    return index


def _stored_rows(index: ProductIndex, product_ids: Sequence[str], remedy: str = "") -> dict[str, tuple[str, int]]:
    """The name of the shard and the row in it of every product."""
    rows = {name: row for row, name in enumerate(index.product_ids)}
    unknown = [name for name in product_ids if name not in rows]
    if unknown:
        raise E2FashionError(
            f"{len(unknown)} of {len(product_ids)} products are not in {index.path}, the first is '{unknown[0]}' (near "
            f"it: {suggest(unknown[0], index.product_ids)}){remedy}"
        )
    stored = index.stored_at([rows[name] for name in product_ids])
    shards = index.manifest.shards
    return {name: (shards[number].name, row) for name, (number, row) in zip(product_ids, stored, strict=True)}


def _by_shard(rows: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for name, row in rows:
        found.setdefault(name, []).append(row)
    return found


def _embed_pending(
    folder: Path,
    manifest: IndexManifest,
    encoder: Encoder,
    products: Products,
    config: EmbedConfig,
    progress: bool,
    replaced: Mapping[str, tuple[str, int]] | None = None,
) -> None:
    """Embed what ``manifest.pending`` lacks; when it is complete, its shards are searched.

    After every shard the manifest is written, so that an interrupt costs one shard at most. ``replaced`` are products
    with the shard (its name) and the row that stop counting when the new ones begin to.
    """
    pending = manifest.pending
    assert pending is not None
    total = pending.total
    shards = [
        range(start, min(start + config.shard_rows, total)) for start in range(pending.done, total, config.shard_rows)
    ]
    batches: Any = [  # ranges, which serve as lists
        shard[start : start + config.batch_size]
        for shard in shards
        for start in range(0, len(shard), config.batch_size)
    ]
    ends = {shard.stop for shard in shards}
    loader = DataLoader(
        _Squares(products, encoder.transform), batch_sampler=batches, collate_fn=list, num_workers=config.workers
    )
    embeds: list[Tensor] = []
    embedded: list[int] = []
    skipped = dict(pending.skipped)
    description = f"embed with {encoder.name}"
    with progress_bar(total=total, initial=pending.done, desc=description, unit="product", shown=progress) as bar:
        for batch, items in zip(batches, loader, strict=True):
            for position, _, problem in items:
                if problem is not None:
                    product = products.ids[position].as_py()
                    if config.on_error == "stop":
                        raise E2FashionError(f"product '{product}': {problem}")
                    skipped[product] = problem
            squares = [square for _, square, _ in items if square is not None]
            if squares:
                embeds.append(encoder.embed_squares(torch.stack(squares)).half())  # as stored
                embedded += [position for position, square, _ in items if square is not None]
            bar.update(len(items))
            if batch.stop in ends:
                if embedded:
                    table = products.table(embedded)
                    shard = write_shard(folder, manifest.next_name(), torch.cat(embeds), table, products.origin)
                    pending = replace(pending, shards=[*pending.shards, shard])
                pending = replace(pending, done=batch.stop, skipped=dict(skipped))
                manifest = replace(manifest, pending=pending)
                manifest.save(folder)
                embeds, embedded = [], []
    if pending.skipped:
        logger.warning("%d products were skipped, the first: %s", len(pending.skipped), next(iter(pending.skipped)))
    if not manifest.shards and not pending.shards:
        raise E2FashionError(
            f"none of the {total} images can be read; the first: {next(iter(pending.skipped.values()))}"
        )
    former = [stored for product, stored in (replaced or {}).items() if product not in pending.skipped]
    requested = set(products.ids.to_pylist())
    skipped_before = {name: why for name, why in manifest.skipped.items() if name not in requested}
    manifest = manifest.without_rows(_by_shard(former))
    manifest = replace(
        manifest,
        shards=[*manifest.shards, *pending.shards],
        skipped=skipped_before | pending.skipped,
        last_change="" if pending.verb == "build" else _change_id(pending.verb, pending.request),
        pending=None,
    )
    manifest.save(folder)
    discard_others(folder, manifest.shards)


#: A product's position, its square, and what is wrong with its image.
_Item = tuple[int, Tensor | None, str | None]


class _Squares(Dataset[_Item]):
    """The square of every product, or why there is none."""

    def __init__(self, products: Products, transform: ImageTransform) -> None:
        self._products, self._transform = products, transform

    def __getitem__(self, position: int) -> _Item:
        try:
            return position, self._products.square(position, self._transform), None
        except E2FashionError as error:  # raised by the main process: a worker's would come with its traceback
            return position, None, str(error)
