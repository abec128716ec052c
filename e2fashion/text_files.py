"""Read text files from other sources: lists and JSON, in any Unicode encoding, up to a maximum size."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

from e2fashion.escape import first_control, visible
from e2fashion.types import E2FashionError

LARGEST_TEXT_FILE = 1 << 30
"""Bytes: larger files are refused before they are read."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is its prefix
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(file: Path, what: str) -> str:
    """The text of ``file`` in UTF-8 or the encoding of its byte order mark; ``what`` is the expected content.

    Raises:
        E2FashionError: it does not exist, is not a regular file, is too large, or is not text.
    """
    if not file.is_file():
        kind = "is not a regular file" if file.exists() else "does not exist"
        raise E2FashionError(f"'{file}' {kind}: give {what}.")
    try:
        size = file.stat().st_size
        if size > LARGEST_TEXT_FILE:
            raise E2FashionError(f"'{file}' has {size:,} bytes, too many for {what}: is it the right file?")
        content = file.read_bytes()
    except OSError as error:
        raise E2FashionError(f"'{file}' cannot be read ({error.strerror}): give {what}.") from error
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeError as error:
        line = content[: getattr(error, "start", 0)].count(b"\n") + 1
        raise E2FashionError(f"'{file}' line {line} is not valid {encoding}: save {what} as UTF-8.") from error


def read_list(file: Path, what: str) -> list[str]:
    """The lines of a text file without outer white space; blank lines are skipped.

    Raises:
        E2FashionError: as for :func:`read_text`, or a line has control characters.
    """
    text = read_text(file, what).replace("\r\n", "\n").replace("\r", "\n")
    lines = [line.strip() for line in text.split("\n")]
    for number, line in enumerate(lines, start=1):
        if (control := first_control(line)) is not None:
            raise E2FashionError(
                f"'{file}' line {number} has the control character '{visible(control)}', so it is not a text file: "
                f"give {what}."
            )
    return [line for line in lines if line]


def read_json(file: Path, what: str) -> Any:
    """The content of a JSON file.

    Raises:
        E2FashionError: as for :func:`read_text`, or it is not JSON, or is nested too deeply.
    """
    text = read_text(file, what)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise E2FashionError(f"{file} is not {what}: its brackets are nested too deeply. Fetch it again.") from error
    except ValueError as error:
        raise E2FashionError(f"{file} is not JSON ({error}): an incomplete download? Fetch it again.") from error
