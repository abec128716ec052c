"""Published values, read from a file with their sources, for comparison in tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from e2fashion.disk import stored_as
from e2fashion.tables import MISSING_VALUE
from e2fashion.types import E2FashionError


@dataclass(frozen=True)
class PublishedRow:
    """The values of one system on one data set as stated by ``source``; None: the cell in the source is illegible.

    ``tables`` are the tables that show the row; ``protocol`` is ``n/a`` if the source does not state it; ``citation``
    is the full source, ``title`` the data set's name.
    """

    tables: tuple[str, ...]
    system: str
    data: str
    task: str
    protocol: str
    source: str
    values: Mapping[str, float | None]
    note: str = ""
    citation: str = ""
    title: str = ""

    def label(self, *notes: str) -> str:
        """The row's label in tables: system, data set, "published" and ``notes``."""
        return f"{self.system} ({', '.join([self.title or self.data, 'published', *notes])})"

    def columns(self) -> dict[tuple[str, str], float]:
        """The known values by direction and metric: ``"i2t R@1"`` becomes ``("i2t", "R@1")``."""
        split = {name.partition(" ")[::2]: value for name, value in self.values.items()}
        return {(direction, metric): value for (direction, metric), value in split.items() if value is not None}


def load_published(file: Path) -> list[PublishedRow]:
    """The rows of a file of published values, in its order.

    Raises:
        E2FashionError: a missing file, or a row with an unknown source or field, or a value that is neither a number
            nor ``n/a``.
    """
    if not file.is_file():
        raise E2FashionError(f"there are no published values at {file}: give the file with the values")
    try:
        content = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(file)))
        sources, rows, titles = content.get("sources"), content.get("rows"), content.get("data_sets", {})
    except Exception as error:  # of the parser, a RecursionError, or an AttributeError for a list
        raise E2FashionError(f"{file} is not valid YAML of a mapping: {' '.join(str(error).split())}") from error
    if not isinstance(sources, dict) or not isinstance(titles, dict) or not isinstance(rows, list):
        raise E2FashionError(
            f"{file} holds no published values: it needs mappings 'sources' and 'data_sets', a list 'rows'"
        )
    parsed = [_row(values, sources, f"{file.name}, row {number}") for number, values in enumerate(rows, 1)]
    return [replace(row, title=str(titles.get(row.data, row.data))) for row in parsed]


def _row(given: Any, sources: Mapping[str, str], where: str) -> PublishedRow:
    if not isinstance(given, dict):
        raise E2FashionError(f"{where} is {given!r}: a row is a mapping")
    names = {item.name for item in fields(PublishedRow)} - {"citation", "title"}
    if unknown := sorted(set(given) - names):
        raise E2FashionError(f"{where} has the unknown field '{unknown[0]}': a row has {', '.join(sorted(names))}")
    if missing := sorted(names - set(given) - {"note"}):
        raise E2FashionError(f"{where} lacks '{missing[0]}', which every published value needs")
    for name, kind, what in (("source", str, "the name of a source"), ("values", dict, "a mapping")):
        if not isinstance(given[name], kind):
            raise E2FashionError(f"{where}: '{name}' is {given[name]!r}; write {what}")
    if given["source"] not in sources:
        raise E2FashionError(
            f"{where} names the source '{given['source']}', which is not listed under sources: {', '.join(sources)}"
        )
    values: dict[str, float | None] = {}
    for name, value in given["values"].items():
        if value != MISSING_VALUE and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise E2FashionError(f"{where}: '{name}' is {value!r}; write a number, or {MISSING_VALUE} if it is unknown")
        values[name] = None if value == MISSING_VALUE else float(value)
    parsed = {"values": values, "citation": sources[given["source"]]}
    return stored_as(PublishedRow, given | parsed, where, "Write it like the other rows.")


def of_benchmark(rows: Sequence[PublishedRow], benchmark: str) -> list[PublishedRow]:
    """The rows that have a value of ``benchmark``, with that value alone and its data set."""
    return [
        replace(row, values={benchmark: row.values[benchmark]}, title=benchmark.removeprefix("F1 "))
        for row in rows
        if benchmark in row.values
    ]
