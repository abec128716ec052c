"""Text files that others wrote: lists of names and JSON, in any Unicode encoding, up to a bound."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

from e2fashion.escape import first_control, visible
from e2fashion.types import E2FashionError

LARGEST_TEXT_FILE = 1 << 30
"""Bytes: a larger list or JSON file is refused before it is read."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(file: Path, what: str) -> str:
    """The text of ``file``: UTF-8, or what its byte order mark says; ``what`` is what it should be, for messages.

    Raises:
        E2FashionError: it does not exist, is no regular file, is too large, or is no text.
    """
    if not file.is_file():
        kind = "is no regular file" if file.exists() else "does not exist"
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
        raise E2FashionError(f"'{file}' line {line} is no {encoding} text: save {what} as UTF-8.") from error


def read_list(file: Path, what: str) -> list[str]:
    """The lines of a text file without the white space around them; blank ones are passed over.

    Raises:
        E2FashionError: as for :func:`read_text`, or a line with control characters: a file that is no list.
    """
    text = read_text(file, what).replace("\r\n", "\n").replace("\r", "\n")
    lines = [line.strip() for line in text.split("\n")]
    for number, line in enumerate(lines, start=1):
        if (control := first_control(line)) is not None:
            raise E2FashionError(
                f"'{file}' line {number} holds the control character '{visible(control)}', as a file that is no text "
                f"does: give {what}."
            )
    return [line for line in lines if line]


def read_json(file: Path, what: str) -> Any:
    """What a JSON file holds.

    Raises:
        E2FashionError: as for :func:`read_text`, or it is no JSON, or is nested too deeply.
    """
    text = read_text(file, what)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise E2FashionError(f"{file} is no {what}: its brackets are nested too deeply. Fetch it again.") from error
    except ValueError as error:
        raise E2FashionError(f"{file} is no JSON ({error}): perhaps an incomplete download. Fetch it again.") from error
