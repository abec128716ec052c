"""Records of delimited text: where each begins, its fields, and which quotation marks do not pair.

Python's ``csv`` reads on to the next quotation mark, wherever it is, and calls the result one field: a mark that opens
by mistake swallows whole rows. Here such a mark costs one row, and reading continues with the next line.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

LONGEST_QUOTED_FIELD = 131_072
"""Characters behind which an open quotation mark counts as never closed; Python's ``csv`` has the same bound."""

CLOSE_IT = "close it, or double a mark that belongs to the text and quote the field"


@dataclass(frozen=True)
class Record:
    """One record: the number of the line on which it begins, and its fields.

    A record with a ``fault`` is that line alone, split at every delimiter; ``column`` counts the field, from 0, whose
    quotation mark is wrong, and ``remedy`` says what to do.
    """

    line: int
    fields: list[str]
    fault: str = ""
    remedy: str = ""
    column: int = 0


class _Lines:
    """Lines that can be given back, and the number of the last one."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._waiting: deque[str] = deque()
        self.number = 0

    def next(self) -> str | None:
        line = self._waiting.popleft() if self._waiting else next(self._lines, None)
        self.number += line is not None
        return line

    def give_back(self, lines: list[str]) -> None:
        self._waiting.extendleft(reversed(lines))
        self.number -= len(lines)


def read_records(lines: Iterable[str], delimiter: str) -> Iterator[Record]:
    """Every record of ``lines`` (with their ends), the header first; blank lines are passed over.

    A field that begins with a quotation mark ends with one, before a delimiter or the end of a line; doubled marks
    inside mean one. In a field that begins otherwise a quotation mark is a character like any other (``5" heel``).
    A quoted field may span lines. It is a fault if it never ends, if text follows its closing mark, or if one of its
    lines is a separate row: as many fields as the header, most of them without white space where the rows before had
    none.
    """
    source = _Lines(lines)
    shape = _Shape()
    while (line := source.next()) is not None:
        if line.strip("\r\n"):
            record = _read_record(line, source, delimiter, shape)
            if not record.fault and len(record.fields) == (shape.width or len(record.fields)):
                shape.learn(record.fields)
            yield record


class _Shape:
    """What rows look like: how many fields they have, and in which columns none has held white space."""

    def __init__(self) -> None:
        self.width = 0
        self._unspaced: set[int] = set()

    def learn(self, fields: list[str]) -> None:
        if not self.width:  # the header
            self.width, self._unspaced = len(fields), set(range(len(fields)))
        else:
            self._unspaced = {column for column in self._unspaced if not _has_space(fields[column])}

    def is_row(self, line: str, delimiter: str) -> bool:
        """Whether a line is a row rather than prose with delimiters in it."""
        if line.count(delimiter) + 1 < self.width or self.width < 2 or len(line) > LONGEST_QUOTED_FIELD:
            return False
        fields = next(csv.reader([line], delimiter=delimiter), [])
        spaced = sum(_has_space(fields[column]) for column in self._unspaced if column < len(fields))
        return len(fields) == self.width and 2 * spaced <= len(self._unspaced)


def _has_space(field: str) -> bool:
    return len(field.split(maxsplit=1)) > 1 or field != field.strip()


def _read_record(first: str, source: _Lines, delimiter: str, shape: _Shape) -> Record:
    """The record that begins with the line ``first``; what it does not need of ``source`` is given back."""
    number = source.number
    bare = _without_end(first)
    if '"' not in first:
        return Record(number, bare.split(delimiter))
    fields: list[str] = []
    taken: list[str] = []

    def faulty(fault: str, remedy: str) -> Record:
        source.give_back(taken)
        return Record(number, bare.split(delimiter), fault, remedy, len(fields))

    text, start, line_start = first, 0, 0
    while True:
        if not text.startswith('"', start):
            end = text.find(delimiter, start)
            if end < 0:
                return Record(number, [*fields, _without_end(text[start:])])
            fields.append(text[start:end])
            start = end + 1
            continue
        closing = start
        while True:
            closing = text.find('"', closing + 1)
            if closing < 0:  # the field continues in the next line
                if line_start > start and shape.is_row(_without_end(text[line_start:]), delimiter):
                    return faulty(*_swallowed(source.number))
                line = source.next()
                if line is None or len(text) - start > LONGEST_QUOTED_FIELD:
                    taken += [line] if line is not None else []
                    where = "to the end of the file" if line is None else f"over {LONGEST_QUOTED_FIELD:,} characters"
                    return faulty(f"a quotation mark that is never closed: it reaches {where}", CLOSE_IT)
                taken.append(line)
                line_start = closing = len(text)
                text += line
                closing -= 1
            elif text.startswith('"', closing + 1):
                closing += 1
            else:
                break
        swallowed = line_start > start and delimiter in text[line_start:closing]
        if swallowed and shape.is_row(_without_end(text[line_start:]), delimiter):
            return faulty(*_swallowed(source.number))
        fields.append(text[start + 1 : closing].replace('""', '"'))
        rest = text[closing + 1 :]
        if not _without_end(rest):
            return Record(number, fields)
        if not rest.startswith(delimiter):
            fields.pop()
            return faulty("text behind a closing quotation mark", "double the marks that belong to the text")
        start = closing + 2


def _swallowed(line: int) -> tuple[str, str]:
    return (
        f"a quotation mark that is not closed before line {line}, which is a separate row",
        f"{CLOSE_IT}; a text that is meant to span these lines needs a blank behind its delimiters",
    )


def _without_end(line: str) -> str:
    return line.rstrip("\r\n")
