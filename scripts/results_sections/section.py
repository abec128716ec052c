"""What a section of the page of results is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from e2fashion.tables import Table
from e2fashion.types import ResultRecord


@dataclass(frozen=True)
class Section:
    """One set of records (a file of ``docs/results/``) with the words around its tables.

    ``views`` are split and notion of a hit of tables of retrieval, which interval lines follow where ``intervals``;
    ``tables`` makes all others.
    """

    title: str
    records: str
    before: str
    views: tuple[tuple[str, str], ...] = ()
    intervals: bool = True
    tables: Callable[[Sequence[ResultRecord]], Sequence[Table]] = field(default=lambda records: ())
    after: str = ""
