"""Where an index lives, a folder or an address at an object store: its small files, its turns, its table's files.

LanceDB never changes a file that it has written, but trusts all of them: a changed bit can make it ask for more memory
than there is and end the process. So the files of a folder are compared with ``checksums.json`` before it opens them. A
change lists the files that it added before it is acknowledged; what a killed process committed is compared row by row
and listed by the next change, and until then opened as it is. Indexes of earlier versions have no list before their
first change.

An object store compares what it holds and sends with checksums of its own: there is no list at an address, and rows and
vectors alone are compared.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

from e2fashion.disk import (
    CHECKSUMS_FILE,
    DamagedError,
    Listing,
    check_files,
    check_tree,
    file_names,
    json_text,
    locked,
    naming,
    read_checksums,
    read_json,
    read_object,
    reading,
    seal,
    turn_at,
    update_checksums,
    write_json,
)
from e2fashion.disk.stores import SCHEME, Store
from e2fashion.disk.turns import turn_in
from e2fashion.types import E2FashionError

#: A folder, or an address at an object store.
Place: TypeAlias = Path | Store

INDEX_FILE = "index.json"
TABLE, TABLE_FOLDER = "products", "products.lance"
MANIFESTS = f"{TABLE_FOLDER}/_versions/"
HINT = "latest_version_hint.json"
"""LanceDB's only file that changes; it falls back on the manifests, one per version, whose names count down."""
READINGS = 3
"""Times that a small file at a store is read before it is damaged: one that is replaced meanwhile may seem to be."""
REMEDY = "Build the index again, or restore the folder."


def place_of(where: str | Path | Store) -> Place:
    """The place that a person wrote: ``s3://<bucket>/<index>``, else a folder, also as ``file:///<path>``.

    Raises:
        E2FashionError: an address of another scheme, or without bucket and key.
    """
    if isinstance(where, Store):
        return where
    address = re.match(r"([a-z][a-z0-9+.-]+):/+(.*)", str(where), re.DOTALL)  # a Path keeps one slash of two
    if address is None or Path(where).exists():
        return Path(where)
    scheme, path = address.groups()
    if scheme == "file":
        return Path("/", path)
    if scheme != SCHEME:
        raise E2FashionError(
            f"'{scheme}://{path}' cannot be an index: give a folder, or {SCHEME}://<bucket>/<index> of a store of S3's "
            "protocol (docs/scale.md)"
        )
    return Store(f"{scheme}://{path.rstrip('/')}")


def connect(place: Place) -> Any:
    """LanceDB's connection to a place.

    Raises:
        E2FashionError: LanceDB is not installed.
    """
    lancedb = require_lancedb()
    if isinstance(place, Store):
        return lancedb.connect(place.address, storage_options=place.options)
    return lancedb.connect(place)


def require_lancedb() -> Any:
    """The module; an E2FashionError where it is not installed."""
    if find_spec("lancedb") is None:
        raise E2FashionError("an index needs LanceDB. Install it: pip install 'e2fashion[search]'")
    import lancedb

    return lancedb


@contextmanager
def reading_at(place: Place) -> Iterator[None]:
    """Turn errors of reading an index into a DamagedError, or that of its store; as :func:`~e2fashion.disk.reading`."""
    with reading(f"the index {place}", REMEDY), place.reaching() if isinstance(place, Store) else nullcontext():
        yield


@contextmanager
def writing_at(place: Place) -> Iterator[None]:
    """Turn errors of the disk, or of the store, into ones that name the index; others pass."""
    with place.reaching() if isinstance(place, Store) else naming(place):
        yield


def read_values(place: Place, name: str) -> dict[str, Any] | None:
    """The JSON object in a file of an index; None where there is none.

    Raises:
        DamagedError: as :func:`~e2fashion.disk.read_json`.
    """
    if isinstance(place, Path):
        file = place / name
        return read_json(file, REMEDY) if file.is_file() else None
    for left in reversed(range(READINGS)):
        content = place.read(name)
        try:
            return None if content is None else read_object(content, f"{place}/{name}", REMEDY)
        except DamagedError:
            if not left:
                raise
    return None


def write_values(place: Place, name: str, values: Mapping[str, Any]) -> None:
    """Write plain values with their checksum into a file of an index, atomically."""
    if isinstance(place, Store):
        place.write(name, json_text(seal(values)))
    else:
        write_json(place / name, seal(values))


@contextmanager
def building_at(place: Place) -> Iterator[None]:
    """Keep other processes from building an index there.

    Raises:
        FolderLockedError: one does.
    """
    with turn_in(place, "build", wait=False) if isinstance(place, Store) else locked(place):
        yield


@contextmanager
def changing_at(place: Place) -> Iterator[Callable[[], None]]:
    """Keep other processes from changing the index there, waiting for those that do.

    Yields a function that raises an error where they were not kept, as :func:`~e2fashion.disk.turns.turn_in`.
    """
    if isinstance(place, Store):
        with turn_in(place, "change") as check:
            yield check
    else:
        with turn_at(place / INDEX_FILE):
            yield lambda: None


def found_at(place: Place) -> set[str]:
    """Names of files and folders there, without what processes put at an address for their turns."""
    if isinstance(place, Store):
        return {name for name in place.entries() if not name.startswith(".")}
    return {entry.name for entry in place.iterdir()} if place.exists() else set()


def check_table(place: Place, again: bool = False, listed: Listing | None = None) -> set[str]:
    """Compare the files of a table with their list; those that are not listed, at an address the folder of all.

    ``again`` also reads files that have not changed since the last comparison; ``listed`` is the list, if it was read.

    Raises:
        DamagedError: a file or the list is damaged, or the latest version is missing.
    """
    if isinstance(place, Store):
        return {TABLE_FOLDER}
    check_tree(place / TABLE_FOLDER, REMEDY)
    if listed is None:
        listed = listed_at(place)  # first: what is added meanwhile counts as not listed
    there = set(file_names(place, is_of_table))
    check_files(place, {name: listed[name] for name in there & listed.keys()}, REMEDY, again=again, removable=True)
    latest, known = (sorted(name for name in names if name.startswith(MANIFESTS)) for names in (there, listed))
    if known and (not latest or latest[0] > known[0]):
        raise DamagedError(f"{place / known[0]} is missing, the latest version of the table. {REMEDY}")
    return there - listed.keys()


def is_of_table(name: str) -> bool:
    """Whether a file of an index is one that LanceDB has written, and never changes."""
    return name.startswith(f"{TABLE_FOLDER}/") and not name.endswith(HINT) and "#" not in name  # "#": being written


def listed_at(place: Place) -> Listing:
    """The list of a table's files.

    Raises:
        DamagedError: it is damaged.
    """
    return {} if isinstance(place, Store) else read_checksums(place, REMEDY)


def list_table(place: Place, listed: Listing) -> None:
    """Bring the list of a table's files up to date; ``listed`` are not read again."""
    if isinstance(place, Path):
        update_checksums(place, listed, is_of_table)


def forget_list(place: Place) -> None:
    """Remove the list of a table that is to be replaced, also one that was copied to an address."""
    if isinstance(place, Store):
        place.remove(CHECKSUMS_FILE)
    else:
        (place / CHECKSUMS_FILE).unlink(missing_ok=True)


def count_old_versions(place: Place, before: float) -> int:
    """Versions of the table that were written before a time, in seconds since the epoch."""
    if isinstance(place, Store):
        return sum(written < 1e9 * before for written in place.entries(MANIFESTS).values())
    with suppress(FileNotFoundError):  # another process tidies up
        return sum(entry.stat().st_mtime < before for entry in os.scandir(place / MANIFESTS))
    return 0
