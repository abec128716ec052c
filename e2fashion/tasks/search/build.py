"""Embed products into an index, shard by shard: what is interrupted goes on behind the last whole shard."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from e2fashion.data.transforms import ImageTransform
from e2fashion.disk import clear_leftovers, locked
from e2fashion.encoder import Encoder, require_single_vectors
from e2fashion.hub import StoredPlace
from e2fashion.tasks.search.index import ProductIndex, check_same_encoder, open_index
from e2fashion.tasks.search.manifest import INDEX_FILE, IndexedEncoder, IndexManifest, Pending, Shard
from e2fashion.tasks.search.shards import discard_others, read_shard, write_shard
from e2fashion.tasks.search.sources import Products, ProductSource, open_products
from e2fashion.terminal import progress_bar
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

SHARD_ROWS = 8_192
BATCH_SIZE = 64


@dataclass(frozen=True)
class EmbedSettings:
    """How products are embedded.

    ``shard_rows`` products go into a file, and are lost at most when a build is killed. ``workers`` processes decode
    pictures beside this one (0: this one does). ``on_error`` ``skip`` lists products whose picture cannot be read in
    the index and goes on.
    """

    shard_rows: int = SHARD_ROWS
    batch_size: int = BATCH_SIZE
    workers: int = 0
    on_error: Literal["stop", "skip"] = "stop"
    progress: bool = True

    def __post_init__(self) -> None:
        for name, value, least in (
            ("shard_rows", self.shard_rows, 1),
            ("batch_size", self.batch_size, 1),
            ("workers", self.workers, 0),
        ):
            if value < least:
                raise E2FashionError(f"{name} is {value}; give a number from {least}")


def build_index(
    encoder: Encoder,
    source: ProductSource,
    path: str | Path,
    split: str = "all",
    settings: EmbedSettings | None = None,
    encoder_source: str = "",
) -> ProductIndex:
    """Embed the products of a catalogue, or pictures in files, into the folder ``path``.

    Called again after an interrupt it goes on; called again when done it opens what is there. ``split`` names splits
    of a catalogue (``all`` of them), ``encoder_source`` what loads the encoder, for whoever opens the index later.

    Raises:
        E2FashionError: ``path`` holds something else, a product occurs twice, a picture cannot be read, or the encoder
            compares tokens.
    """
    require_single_vectors(encoder, "an index")
    settings = settings or EmbedSettings()
    folder, products = Path(path), open_products(source, split, all_exist=settings.on_error == "stop")
    with locked(folder):
        manifest = _started(folder, encoder, encoder_source, products)
        if manifest.pending is not None:
            embed_pending(folder, manifest, encoder, products, range(len(products.ids)), settings)
    return open_index(folder, encoder, verify=False)


def request_of(products: Products) -> str:
    """What identifies the products that are embedded: their origin and ids."""
    ids = hashlib.sha256("\0".join(products.ids.to_pylist()).encode()).hexdigest()
    return hashlib.sha256(json.dumps([asdict(products.origin), ids]).encode()).hexdigest()


def change_of(verb: str, request: str) -> str:
    """What identifies a change of an index: its verb and what it was asked for."""
    return hashlib.sha256(f"{verb}\0{request}".encode()).hexdigest()


def _started(folder: Path, encoder: Encoder, source: str, products: Products) -> IndexManifest:
    """The manifest of an index to go on with or that is done, or of a new one."""
    request = request_of(products)
    if (folder / INDEX_FILE).is_file():
        manifest = IndexManifest.load(folder)
        check_same_encoder(folder, manifest, encoder)
        building = manifest.pending if not manifest.shards else None
        if (building.request if building else manifest.built_from) == request and not _is_whole(folder, manifest):
            return _new(folder, encoder, source, products, request)
        if building is not None and building.request == request:
            if building.done:
                logger.info("going on behind %s of %s products", f"{building.done:,}", f"{building.total:,}")
            return manifest
        if building is None and manifest.built_from == request:
            logger.info("%s holds these products already", folder)
            return manifest
        raise E2FashionError(
            f"'{folder}' holds an index of other products: choose another output, remove the folder, or use 'e2fashion "
            "index add'"
        )
    clear_leftovers(folder / INDEX_FILE)  # of a build that was killed while it wrote its first manifest
    if folder.exists() and any(folder.iterdir()):
        raise E2FashionError(f"'{folder}' is no index and not empty: choose another folder for the index")
    folder.mkdir(parents=True, exist_ok=True)
    return _new(folder, encoder, source, products, request)


def _is_whole(folder: Path, manifest: IndexManifest) -> bool:
    """Whether all shards are what was written; False, with a warning, where building again loses nothing.

    Raises:
        E2FashionError: a shard is damaged, and products were added or removed since the index was built.
    """
    shards = [*manifest.shards, *(manifest.pending.shards if manifest.pending else [])]
    try:
        for shard in shards:
            read_shard(folder, shard, manifest.encoder.dimension)
    except E2FashionError as damage:
        if any(shard.origin != shards[0].origin or shard.removed for shard in shards):
            raise
        logger.warning("%s. It is built again", damage)
        return False
    return True


def _new(folder: Path, encoder: Encoder, source: str, products: Products, request: str) -> IndexManifest:
    """The manifest of an index without products yet."""
    from e2fashion import __version__

    transform = encoder.transform
    identity = IndexedEncoder(
        encoder.name,
        encoder.fingerprint,
        encoder.dimension,
        transform.size,
        transform.resize,
        **asdict(StoredPlace.of(source, folder)),
    )
    pending = Pending("build", request, len(products.ids))
    manifest = IndexManifest(identity, pending=pending, built_from=request, created_by=f"e2fashion {__version__}")
    manifest.save(folder)
    return manifest


def embed_pending(
    folder: Path,
    manifest: IndexManifest,
    encoder: Encoder,
    products: Products,
    positions: Sequence[int],
    settings: EmbedSettings,
    replaced: Mapping[str, tuple[str, int]] | None = None,
) -> IndexManifest:
    """Embed what ``manifest.pending`` lacks of ``positions``; when all is there it joins what is searched.

    After every shard the manifest is written, so that an interrupt costs one shard at most. ``replaced`` are
    products with the shard (its name) and the row that stop counting when the new ones begin to.
    """
    pending = manifest.pending
    assert pending is not None
    batches = _Batches(positions[pending.done :], settings.shard_rows, settings.batch_size)
    loader = DataLoader(
        _Squares(products, encoder.transform),
        batch_sampler=batches,
        collate_fn=_as_it_is,
        num_workers=settings.workers,
    )
    embeds: list[Tensor] = []
    embedded: list[int] = []
    skipped: dict[str, str] = {}
    seen = 0
    bar = progress_bar(
        total=pending.total,
        initial=pending.done,
        desc=f"embed with {encoder.name}",
        unit="product",
        shown=settings.progress,
    )
    with bar:
        for items, last in zip(loader, batches.ends(), strict=True):
            for position, _, problem in items:
                if problem is not None:
                    product = products.ids[position].as_py()
                    if settings.on_error == "stop":
                        raise E2FashionError(f"product '{product}': {problem}")
                    skipped[product] = problem
            whole = [(position, square) for position, square, _ in items if square is not None]
            if whole:
                embeds.append(encoder.embed_squares(torch.stack([square for _, square in whole])).half())  # as stored
                embedded += [position for position, _ in whole]
            seen += len(items)
            bar.update(len(items))
            if last:
                assert manifest.pending is not None
                pending = _with_shard(folder, manifest, embeds, embedded, products)
                pending = replace(pending, done=pending.done + seen, skipped=pending.skipped | skipped)
                manifest = replace(manifest, pending=pending)
                manifest.save(folder)
                embeds, embedded, skipped, seen = [], [], {}, 0
    if pending.skipped:
        logger.warning("%d products were skipped, the first: %s", len(pending.skipped), next(iter(pending.skipped)))
    if not manifest.shards and not pending.shards:
        raise E2FashionError(
            f"none of the {pending.total} pictures can be read; the first: {next(iter(pending.skipped.values()))}"
        )
    former: dict[str, list[int]] = {}
    for product, (name, row) in (replaced or {}).items():
        if product not in pending.skipped:
            former.setdefault(name, []).append(row)
    asked = set(products.ids.to_pylist())
    skipped_before = {name: why for name, why in manifest.skipped.items() if name not in asked}
    manifest = manifest.without_rows(former)
    manifest = replace(
        manifest,
        shards=[*manifest.shards, *pending.shards],
        skipped=skipped_before | pending.skipped,
        last_change="" if pending.verb == "build" else change_of(pending.verb, pending.request),
        pending=None,
    )
    manifest.save(folder)
    discard_others(folder, manifest.shards)
    return manifest


def _with_shard(
    folder: Path, manifest: IndexManifest, embeds: list[Tensor], positions: list[int], products: Products
) -> Pending:
    assert manifest.pending is not None
    if not positions:
        return manifest.pending
    shard: Shard = write_shard(
        folder, manifest.next_name(), torch.cat(embeds), products.table(positions), products.origin
    )
    return replace(manifest.pending, shards=[*manifest.pending.shards, shard])


class _Batches:
    """Positions in batches that do not reach over the end of a shard."""

    def __init__(self, positions: Sequence[int], shard_rows: int, batch_size: int) -> None:
        self._positions = positions
        self._starts = [
            (start, min(start + batch_size, stop))
            for first in range(0, len(positions), shard_rows)
            for stop in (min(first + shard_rows, len(positions)),)
            for start in range(first, stop, batch_size)
        ]
        self._shard_rows = shard_rows

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[list[int]]:
        return (list(self._positions[start:stop]) for start, stop in self._starts)

    def ends(self) -> Iterator[bool]:
        """Whether each batch is the last of a shard."""
        return (stop % self._shard_rows == 0 or stop == len(self._positions) for _, stop in self._starts)


#: A product's position, its square, and what is wrong with its picture.
_Item = tuple[int, Tensor | None, str | None]


class _Squares(Dataset[_Item]):
    """The square of every product, or why there is none."""

    def __init__(self, products: Products, transform: ImageTransform) -> None:
        self._products, self._transform = products, transform

    def __getitem__(self, position: int) -> _Item:
        try:
            return position, self._products.square(position, self._transform), None
        except E2FashionError as error:  # told by the main process: a worker's would come with its traceback
            return position, None, str(error)


def _as_it_is(items: list[_Item]) -> list[_Item]:
    return items
