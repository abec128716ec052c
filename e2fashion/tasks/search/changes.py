"""Changes of an index: by one process at a time, in a list of files before they are acknowledged, and tidied up."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from e2fashion.disk import CHECKSUMS_FILE, naming, read_checksums, turn_at, update_checksums
from e2fashion.tasks.search.storage import (
    INDEX_FILE,
    MANIFESTS,
    REMEDY,
    TABLE,
    TABLE_FOLDER,
    IndexFacts,
    check_rows,
    check_table,
    content_of,
    fitted,
    is_of_table,
    open_table,
    require_lancedb,
    table_schema,
)

FRAGMENTS = 16
"""More fragments than this are merged behind a change."""
KEPT_VERSIONS = timedelta(hours=1)
"""Versions of the table that readers may still use."""
OLD_VERSIONS = 64
"""More versions than this that no reader uses are removed behind a change: comparing their files takes time."""


@dataclass
class Change:
    """A change of an index: its table, and its facts, which are written at the end if they were replaced."""

    folder: Path
    facts: IndexFacts

    @cached_property
    def table(self) -> Any:
        """The table at its latest version, whose files were compared already."""
        return open_table(self.folder, self.facts, verify=False)


@contextmanager
def writing(folder: Path) -> Iterator[Change]:
    """Change an index while no other process does; waits for those that do.

    Raises:
        E2FashionError: as :meth:`IndexFacts.load` and :func:`check_table`, or the disk refuses.
    """
    IndexFacts.load(folder)
    with naming(folder), turn_at(folder / INDEX_FILE):
        change = Change(folder, facts := IndexFacts.load(folder))
        listed = read_checksums(folder, REMEDY)
        if any(name.startswith(MANIFESTS) for name in check_table(folder, listed=listed)):
            check_rows(folder, change.table)
        yield change
        update_checksums(folder, listed, is_of_table)
        if change.facts != facts:  # last: it ends this process's turn
            change.facts.save(folder)


def start_index(folder: Path, facts: IndexFacts, rows: pa.Table | None = None) -> None:
    """Write an index that is empty and not complete, or complete with all ``rows``; the facts come last.

    A table that a killed process left is replaced.
    """
    (folder / CHECKSUMS_FILE).unlink(missing_ok=True)  # of a table that is not there any more
    schema = table_schema(facts.width, facts.typing.types)
    mode = "overwrite" if (folder / TABLE_FOLDER).exists() else "create"
    with naming(folder):
        table = require_lancedb().connect(folder).create_table(TABLE, schema=schema, mode=mode)
    if rows is not None:
        rows = fitted(rows, schema)
        table.add(rows)
        facts = replace(facts, origin=replace(facts.origin, content=content_of(rows)), complete=True)
    with naming(folder):
        update_checksums(folder, {}, is_of_table)
    facts.save(folder)


def tidy(folder: Path, always: bool = False) -> None:
    """Merge the fragments of a table if there are many, and remove versions that no reader uses any more."""
    if always or _is_untidy(folder):
        with writing(folder) as change:
            change.table.optimize(cleanup_older_than=KEPT_VERSIONS)


def _is_untidy(folder: Path) -> bool:
    """Whether a table, whose files were compared already, has many fragments or old versions."""
    table = open_table(folder, verify=False)
    if table.stats()["fragment_stats"]["num_fragments"] > FRAGMENTS:
        return True
    since = time.time() - KEPT_VERSIONS.total_seconds()
    with suppress(FileNotFoundError):  # another process tidies up
        return sum(entry.stat().st_mtime < since for entry in os.scandir(folder / MANIFESTS)) > OLD_VERSIONS
    return False
