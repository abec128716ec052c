"""Changes of an index: by one process at a time, in a list of files before they are acknowledged, and tidied up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import Any

import pyarrow as pa

from e2fashion.tasks.search.facts import IndexFacts
from e2fashion.tasks.search.places import (
    MANIFESTS,
    TABLE,
    TABLE_FOLDER,
    Place,
    changing_at,
    check_table,
    connect,
    count_old_versions,
    forget_list,
    found_at,
    list_table,
    listed_at,
    writing_at,
)
from e2fashion.tasks.search.storage import check_rows, content_of, fitted, open_table, table_schema

FRAGMENTS = 16
"""More fragments than this are merged behind a change."""
KEPT_VERSIONS = timedelta(hours=1)
"""Versions of the table that readers may still use."""
OLD_VERSIONS = 64
"""More versions than this that no reader uses are removed behind a change: comparing their files takes time."""


@dataclass
class Change:
    """A change of an index: its table, and its facts, which are written at the end if they were replaced."""

    place: Place
    facts: IndexFacts

    @cached_property
    def table(self) -> Any:
        """The table at its latest version, whose files were compared already."""
        return open_table(self.place, self.facts, verify=False)


@contextmanager
def writing(place: Place) -> Iterator[Change]:
    """Change an index while no other process does; waits for those that do.

    Raises:
        E2FashionError: as :meth:`IndexFacts.load` and :func:`check_table`, or the disk or the store refuses.
    """
    IndexFacts.load(place)
    with writing_at(place), changing_at(place) as check_turn:
        change = Change(place, facts := IndexFacts.load(place))
        listed = listed_at(place)
        if any(name.startswith(MANIFESTS) for name in check_table(place, listed=listed)):
            check_rows(place, change.table)
        yield change
        check_turn()
        list_table(place, listed)
        if change.facts != facts:  # last: it ends this process's turn
            change.facts.save(place)


def start_index(place: Place, facts: IndexFacts, rows: pa.Table | None = None) -> None:
    """Write an index that is empty and not complete, or complete with all ``rows``; the facts come last.

    A table that a killed process left is replaced.
    """
    forget_list(place)  # of a table that is not there any more
    schema = table_schema(facts.width, facts.typing.types)
    mode = "overwrite" if TABLE_FOLDER in found_at(place) else "create"
    with writing_at(place):
        table = connect(place).create_table(TABLE, schema=schema, mode=mode)
    if rows is not None:
        rows = fitted(rows, schema)
        table.add(rows)
        facts = replace(facts, origin=replace(facts.origin, content=content_of(rows)), complete=True)
    with writing_at(place):
        list_table(place, {})
    facts.save(place)


def tidy(place: Place, always: bool = False) -> None:
    """Merge the fragments of a table if there are many, and remove versions that no reader uses any more."""
    if always or _is_untidy(place):
        with writing(place) as change:
            change.table.optimize(cleanup_older_than=KEPT_VERSIONS)


def _is_untidy(place: Place) -> bool:
    """Whether a table, whose files were compared already, has many fragments or old versions."""
    table = open_table(place, verify=False)
    if table.stats()["fragment_stats"]["num_fragments"] > FRAGMENTS:
        return True
    return count_old_versions(place, time.time() - KEPT_VERSIONS.total_seconds()) > OLD_VERSIONS
