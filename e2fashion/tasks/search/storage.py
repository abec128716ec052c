"""The table of an index: its columns, a row per image, and the checksums of rows and vectors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from e2fashion.disk import DamagedError
from e2fashion.tasks.search.facts import IndexFacts
from e2fashion.tasks.search.places import (
    INDEX_FILE,
    REMEDY,
    TABLE,
    Place,
    check_table,
    connect,
    reading_at,
    require_lancedb,
)
from e2fashion.tasks.search.tags import quote
from e2fashion.types import E2FashionError

PRODUCT_ID, VIEW, DESCRIPTION, LOCATION, VECTOR = "product_id", "view", "description", "image", "vector"
SOURCE, CONTENT, ROW_SUM, VECTOR_SUM = "_source", "_content", "_row", "_vector"
"""Columns that every table has: ``image`` is where the image is in ``_source``; ``_content`` identifies what the vector
was made from, ``_row`` and ``_vector`` are checksums of all but the vector, and of the vector. All others are tags."""
OURS = (PRODUCT_ID, VIEW, DESCRIPTION, LOCATION, SOURCE, CONTENT, ROW_SUM, VECTOR_SUM, VECTOR)
ROW_ID = "_rowid"
BATCH_ROWS = 2**14


def check_rows(place: Place, table: Any) -> None:
    """Read all rows and compare them with their checksums.

    Raises:
        DamagedError: something is not what was written.
    """
    with reading_at(place):
        for batch in table.search().to_batches(BATCH_ROWS):
            check_sums(place, "vectors", vector_sums(batch[VECTOR]), batch[VECTOR_SUM])
            check_sums(place, "rows", row_sums(pa.Table.from_batches([batch])), batch[ROW_SUM].to_pylist())


def check_sums(place: Place, what: str, found: Any, written: Any) -> None:
    """Raise a DamagedError where checksums of ``what`` are not those that were written."""
    if found != written:
        raise DamagedError(f"{what} of the index {place} are not what was written. {REMEDY}")


def open_table(place: Place, facts: IndexFacts | None = None, verify: bool = True) -> Any:
    """The table of an index, at its latest version; ``facts`` of the index, where they were read before.

    ``verify`` compares its files with their list.

    Raises:
        E2FashionError: LanceDB is not installed, or the table cannot be opened or lacks a column of the index's facts.
    """
    require_lancedb()
    facts = facts or IndexFacts.load(place)  # first: a new column is in the table before it is in the facts
    if verify:
        check_table(place)
    with reading_at(place):
        table = connect(place).open_table(TABLE)
        there = {item.name: item.type for item in table.schema}
    for item in table_schema(facts.width, facts.typing.types):
        if there.get(item.name) != item.type:
            raise DamagedError(
                f"the table of the index {place} has no column '{item.name}' of type {item.type}, as {INDEX_FILE} "
                f"says. {REMEDY}"
            )
    return table


def read_rows(place: Place, columns: Sequence[str], condition: str | None = None) -> pa.Table:
    """Columns of all images of an index, or of those that fulfil a condition in SQL.

    Raises:
        E2FashionError: as :func:`open_table`, or the rows cannot be read.
    """
    query = open_table(place).search().select(list(columns))
    with reading_at(place):
        return (query if condition is None else query.where(condition)).to_arrow()


def table_schema(width: int, tags: Mapping[str, pa.DataType]) -> pa.Schema:
    """The columns of a table with vectors of a ``width`` and these tags.

    Raises:
        E2FashionError: a tag has a name that cannot be a column.
    """
    for name in tags:
        if name in OURS or name.startswith("_") or "." in name or "`" in name:
            raise E2FashionError(
                f"the tag '{name}' cannot be a column of an index: it contains a dot or backtick, begins with '_', or "
                f"is one of {', '.join(OURS)}. Rename it in the catalogue"
            )
    return pa.schema(
        [
            pa.field(PRODUCT_ID, pa.string(), nullable=False),
            pa.field(VIEW, pa.int32(), nullable=False),
            pa.field(DESCRIPTION, pa.string()),
            pa.field(LOCATION, pa.string()),
            *(pa.field(name, kind) for name, kind in tags.items()),
            *(pa.field(name, pa.string()) for name in (SOURCE, CONTENT, ROW_SUM)),
            pa.field(VECTOR_SUM, pa.int64()),
            pa.field(VECTOR, pa.list_(pa.float16(), width)),
        ]
    )


def tag_types(schema: pa.Schema) -> dict[str, pa.DataType]:
    """The tags among the columns of a table."""
    return {item.name: item.type for item in schema if item.name not in OURS}


def fitted(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows with the columns of a table; those that they lack are null."""
    known = set(rows.column_names)
    columns = {item.name: rows[item.name] if item.name in known else pa.nulls(len(rows), item.type) for item in schema}
    return pa.table(columns).cast(schema)


def row_sums(rows: pa.Table) -> list[str]:
    """A checksum of every row, over all columns but the vector and the checksums; absent tags do not count."""
    names = sorted(set(rows.column_names) - {ROW_SUM, VECTOR_SUM, VECTOR, CONTENT, ROW_ID})
    return [
        xxhash.xxh3_64_hexdigest(
            json.dumps([(name, row[name]) for name in names if row[name] is not None], ensure_ascii=False).encode()
        )
        for row in rows.select(names).to_pylist()
    ]


def vector_sums(vectors: pa.FixedSizeListArray) -> pa.Array:
    """A checksum of every vector: int64 (n,)."""
    width = 2 * vectors.type.list_size
    content = memoryview(vectors.flatten().to_numpy().view(np.uint8))
    starts = range(0, len(vectors) * width, width)
    sums = [xxhash.xxh3_64_intdigest(content[start : start + width]) - 2**63 for start in starts]
    return pa.array(sums, pa.int64())


def among(product_ids: Sequence[str]) -> str:
    """The condition that a row is of one of these products, in SQL."""
    return f"{PRODUCT_ID} IN ({', '.join(map(quote, product_ids))})"


#: What :func:`content_of` reads.
CONTENT_COLUMNS = (PRODUCT_ID, VIEW, ROW_SUM, VECTOR_SUM)


def content_of(rows: pa.Table) -> str:
    """SHA-256 over :data:`CONTENT_COLUMNS` of all rows of a table, whatever their order."""
    rows = rows.select(CONTENT_COLUMNS).sort_by([(PRODUCT_ID, "ascending"), (VIEW, "ascending")])
    digest = hashlib.sha256()
    for column in rows.columns:
        digest.update("\0".join(map(str, column.to_pylist())).encode())
    return digest.hexdigest()
