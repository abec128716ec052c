"""Tables that describe products: CSV, TSV, Parquet and JSON Lines, read row by row."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from e2fashion.data.sources.base import SourceProblem
from e2fashion.data.sources.records import Record, read_records
from e2fashion.escape import first_control, visible
from e2fashion.types import E2FashionError

_PREVIEWED_LINES = 1000
_PARQUET_ROWS = 256
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_LONGEST_LINE = 1 << 24


class Table(Protocol):
    """Columns, a number of rows, and the rows: each with its line in the file, or a problem."""

    file: Path

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        ...

    def __len__(self) -> int: ...

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]] | SourceProblem]:
        """Every row's line and its values in ``columns``."""
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
    """A cell as text: null and NaN are None, ``3.0`` is ``3``, bytes are UTF-8, lists are joined by ``"; "``."""
    match value:
        case None:
            return None
        case bool():
            return str(value).lower()
        case float() if math.isnan(value):
            return None
        case float() if value.is_integer():
            return str(int(value))  # whole numbers become floats in a column that also has gaps
        case bytes():
            return value.decode("utf-8", "surrogateescape")
        case list() | tuple():
            return "; ".join(text for item in value if (text := as_text(item)))
        case _:
            return str(value)


def as_tag(value: Any, missing: Container[str]) -> str | None:
    """As :func:`as_text`; texts that mean a missing one are None."""
    text = as_text(value)
    return None if text is None or text.strip() in missing else text


def _encoding_error(file: Path, encoding: str, detail: str, remedy: str) -> E2FashionError:
    return E2FashionError(f"{file} is not written in encoding '{encoding}': {detail}. Give the right one: {remedy}.")


def _lines(file: Path, encoding: str) -> Iterator[str]:
    """Lines with their ends; bytes that are wrong in a byte-wise encoding stay recognizable as lone surrogates."""
    with file.open("rb") as stream:
        if stream.read(2) in _UTF16_MARKS and not encoding.lower().startswith(("utf-16", "utf16", "utf_16")):
            raise _encoding_error(file, encoding, "it begins with the mark of UTF-16", "encoding=utf-16")
    plain_utf8 = encoding.lower().replace("_", "-") in ("utf-8", "utf8")
    number = 0
    try:
        with file.open(
            encoding="utf-8-sig" if plain_utf8 else encoding, errors="surrogateescape", newline=""
        ) as stream:
            for line in iter(partial(stream.readline, _LONGEST_LINE), ""):
                number += 1
                if len(line) == _LONGEST_LINE:
                    raise E2FashionError(
                        f"{file} line {number} is longer than {_LONGEST_LINE:,} characters: this is not a text table."
                    )
                yield line
    except LookupError as error:
        raise E2FashionError(f"encoding='{encoding}' is unknown to Python: write utf-8, latin-1, cp1252 ...") from error
    except UnicodeError as error:
        raise _encoding_error(file, encoding, f"after line {number}, {error}", "encoding=utf-8, for example") from error


@dataclass
class DelimitedTable:
    """CSV or TSV with a header; ``join_last`` gives surplus fields back to an unquoted last column.

    Which column a surplus delimiter stands in is not written anywhere. It counts as the last one only where every
    other column then holds what regular rows hold: numbers where they all have numbers, and one of their values where
    these repeat.
    """

    file: Path
    encoding: str = "utf-8"
    delimiter: str = ""
    join_last: bool = False
    columns: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        first_line = next(_lines(self.file, self.encoding), "")
        if not self.delimiter:
            self.delimiter = max(",\t;|", key=first_line.count) if first_line.strip() else ","
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n':
            raise E2FashionError(f"delimiter={self.delimiter!r} must be a single character, and no quotation mark.")
        header = next(read_records(_lines(self.file, self.encoding), self.delimiter), Record(1, []))
        if header.fault:
            raise E2FashionError(
                f"{self.file} line {header.line}: {header.fault}. Correct the header: {header.remedy}."
            )
        self.columns = tuple(name.strip() for name in header.fields)
        if not any(self.columns):
            raise E2FashionError(f"{self.file} is empty: its first line must name the columns.")
        if unfit := next((name for name in self.columns if first_control(name)), None):
            raise E2FashionError(
                f"{self.file}: the column name {unfit[:40]!r} holds control characters: this is not a text table in "
                f"encoding '{self.encoding}'. Give the right encoding, as in encoding=utf-16, or mend the header."
            )
        doubled = next((name for name in self.columns if name and self.columns.count(name) > 1), None)
        if doubled is not None:
            raise E2FashionError(f"{self.file} has two columns '{doubled}'. Rename one of them.")

    def __len__(self) -> int:
        return sum(1 for _ in self._records())

    def _records(self) -> Iterator[Record]:
        """Every record but the header."""
        return islice(read_records(_lines(self.file, self.encoding), self.delimiter), 1, None)

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]] | SourceProblem]:
        """Every record as text, or a problem where its quotation marks or its number of fields are wrong."""
        width = len(self.columns)
        for record in self._records():
            where, fields = f"{self.file.name} line {record.line}", record.fields
            if record.fault:
                column = self.columns[min(record.column, width - 1)]
                yield SourceProblem(where, fields[0], column, record.fault, record.remedy, "stray quotation mark")
                continue
            if self.join_last and len(fields) > width:
                joined = [*fields[: width - 1], self.delimiter.join(fields[width - 1 :])]
                if (odd := self._odd_column(joined)) is not None:
                    value = (
                        f"{joined[odd]!r}, which no regular row has there, and {len(fields)} fields in place of {width}"
                    )
                    remedy = f"quote the field that contains '{self.delimiter}'"
                    yield SourceProblem(where, fields[0], self.columns[odd], value, remedy, "shifted fields")
                    continue
                fields = joined
            if len(fields) != width:
                value = f"{len(fields)} fields where the header has {width}"
                remedy = f"quote fields that contain '{self.delimiter}', or complete the row"
                yield SourceProblem(where, fields[0], self.columns[-1], value, remedy, "wrong number of fields")
                continue
            values = dict(zip(self.columns, fields, strict=True))
            yield where, {column: values[column] for column in columns}

    def _odd_column(self, fields: list[str]) -> int | None:
        """The first column but the last whose value is unlike those of regular rows."""
        for column, (numbers, known) in enumerate(self._regular):
            if (numbers and not fields[column].strip().isdecimal()) or (known and fields[column].strip() not in known):
                return column
        return None

    @cached_property
    def _regular(self) -> list[tuple[bool, set[str]]]:
        """Of every column but the last, over rows of the right width: are all values numbers, and which do repeat.

        The set is empty where no value occurs twice: a column of ids.
        """
        regular = [r.fields for r in self._records() if not r.fault and len(r.fields) == len(self.columns)]
        rules = []
        for values in list(zip(*regular, strict=True))[:-1]:
            known = {value.strip() for value in values}
            rules.append((all(value.isdecimal() for value in known), known if len(known) < len(values) else set()))
        return rules


@contextmanager
def _parquet_errors(file: Path) -> Iterator[None]:
    """What Arrow raises on a damaged file, as one of our errors."""
    import pyarrow as pa  # in functions, so that help on the sources does not import it

    try:
        yield
    except (pa.ArrowException, OSError, UnicodeError, OverflowError, ValueError) as error:
        reason = visible(" ".join(str(error).split()))
        raise E2FashionError(f"{file} is not a readable Parquet file: {reason}. Fetch it again.") from error


@dataclass
class ParquetTable:
    """Parquet, read in small batches and only in the columns that are asked for."""

    file: Path
    columns: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        import pyarrow.parquet as pq

        with _parquet_errors(self.file):
            self._metadata = pq.read_metadata(self.file)
            self.columns = tuple(pq.read_schema(self.file).names)

    def __len__(self) -> int:
        return int(self._metadata.num_rows)

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]] | SourceProblem]:
        """Every row as Python values, counted from 1."""
        import pyarrow.parquet as pq

        with _parquet_errors(self.file), pq.ParquetFile(self.file, memory_map=True) as opened:
            batches = opened.iter_batches(_PARQUET_ROWS, columns=list(dict.fromkeys(columns)))
            for number, values in enumerate((row for batch in batches for row in batch.to_pylist()), start=1):
                yield f"{self.file.name} row {number}", values


@dataclass
class JsonLinesTable:
    """One JSON object per line; a key that a line lacks is null there. Columns are those of the first 1,000 lines."""

    file: Path
    encoding: str = "utf-8"
    columns: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        columns: dict[str, None] = {}
        for line in islice(_lines(self.file, self.encoding), _PREVIEWED_LINES):
            if isinstance(values := _json_object(line), dict):
                columns |= dict.fromkeys(values)
        if not columns:
            raise E2FashionError(f'{self.file} holds no JSON object: every line must be one, as in {{"id": 1}}.')
        self.columns = tuple(columns)

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
    except RecursionError:
        return "brackets that are nested too deeply"
    return values if isinstance(values, dict) else f"a {type(values).__name__} instead of an object"
