"""Indexes of the former format, shards of safetensors and Arrow files, are read into a table."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
from safetensors.numpy import load_file

from e2fashion.disk import DamagedError, locked, read_json, reading, stored_as
from e2fashion.tasks.search.changes import start_index
from e2fashion.tasks.search.facts import FORMER_VERSION, IndexedEncoder, IndexFacts, Origin
from e2fashion.tasks.search.places import INDEX_FILE, REMEDY, Place
from e2fashion.tasks.search.storage import (
    CONTENT,
    LOCATION,
    OURS,
    ROW_SUM,
    SOURCE,
    VECTOR,
    VECTOR_SUM,
    VIEW,
    row_sums,
    vector_sums,
)
from e2fashion.tasks.search.tags import decide_typing
from e2fashion.types import E2FashionError


def upgrade(folder: Place) -> None:
    """Rewrite an index of the former format in its folder; one of the present format is left as it is.

    A kill leaves the former index or the new one. The next ``sync`` embeds all images again, because the former format
    does not say what they were.

    Raises:
        E2FashionError: no index, a damaged one, or one without products.
    """
    if not isinstance(folder, Path):
        raise E2FashionError(f"'{folder}' is an address: copy the index into a folder to upgrade it (docs/scale.md)")
    with locked(folder):
        values = read_json(folder / INDEX_FILE, REMEDY) if (folder / INDEX_FILE).is_file() else {}
        if values.get("format_version") == FORMER_VERSION:
            _upgrade(folder, values)
            for file in (
                *folder.glob("[0-9]*.safetensors"),
                *folder.glob("[0-9]*.arrow"),
                *folder.glob("approximate-*"),
            ):
                file.unlink()


def _upgrade(folder: Path, values: dict[str, Any]) -> None:
    with reading(folder / INDEX_FILE, REMEDY):
        encoder = stored_as(IndexedEncoder, values["encoder"], str(folder / INDEX_FILE), REMEDY)
        shards = [_shard(folder, shard) for shard in values["shards"]]
        origins = [Origin(**shard["origin"]) for shard in values["shards"]]
    if not shards:
        raise E2FashionError(f"the index {folder} holds no products: build it again")
    rows = pa.concat_tables(shards, promote_options="default")
    typing = decide_typing(rows.drop_columns([name for name in OURS if name in rows.column_names]))
    facts = IndexFacts(encoder, origins[0], typing=typing, skipped=values.get("skipped", {}))
    rows = typing.typed(rows)
    rows = rows.append_column(ROW_SUM, pa.array(row_sums(rows), pa.string()))
    start_index(folder, facts, rows)


def _shard(folder: Path, shard: dict[str, Any]) -> pa.Table:
    """The rows of a shard that count."""
    files = [folder / f"{shard['name']}.{ending}" for ending in ("safetensors", "arrow")]
    for file, known in zip(files, (shard["embeds_sha256"], shard["products_sha256"]), strict=True):
        if hashlib.sha256(file.read_bytes()).hexdigest() != known:
            raise DamagedError(f"shard {file} is damaged: its SHA-256 is not what was written. {REMEDY}")
    embeds, rows = load_file(files[0])["embeds"], pa.ipc.open_file(pa.memory_map(str(files[1]))).read_all()
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(embeds.reshape(-1), pa.float16()), embeds.shape[1])
    origin = shard["origin"]
    added = {
        VIEW: pa.array([0] * len(rows), pa.int32()),
        SOURCE: pa.array([origin["path"] if origin["kind"] == "catalogue" else ""] * len(rows)),
        CONTENT: pa.array([""] * len(rows)),
        VECTOR_SUM: vector_sums(vectors),
        VECTOR: vectors,
    }
    rows = rows.rename_columns({name: LOCATION if name == "place" else name for name in rows.column_names})
    for name, column in added.items():
        rows = rows.append_column(name, column)
    removed = set(shard.get("removed", ()))
    return rows.take(pa.array([row for row in range(len(rows)) if row not in removed], pa.int64()))
