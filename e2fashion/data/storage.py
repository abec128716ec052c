"""How rows are stored: a spool in the order of the source, then one Hugging Face data set folder per split.

Both are Arrow files written in bounded batches and read through a memory map, so that a catalogue of any size is
prepared in constant memory. A spool file is deleted as soon as its rows have been handed on: disk use peaks little
above the size of the result.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import DatasetInfo, Features, Value

from e2fashion.data.rows import CheckedRow
from e2fashion.types import Box, Split

BASE_COLUMNS = ("product_id", "view", "image", "description", "group")
REGIONS_COLUMN = "regions"

BATCH_ROWS = 256
_BATCH_BYTES = 16 << 20
FILE_BYTES = 512 << 20


def catalogue_features(tag_columns: Sequence[str], with_regions: bool, number_columns: Sequence[str] = ()) -> Features:
    """The columns of a catalogue: base columns, one nullable string per tag, numbers, and the boxes as JSON if any."""
    kinds = {"product_id": "string", "view": "int32", "image": "binary", "description": "string", "group": "string"}
    kinds |= dict.fromkeys(tag_columns, "string") | dict.fromkeys(number_columns, "float64")
    if with_regions:
        kinds[REGIONS_COLUMN] = "string"
    return Features({column: Value(kind) for column, kind in kinds.items()})


def encode_regions(regions: dict[str, tuple[Box, ...]]) -> str:
    """Boxes by column as JSON: ``{column: [[left, top, right, bottom], ...]}``."""
    return json.dumps({column: [astuple(box) for box in boxes] for column, boxes in sorted(regions.items())})


def decode_regions(text: str) -> dict[str, tuple[Box, ...]]:
    """The inverse of :func:`encode_regions`."""
    return {column: tuple(Box(*box) for box in boxes) for column, boxes in json.loads(text).items()}


class ArrowFiles:
    """Writes rows into ``<folder>/<number>.arrow`` files of about 512 MB."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        folder.mkdir(parents=True)
        self.folder, self.schema = folder, schema
        self.files: list[Path] = []
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None
        self._written_bytes = 0
        self._batches: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._waiting_bytes = 0

    def add(self, batch: pa.RecordBatch, may_begin: bool = True) -> None:
        """Append the rows of ``batch``, as the first ones of a new file only if they ``may_begin`` one."""
        if may_begin and self._written_bytes >= FILE_BYTES:
            self.close()
        if self._writer is None:
            self.files.append(self.folder / f"{len(self.files):05d}.arrow")
            self._writer = pa.ipc.new_stream(str(self.files[-1]), self.schema)
        self._batches.append(batch)
        self._waiting_rows += batch.num_rows
        self._waiting_bytes += batch.nbytes
        if self._waiting_rows >= BATCH_ROWS or self._waiting_bytes >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits, as one record batch."""
        if self._writer is None or not self._batches:
            return
        table = pa.Table.from_batches(self._batches, self.schema).combine_chunks()
        self._writer.write_table(table)
        self._written_bytes += self._waiting_bytes
        self._batches, self._waiting_rows, self._waiting_bytes = [], 0, 0

    def close(self) -> None:
        """End the current file."""
        self.flush()
        if self._writer is not None:
            self._writer.close()
        self._writer, self._written_bytes = None, 0


class Spool:
    """Checked rows in the order in which the source yields them."""

    def __init__(self, folder: Path, features: Features) -> None:
        self.features = features
        self._files = ArrowFiles(folder, features.arrow_schema)

    def add(self, row: CheckedRow) -> None:
        """Append one row."""
        values: dict[str, Any] = {column: getattr(row, column) for column in BASE_COLUMNS} | dict(row.tags)
        if REGIONS_COLUMN in self.features:
            values[REGIONS_COLUMN] = None if row.regions is None else encode_regions(dict(row.regions))
        self._files.add(pa.RecordBatch.from_pylist([values], schema=self._files.schema))

    def read(self, order: Sequence[int]) -> Iterator[pa.RecordBatch]:
        """The rows by their numbers, one record batch of one row each; files that are done with are deleted."""
        self._files.close()
        where = list(_row_places(self._files.files))
        remaining = Counter(where[row][0] for row in order)
        opened: dict[int, list[pa.RecordBatch]] = {}
        for row in order:
            file, batch, offset = where[row]
            if file not in opened:
                opened[file] = _read_batches(self._files.files[file])
            yield opened[file][batch].slice(offset, 1)
            remaining[file] -= 1
            if not remaining[file]:
                del opened[file]
                self._files.files[file].unlink()


def _read_batches(file: Path) -> list[pa.RecordBatch]:
    with pa.memory_map(str(file)) as source:
        return list(pa.ipc.open_stream(source))


def _row_places(files: Iterable[Path]) -> Iterator[tuple[int, int, int]]:
    for file_number, file in enumerate(files):
        for batch_number, batch in enumerate(_read_batches(file)):
            for offset in range(batch.num_rows):
                yield file_number, batch_number, offset


class SplitFolder:
    """Writes one split as a folder that ``datasets.load_from_disk`` maps into memory.

    All rows of a product, which come one after another, are in the same file.
    """

    def __init__(self, folder: Path, features: Features) -> None:
        self.folder, self.features = folder, features
        self._files = ArrowFiles(folder, features.arrow_schema)
        self._last: str | None = None
        self._products: Counter[Path] = Counter()

    def add(self, row: pa.RecordBatch) -> None:
        """Append one row."""
        product = row.column("product_id")[0].as_py()
        is_next = product != self._last
        self._files.add(row, may_begin=is_next)
        self._products[self._files.files[-1]] += is_next
        self._last = product

    def close(self, split: Split, fingerprint: str) -> list[int]:
        """Finish the files and describe them as ``save_to_disk`` does; returns the number of products in each."""
        self._files.close()
        products = [self._products[file] for file in self._files.files]
        names = shard_names(len(products))
        for file, name in zip(self._files.files, names, strict=True):
            file.rename(self.folder / name)
        state: dict[str, Any] = {
            "_data_files": [{"filename": name} for name in names],
            "_fingerprint": fingerprint[:16],
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": split,
        }
        (self.folder / "state.json").write_text(json.dumps(state, indent=2), encoding="utf-8")
        DatasetInfo(features=self.features).write_to_directory(str(self.folder))
        return products


def shard_names(total: int) -> list[str]:
    """Names of the files of a split, in order."""
    return [f"data-{number:05d}-of-{total:05d}.arrow" for number in range(total)]
