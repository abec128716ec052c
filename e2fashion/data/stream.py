"""Training products of several catalogues, read file by file: for what does not fit on one disk.

An epoch's order comes from (seed, epoch) and the number of products in each file. The files are shuffled and laid end
to end; every process takes an equal part of this line, reads it in several places at once, and shuffles a buffer at a
time. Where a run resumes is therefore computed, and no buffer is saved.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import count, groupby, islice, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeAlias

import datasets
import fsspec  # type: ignore[import-untyped]
import pyarrow as pa
from torch.utils.data import Dataset

from e2fashion.data.catalogue import MANIFEST_FILE, Manifest
from e2fashion.data.dataset import Augmentation, CatalogueRows, Item, ProductDataset
from e2fashion.data.loader import EpochSampler, permutation
from e2fashion.data.storage import shard_names
from e2fashion.data.text import DESCRIPTION, TextTemplate
from e2fashion.data.transforms import ImageTransform
from e2fashion.disk import DamagedError, reading
from e2fashion.types import E2FashionError

REMEDY = "Restore it, or prepare the catalogue again."
#: Of every batch's rows: `datasets` would hash all their images for one, and it names cached files, which none has.
FINGERPRINT = "stream"
#: Rows of a batch, one for each product, and the epoch.
StreamBatch: TypeAlias = tuple[pa.Table, int]


@dataclass(frozen=True)
class Shard:
    """One Arrow file, by path or URL, and the number of products in it."""

    url: str
    products: int

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The file's rows.

        Raises:
            DamagedError: the file cannot be read.
        """
        with reading(self.url, REMEDY):
            opened = fsspec.open(self.url, "rb") if "://" in self.url else pa.memory_map(self.url)
            with opened as file:
                for batch in pa.ipc.open_stream(file):
                    chosen = batch.select(columns).replace_schema_metadata()
                    chosen.validate(full=True)  # checksums are not compared, and a wrong offset would end the process
                    yield chosen

    def rows(self, columns: Sequence[str], skip: int = 0) -> Iterator[list[pa.RecordBatch]]:
        """The views of every product, a record batch of one row each, without the first ``skip`` products.

        Raises:
            DamagedError: the file cannot be read, or has fewer products than its manifest says.
        """
        places = (
            (product, batch, row)
            for batch in self.batches(columns)
            for row, product in enumerate(batch.column("product_id").to_pylist())
        )
        read = 0
        for read, (_, views) in enumerate(groupby(places, key=itemgetter(0)), start=1):
            if read > skip:
                yield [batch.slice(row, 1) for _, batch, row in views]
        if read < self.products:
            raise DamagedError(f"{self.url} has {read:,} products where {self.products:,} were written. {REMEDY}")


@dataclass(frozen=True)
class Stream:
    """The train splits of several catalogues.

    ``columns`` are those of each catalogue, by its path; ``fingerprint`` covers the content of all, in their order.
    """

    shards: tuple[Shard, ...]
    columns: dict[str, tuple[str, ...]]
    fingerprint: str

    def __len__(self) -> int:
        return sum(shard.products for shard in self.shards)

    def texts(self, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Every row, in the order of the files."""
        for shard in self.shards:
            for batch in shard.batches(columns):
                yield from batch.to_pylist()

    def between(
        self, start: int, stop: int, order: Sequence[int], columns: Sequence[str]
    ) -> Iterator[list[pa.RecordBatch]]:
        """The products with positions from ``start`` to ``stop`` when the files lie in ``order``."""
        for shard in (self.shards[number] for number in order):
            if start < shard.products and stop > 0:
                first = max(start, 0)
                yield from islice(shard.rows(columns, first), min(stop, shard.products) - first)
            start, stop = start - shard.products, stop - shard.products


@cache
def open_stream(*parts: str) -> Stream:
    """The train splits of prepared catalogues, folders or URLs of ``fsspec``; only their manifests are read.

    Raises:
        E2FashionError: a catalogue cannot be read, is given twice, has no train split, or does not say how many
            products its files hold.
    """
    shards: list[Shard] = []
    columns: dict[str, tuple[str, ...]] = {}
    seen: dict[str, str] = {}
    for part in parts:
        manifest = _manifest(part)
        if "train" not in manifest.splits:
            raise E2FashionError(f"stream: {part} has no split 'train'; it has: {', '.join(manifest.splits)}.")
        if not (products := manifest.shards.get("train")):
            raise E2FashionError(
                f"stream: {part} does not say how many products each of its files holds, so that an epoch has no "
                "length. An earlier version prepared it: prepare it again."
            )
        if (same := seen.setdefault(manifest.fingerprint, part)) in columns:
            raise E2FashionError(f"stream: {part} holds the same products as {same}. Give each catalogue once.")
        folder = f"{part.rstrip('/')}/train"
        shards += [Shard(f"{folder}/{name}", n) for name, n in zip(shard_names(len(products)), products, strict=True)]
        columns[part] = tuple(manifest.columns)
    return Stream(tuple(shards), columns, hashlib.sha256(" ".join(seen).encode()).hexdigest())


def _manifest(part: str) -> Manifest:
    if "://" not in part:
        return Manifest.load(Path(part))
    url = f"{part.rstrip('/')}/{MANIFEST_FILE}"
    with tempfile.TemporaryDirectory() as folder:
        with reading(url, "Correct stream, or install the package of its file system."), fsspec.open(url, "rb") as file:
            (Path(folder) / MANIFEST_FILE).write_bytes(file.read())
        try:
            return Manifest.load(Path(folder))
        except E2FashionError as error:
            raise type(error)(str(error).replace(folder, part)) from None


class StreamSampler(EpochSampler):
    """Batches of a stream's rows; their order depends on seed, epoch, number of processes and the two sizes below.

    As in :class:`EpochSampler`, every product is in one batch of one rank in an epoch, but for the last ones, which
    fill no global batch. Images are read once and here, so that any number of loader processes gives the same batches.

    Args:
        stream: what is read.
        columns: the columns that are read, ``product_id`` among them.
        augmentation: chooses the view of a product; its seed is that of the order.
        batch_size: products per rank and batch.
        buffer: products that are shuffled together; twice as many are in memory.
        open_files: places that the buffer is filled from.
        rank, world_size: of this process among the processes that train.
    """

    def __init__(
        self,
        stream: Stream,
        columns: Sequence[str],
        augmentation: Augmentation,
        batch_size: int,
        buffer: int,
        open_files: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(len(stream), batch_size, augmentation.seed, rank=rank, world_size=world_size, drop_last=True)
        self.stream = stream
        self.columns = list(columns)
        self.augmentation = augmentation
        self.open_files = open_files
        self.each = max(1, buffer // open_files)

    def __iter__(self) -> Iterator[StreamBatch]:  # type: ignore[override]
        epoch, size = self.epoch, self.batch_size
        window, done = divmod(self.start_batch * size, self.each * self.open_files)
        waiting: list[pa.Table] = []
        for rows in self._windows(epoch, window):
            waiting, done = waiting + rows[done:], 0
            while len(waiting) >= size:
                # A copy: what a slice is sent with to a loader process is its whole record batch.
                yield pa.concat_tables(waiting[:size]).combine_chunks(), epoch
                waiting = waiting[size:]

    def _windows(self, epoch: int, first: int) -> Iterator[list[pa.Table]]:
        """The shuffled contents of the buffer from the number ``first`` on; the next one is read meanwhile."""
        order = permutation(len(self.stream.shards), f"files/{self.seed}/{epoch}")
        each_rank = len(self) * self.batch_size
        bounds = [self.rank * each_rank + lane * each_rank // self.open_files for lane in range(self.open_files + 1)]
        places = [
            self.stream.between(start + first * self.each, stop, order, self.columns)
            for start, stop in pairwise(bounds)
        ]

        def read(window: int) -> list[pa.Table]:
            rows = [self._shown(views, epoch) for place in places for views in islice(place, self.each)]
            return [rows[row] for row in permutation(len(rows), f"rows/{self.seed}/{epoch}/{self.rank}/{window}")]

        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(read, first)
            for window in count(first + 1):
                if not (rows := coming.result()):
                    return
                coming = reader.submit(read, window)
                yield rows

    def _shown(self, views: list[pa.RecordBatch], epoch: int) -> pa.Table:
        product = views[0].column("product_id")[0].as_py()
        return pa.Table.from_batches([views[self.augmentation.view(len(views), epoch, product)]])


@dataclass(eq=False)
class StreamDataset(Dataset[Item]):
    """The rows of a :class:`StreamSampler` as items, equal to those of a :class:`ProductDataset`."""

    entity_columns: Sequence[str]
    template: TextTemplate
    transform: ImageTransform
    augmentation: Augmentation

    @property
    def columns(self) -> list[str]:
        """The columns of the catalogues that are read."""
        return list(dict.fromkeys(["product_id", "image", DESCRIPTION, *self.template.columns, *self.entity_columns]))

    def __getitems__(self, batch: StreamBatch) -> list[Item]:
        """The items of a batch."""
        table, epoch = batch
        rows = CatalogueRows(
            datasets.Dataset(table, fingerprint=FINGERPRINT), self.entity_columns, self.template, self.transform
        )
        products = ProductDataset(rows, self.augmentation)
        return [products.item(row, epoch) for row in range(len(rows))]
