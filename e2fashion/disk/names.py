"""Names that become names of files and folders: none of them leads out of where it belongs."""

from __future__ import annotations

import re
import unicodedata

from e2fashion.types import E2FashionError

LONGEST = 200
"""Bytes of UTF-8 in a name; a file system takes 255, of which endings and marks need some."""


def checked_name(key: str, value: str) -> str:
    """``value`` if it can name a folder inside another one.

    Raises:
        E2FashionError: it is empty, ``.`` or ``..``, begins with a dot, is too long, or holds a slash, a backslash or
            a control character; the message names ``key``.
    """
    if not value.strip() or value.startswith("."):
        problem = "is empty" if not value.strip() else "begins with a dot"
    elif re.search(r"[/\\]", value):
        problem = "holds a slash or backslash"
    elif any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in value):
        problem = "holds a control character"
    elif len(value.encode()) > LONGEST:
        problem = f"is longer than {LONGEST} bytes"
    else:
        return value
    raise E2FashionError(f"{key} is {value!r}, which {problem}: it names a folder; use letters, digits, '_' and '-'.")


def file_name(text: str) -> str:
    """A name made of any text: letters, digits, ``_``, ``-`` and inner dots stay, every other run becomes ``_``."""
    name = re.sub(r"[^\w.-]+", "_", text).lstrip(".").encode()[:LONGEST].decode(errors="ignore")
    return name or "_"
