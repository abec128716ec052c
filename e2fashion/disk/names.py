"""Names of files and folders that cannot lead to another folder, and paths without links."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

from e2fashion.types import E2FashionError

LONGEST = 200
"""Bytes of UTF-8 in a name; file systems allow 255, of which suffixes need some."""


def checked_name(key: str, value: str) -> str:
    """``value``, if it can be the name of a subfolder.

    Raises:
        E2FashionError: it is empty, begins with a dot, is too long, or contains a slash, a backslash or a control
            character; the message names ``key``.
    """
    if not value.strip() or value.startswith("."):
        problem = "is empty" if not value.strip() else "begins with a dot"
    elif re.search(r"[/\\]", value):
        problem = "contains a slash or backslash"
    elif any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in value):
        problem = "contains a control character"
    elif len(value.encode()) > LONGEST:
        problem = f"is longer than {LONGEST} bytes"
    else:
        return value
    raise E2FashionError(f"{key} is {value!r}, which {problem}: it names a folder; use letters, digits, '_' and '-'.")


def file_name(text: str) -> str:
    """A file name from any text: other characters than letters, digits, ``_``, ``-`` and dots become ``_``."""
    name = re.sub(r"[^\w.-]+", "_", text).lstrip(".").encode()[:LONGEST].decode(errors="ignore")
    return name or "_"


def real_path(path: str | Path) -> Path:
    """The absolute path without links; unlike ``Path.resolve`` also where a link leads to itself."""
    return Path(os.path.realpath(path))
