"""JSON files that describe what lies beside them: read with one error for all damage, and sealed against changes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xxhash

from e2fashion.disk.trouble import DamagedError

SEAL = "checksum"
"""The key that holds the checksum of all others."""


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """The same values with a checksum over them, which :func:`read_json` compares."""
    values = {key: value for key, value in content.items() if key != SEAL}
    return values | {SEAL: _digest(values)}


def read_json(file: Path, remedy: str) -> dict[str, Any]:
    """The JSON object that a file holds; where it has a seal, that is compared and left out.

    Args:
        file: the file to read.
        remedy: a sentence that says what to do about a damaged file.

    Raises:
        DamagedError: the file is missing or cannot be read, holds no JSON object, or was changed since it was sealed.
    """
    if os.path.lexists(file) and not file.is_file():  # a pipe would never end
        raise DamagedError(f"{file} cannot be read (it is no regular file). {remedy}")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DamagedError(f"{file} cannot be read ({error.strerror}). {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{file} is damaged ({type(error).__name__}: {error}). {remedy}") from error
    if not isinstance(values, dict):
        raise DamagedError(f"{file} is damaged: it holds no JSON object but a {type(values).__name__}. {remedy}")
    if (expected := values.pop(SEAL, None)) is not None and expected != _digest(values):
        raise DamagedError(f"{file} is damaged or was edited: its content does not match its checksum. {remedy}")
    return values


def _digest(values: Mapping[str, Any]) -> str:
    # As read back: a tuple is a list there, a key is text, and the same number has one spelling.
    content = json.dumps(json.loads(json.dumps(values)), sort_keys=True)
    return xxhash.xxh3_128_hexdigest(content.encode())
