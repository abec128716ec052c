"""Tables that describe products: CSV, TSV, Parquet and JSON Lines, read row by row."""

from __future__ import annotations

import csv
import difflib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from e2fashion.data.sources.base import SourceProblem
from e2fashion.types import E2FashionError

_PREVIEWED_LINES = 1000
_PARQUET_ROWS = 256
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class Table(Protocol):
    """Columns, a number of rows, and the rows: each with its place in the file, or a problem."""

    file: Path

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        ...

    def __len__(self) -> int: ...

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]] | SourceProblem]:
        """Every row's place and its values in ``columns``."""
        ...


def open_table(file: Path, encoding: str = "utf-8", delimiter: str = "") -> Table:
    """The table in ``file``, by its suffix; ``delimiter`` is guessed from the header when it is empty.

    Raises:
        E2FashionError: if the file is missing, of an unknown kind, without a header, or in another encoding.
    """
    if not file.is_file():
        raise E2FashionError(f"The table {file} does not exist. Check path and table.")
    match file.suffix.lower():
        case ".csv" | ".tsv" | ".txt":
            return DelimitedTable(file, encoding, delimiter)
        case ".parquet":
            return ParquetTable(file)
        case ".jsonl" | ".ndjson":
            return JsonLinesTable(file, encoding)
        case suffix:
            raise E2FashionError(
                f"{file}: tables end in .csv, .tsv, .txt, .parquet, .jsonl or .ndjson, not '{suffix}'. "
                f"Save the table in one of these formats."
            )


def require_columns(table: Table, wanted: Mapping[str, str]) -> None:
    """Check that ``table`` has the columns ``wanted`` (option that names the column -> column).

    Raises:
        E2FashionError: naming the first missing column, those that exist, and the likely one.
    """
    for option, column in wanted.items():
        if column not in table.columns:
            lowered = {name.lower(): name for name in table.columns}
            close = difflib.get_close_matches(column.lower(), lowered, n=1, cutoff=0.6)
            hint = f" Did you mean '{lowered[close[0]]}'?" if close else ""
            raise E2FashionError(
                f"{table.file} has no column '{column}' ({option}).{hint} "
                f"Its columns are: {', '.join(table.columns)}. Name the right one: {option}=<column>."
            )


def as_text(value: Any) -> str | None:
    """A cell as text: null and NaN are None, ``3.0`` is ``3``, lists are joined by ``"; "``."""
    match value:
        case None:
            return None
        case bool():
            return str(value).lower()
        case float() if math.isnan(value):
            return None
        case float() if value.is_integer():
            return str(int(value))  # whole numbers become floats in a column that also has gaps
        case list() | tuple():
            return "; ".join(text for item in value if (text := as_text(item)))
        case _:
            return str(value)


def _encoding_error(file: Path, encoding: str, detail: str, remedy: str) -> E2FashionError:
    return E2FashionError(f"{file} is not written in encoding '{encoding}': {detail}. Give the right one: {remedy}.")


def _lines(file: Path, encoding: str) -> Iterator[str]:
    """Lines with their ends; bytes that are wrong in a byte-wise encoding stay recognisable as lone surrogates."""
    with file.open("rb") as stream:
        if stream.read(2) in _UTF16_MARKS and not encoding.lower().startswith(("utf-16", "utf16", "utf_16")):
            raise _encoding_error(file, encoding, "it begins with the mark of UTF-16", "encoding=utf-16")
    plain_utf8 = encoding.lower().replace("_", "-") in ("utf-8", "utf8")
    number = 0
    try:
        with file.open(
            encoding="utf-8-sig" if plain_utf8 else encoding, errors="surrogateescape", newline=""
        ) as stream:
            for line in stream:
                number += 1
                yield line
    except LookupError as error:
        raise E2FashionError(f"encoding='{encoding}' is unknown to Python: write utf-8, latin-1, cp1252 ...") from error
    except UnicodeError as error:
        raise _encoding_error(file, encoding, f"after line {number}, {error}", "encoding=utf-8, for example") from error


@dataclass
class DelimitedTable:
    """CSV or TSV with a header; ``join_last`` gives surplus fields back to an unquoted last column."""

    file: Path
    encoding: str = "utf-8"
    delimiter: str = ""
    join_last: bool = False
    columns: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        header = next(_lines(self.file, self.encoding), "")
        if not self.delimiter:
            self.delimiter = max(",\t;|", key=header.count) if header.strip() else ","
        if len(self.delimiter) != 1:
            raise E2FashionError(f"delimiter='{self.delimiter}' must be a single character.")
        self.columns = tuple(name.strip() for name in next(csv.reader([header], delimiter=self.delimiter), []))
        if not any(self.columns):
            raise E2FashionError(f"{self.file} is empty: its first line must name the columns.")
        doubled = next((name for name in self.columns if name and self.columns.count(name) > 1), None)
        if doubled is not None:
            raise E2FashionError(f"{self.file} has two columns '{doubled}'. Rename one of them.")

    def __len__(self) -> int:
        return sum(1 for _ in self._records())

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Every record but the header and blank lines, with the number of its first line."""
        reader = csv.reader(_lines(self.file, self.encoding), delimiter=self.delimiter)
        line = 1
        try:
            for number, record in enumerate(reader):
                if number and record:
                    yield line, record
                line = reader.line_num + 1
        except csv.Error as error:
            raise E2FashionError(
                f"{self.file} line {line}: {error}. Look for a quotation mark that is never closed."
            ) from error

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]] | SourceProblem]:
        """Every record as text, or a problem where its number of fields is wrong."""
        width = len(self.columns)
        for line, record in self._records():
            where = f"{self.file.name} line {line}"
            if self.join_last and len(record) > width:
                record = [*record[: width - 1], self.delimiter.join(record[width - 1 :])]
            if len(record) != width:
                value = f"{len(record)} fields where the header has {width}"
                remedy = f"quote fields that contain '{self.delimiter}', or complete the row"
                yield SourceProblem(where, record[0], self.columns[-1], value, remedy, "wrong number of fields")
                continue
            values = dict(zip(self.columns, record, strict=True))
            yield where, {column: values[column] for column in columns}


@dataclass
class ParquetTable:
    """Parquet, read in small batches and only in the columns that are asked for."""

    file: Path
    columns: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        try:
            self._metadata = pq.read_metadata(self.file)
            self.columns = tuple(pq.read_schema(self.file).names)
        except (pa.ArrowInvalid, OSError) as error:
            raise E2FashionError(f"{self.file} is not a readable Parquet file: {error}. Fetch it again.") from error

    def __len__(self) -> int:
        return int(self._metadata.num_rows)

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]] | SourceProblem]:
        """Every row as Python values, counted from 1."""
        number = 0
        with pq.ParquetFile(self.file, memory_map=True) as opened:
            for batch in opened.iter_batches(_PARQUET_ROWS, columns=list(dict.fromkeys(columns))):
                for values in batch.to_pylist():
                    number += 1
                    yield f"{self.file.name} row {number}", values


@dataclass
class JsonLinesTable:
    """One JSON object per line; a key that a line lacks is null there. Columns are those of the first 1,000 lines."""

    file: Path
    encoding: str = "utf-8"
    columns: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        found: dict[str, None] = {}
        for number, line in enumerate(_lines(self.file, self.encoding)):
            if number == _PREVIEWED_LINES:
                break
            values = _json_object(line)
            if isinstance(values, dict):
                found |= dict.fromkeys(values)
        if not found:
            raise E2FashionError(f'{self.file} holds no JSON object: every line must be one, as in {{"id": 1}}.')
        self.columns = tuple(found)

    def __len__(self) -> int:
        return sum(1 for line in _lines(self.file, self.encoding) if line.strip())

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]] | SourceProblem]:
        """Every object, or a problem where a line is none."""
        for number, line in enumerate(_lines(self.file, self.encoding), start=1):
            if not line.strip():
                continue
            where = f"{self.file.name} line {number}"
            values = _json_object(line)
            if isinstance(values, str):
                remedy = "write one JSON object per line"
                yield SourceProblem(where, "", "line", values, remedy, "invalid JSON")
                continue
            yield where, {column: values.get(column) for column in columns}


def _json_object(line: str) -> dict[str, Any] | str:
    """The object, or what is wrong with it."""
    try:
        values = json.loads(line)
    except ValueError as error:
        return str(error)
    return values if isinstance(values, dict) else f"a {type(values).__name__} instead of an object"
