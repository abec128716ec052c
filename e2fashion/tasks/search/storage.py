"""An index on disk: ``index.json`` with its facts, a LanceDB table with a row per image, and a list of its files.

LanceDB never changes a file that it has written, but trusts all of them: a changed bit can make it ask for more memory
than there is and end the process. So files are compared with ``checksums.json`` before it opens them. A change lists
the files that it added before it is acknowledged; what a killed process committed is compared row by row and listed by
the next change, and until then opened as it is. Indexes of earlier versions have no list before their first change.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from e2fashion.data.transforms import Resize
from e2fashion.disk import (
    DamagedError,
    Listing,
    check_files,
    check_tree,
    file_names,
    read_checksums,
    read_json,
    reading,
    seal,
    stored_as,
    what_lacks,
    write_json,
)
from e2fashion.encoder import EncoderIdentity
from e2fashion.hub import StoredSource
from e2fashion.tasks.search.tags import Typing, quote
from e2fashion.types import E2FashionError

FORMAT_VERSION, FORMER_VERSION = 2, 1
INDEX_FILE = "index.json"
TABLE, TABLE_FOLDER = "products", "products.lance"
MANIFESTS = f"{TABLE_FOLDER}/_versions/"
HINT = "latest_version_hint.json"
"""LanceDB's only file that changes; it falls back on the manifests, one per version, whose names count down."""
PRODUCT_ID, VIEW, DESCRIPTION, LOCATION, VECTOR = "product_id", "view", "description", "image", "vector"
SOURCE, CONTENT, ROW_SUM, VECTOR_SUM = "_source", "_content", "_row", "_vector"
"""Columns that every table has: ``image`` is where the image is in ``_source``; ``_content`` identifies what the vector
was made from, ``_row`` and ``_vector`` are checksums of all but the vector, and of the vector. All others are tags."""
OURS = (PRODUCT_ID, VIEW, DESCRIPTION, LOCATION, SOURCE, CONTENT, ROW_SUM, VECTOR_SUM, VECTOR)
ROW_ID = "_rowid"
BATCH_ROWS = 2**14
WIDEST = 2**20
"""Greatest width of vectors, far above that of any encoder."""
REMEDY = "Build the index again, or restore the folder."


@dataclass(frozen=True)
class IndexedEncoder(EncoderIdentity):
    """The encoder of an index, how it makes an image square, and where it was.

    ``source``, ``relative`` and ``hub`` are those of :class:`e2fashion.hub.StoredSource`; ``source`` is empty where it
    was not given.
    """

    image_size: int
    resize: Resize
    source: str = ""
    relative: str = ""
    hub: bool = False

    @property
    def location(self) -> StoredSource:
        """Where it was, relative to the folder of the index too."""
        return StoredSource(self.source, self.relative, self.hub)


@dataclass(frozen=True)
class Origin:
    """Where products come from: a catalogue or files, the path, a fingerprint, and the splits of a catalogue.

    ``content`` is the fingerprint of the index that was built from them; an index with another one was changed since.
    """

    kind: str
    path: str
    fingerprint: str
    splits: list[str] = field(default_factory=list)
    content: str = ""


@dataclass(frozen=True)
class Approximation:
    """The recall of the exact best ten by approximate search, over ``queries`` queries; ``of`` says what they were."""

    recall: float
    queries: int
    of: str

    def words(self) -> str:
        """The recall as messages state it."""
        return f"{100 * self.recall:.1f} % of the exact best 10 of {self.queries} {self.of}"


@dataclass(frozen=True)
class IndexFacts:
    """What ``index.json`` says.

    Attributes:
        encoder: the encoder that made the vectors.
        origin: what the index was last built from or made equal to.
        complete: false while it is being built.
        typing: the kinds of the tags.
        text_weight: the text's share of every vector.
        regions: the entities whose regions follow the image in every vector; none: it is of the image alone.
        region_weight: the weight of the regions in the score of a query that states tags.
        skipped: products whose images could not be read, and why.
        approximation: of the inverted lists, where they were built.
    """

    encoder: IndexedEncoder
    origin: Origin
    complete: bool = False
    typing: Typing = field(default_factory=Typing)
    text_weight: float = 0.0
    regions: list[str] = field(default_factory=list)
    region_weight: float = 0.0
    skipped: dict[str, str] = field(default_factory=dict)
    approximation: Approximation | None = None
    created_by: str = ""
    format_version: int = FORMAT_VERSION

    @property
    def width(self) -> int:
        """Width of the vectors: C, or (1 + E) C with regions."""
        return self.encoder.dimension * (1 + len(self.regions))

    def save(self, folder: Path) -> None:
        """Write into ``folder``, atomically."""
        write_json(folder / INDEX_FILE, seal(asdict(self)))

    @classmethod
    def load(cls, folder: Path) -> IndexFacts:
        """Read the facts in ``folder``.

        Raises:
            E2FashionError: there is no index, it cannot be read, or another version wrote it.
        """
        file = folder / INDEX_FILE
        if not file.is_file():
            refuse_address(folder)
            raise E2FashionError(
                f"'{folder}' is no index: it {what_lacks(folder, INDEX_FILE)}. Make one with 'e2fashion index build "
                "<catalogue> model=<model> output=<index>'"
            )
        values = read_json(file, REMEDY)
        version = values.get("format_version")
        if type(version) is int and version > FORMAT_VERSION:
            raise E2FashionError(
                f"'{folder}' has index format {version}; this e2fashion reads up to {FORMAT_VERSION}. Update "
                "e2fashion, or build the index again"
            )
        if version == FORMER_VERSION:
            raise E2FashionError(f"'{folder}' has the format of an earlier version: 'e2fashion index upgrade {folder}'")
        facts = stored_as(cls, values, str(file), REMEDY)
        if not 1 <= facts.width <= WIDEST:
            raise DamagedError(f"{file} is damaged: its vectors have width {facts.width}. {REMEDY}")
        return facts


def refuse_address(folder: Path) -> None:
    """Raise an E2FashionError where the place of an index is an address as of an object store, not a folder."""
    address = re.match(r"([a-z][a-z0-9+.-]+):/+(.*)", str(folder))  # a Path keeps one slash of two
    if address is not None and not folder.exists():
        raise E2FashionError(
            f"'{address[1]}://{address[2]}' is an address, but an index is a folder of a file system: give a folder, "
            "and copy it to the object store and back with pyarrow.fs.copy_files (docs/scale.md)"
        )


def check_table(folder: Path, again: bool = False, listed: Listing | None = None) -> set[str]:
    """Compare the files of a table with their list; those that are not listed.

    ``again`` also reads files that have not changed since the last comparison; ``listed`` is the list, if it was read.

    Raises:
        DamagedError: a file or the list is damaged, or the latest version is missing.
    """
    check_tree(folder / TABLE_FOLDER, REMEDY)
    if listed is None:
        listed = read_checksums(folder, REMEDY)  # first: what is added meanwhile counts as not listed
    there = set(file_names(folder, is_of_table))
    check_files(folder, {name: listed[name] for name in there & listed.keys()}, REMEDY, again=again, removable=True)
    latest, known = (sorted(name for name in names if name.startswith(MANIFESTS)) for names in (there, listed))
    if known and (not latest or latest[0] > known[0]):
        raise DamagedError(f"{folder / known[0]} is missing, the latest version of the table. {REMEDY}")
    return there - listed.keys()


def is_of_table(name: str) -> bool:
    """Whether a file of an index is one that LanceDB has written, and never changes."""
    return name.startswith(f"{TABLE_FOLDER}/") and not name.endswith(HINT) and "#" not in name  # "#": being written


def check_rows(folder: Path, table: Any) -> None:
    """Read all rows and compare them with their checksums.

    Raises:
        DamagedError: something is not what was written.
    """
    with reading(f"the index {folder}", REMEDY):
        for batch in table.search().to_batches(BATCH_ROWS):
            check_sums(folder, "vectors", vector_sums(batch[VECTOR]), batch[VECTOR_SUM])
            check_sums(folder, "rows", row_sums(pa.Table.from_batches([batch])), batch[ROW_SUM].to_pylist())


def check_sums(folder: Path, what: str, found: Any, written: Any) -> None:
    """Raise a DamagedError where checksums of ``what`` are not those that were written."""
    if found != written:
        raise DamagedError(f"{what} of the index {folder} are not what was written. {REMEDY}")


def open_table(folder: Path, facts: IndexFacts | None = None, verify: bool = True) -> Any:
    """The table of an index, at its latest version; ``facts`` of the index, where they were read before.

    ``verify`` compares its files with their list.

    Raises:
        E2FashionError: LanceDB is not installed, or the table cannot be opened or lacks a column of the index's facts.
    """
    lancedb = require_lancedb()
    facts = facts or IndexFacts.load(folder)  # first: a new column is in the table before it is in the facts
    if verify:
        check_table(folder)
    with reading(f"the index {folder}", REMEDY):
        table = lancedb.connect(folder).open_table(TABLE)
        there = {item.name: item.type for item in table.schema}
    for item in table_schema(facts.width, facts.typing.types):
        if there.get(item.name) != item.type:
            raise DamagedError(
                f"the table of the index {folder} has no column '{item.name}' of type {item.type}, as {INDEX_FILE} "
                f"says. {REMEDY}"
            )
    return table


def read_rows(folder: Path, columns: Sequence[str], condition: str | None = None) -> pa.Table:
    """Columns of all images of an index, or of those that fulfil a condition in SQL.

    Raises:
        E2FashionError: as :func:`open_table`, or the rows cannot be read.
    """
    query = open_table(folder).search().select(list(columns))
    with reading(f"the index {folder}", REMEDY):
        return (query if condition is None else query.where(condition)).to_arrow()


def require_lancedb() -> Any:
    """The module; an E2FashionError where it is not installed."""
    if find_spec("lancedb") is None:
        raise E2FashionError("an index needs LanceDB. Install it: pip install 'e2fashion[search]'")
    import lancedb

    return lancedb


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
