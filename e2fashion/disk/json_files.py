"""JSON and JSON Lines with checksums, and their values as dataclasses: all damage is a :class:`DamagedError`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import xxhash

from e2fashion.disk.atomic import open_text
from e2fashion.disk.trouble import DamagedError, check_regular

Stored = TypeVar("Stored")

SEAL = "checksum"
"""The key with the checksum of all others."""


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """The same values with a checksum over them, which :func:`read_json` verifies."""
    values = {key: value for key, value in content.items() if key != SEAL}
    return values | {SEAL: _digest(values)}


def read_json(file: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in a file, without its checksum, which is verified if present.

    Args:
        file: the file to read.
        remedy: the last sentence of error messages.

    Raises:
        DamagedError: the file is missing or unreadable, is not a JSON object, or does not match its checksum.
    """
    return read_object(_content(file, remedy), str(file), remedy)


def read_object(content: bytes | str, what: str, remedy: str) -> dict[str, Any]:
    """As :func:`read_json`, of the content of a file that ``what`` names."""
    values = read_line(content, what, remedy)
    if not isinstance(values, dict):
        raise DamagedError(f"{what} is damaged: it holds a {type(values).__name__}, not a JSON object. {remedy}")
    return values


def _content(file: Path, remedy: str) -> bytes:
    check_regular(file, remedy)
    try:
        return file.read_bytes()
    except OSError as error:
        raise DamagedError(f"{file} cannot be read ({error.strerror}). {remedy}") from error


def sealed_line(content: Mapping[str, Any]) -> str:
    """A line of JSON Lines with a checksum, for :func:`read_line`.

    Raises:
        ValueError: a number that is not finite.
    """
    return json.dumps(seal(content), allow_nan=False, ensure_ascii=False) + "\n"


def read_line(line: bytes | str, what: str, remedy: str) -> Any:
    """The value of a JSON text, such as a line of JSON Lines, without its checksum, which is verified if present.

    Raises:
        DamagedError: the line is not JSON, or does not match its checksum; ``what`` names it.
    """
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{what} is damaged ({type(error).__name__}: {error}). {remedy}") from error
    if isinstance(values, dict) and (expected := values.pop(SEAL, None)) is not None and expected != _digest(values):
        raise DamagedError(f"{what} is damaged or was edited: its content does not match its checksum. {remedy}")
    return values


def write_lines(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON Lines with checksums, atomically."""
    with open_text(file) as stream:
        stream.writelines(map(sealed_line, rows))


def read_lines(file: Path, remedy: str) -> list[dict[str, Any]]:
    """The objects of :func:`write_lines`, also without checksums.

    Raises:
        DamagedError: the file cannot be read, or a line is damaged; the message names it.
    """
    lines = enumerate(_content(file, remedy).splitlines(), start=1)
    rows = [read_line(line, f"{file} line {number}", remedy) for number, line in lines]
    if other := [number for number, row in enumerate(rows, start=1) if not isinstance(row, dict)]:
        raise DamagedError(f"{file} line {other[0]} is damaged: it is not a JSON object. {remedy}")
    return rows


def _digest(values: Mapping[str, Any]) -> str:
    # As read back from JSON, where tuples are lists and keys are text.
    content = json.dumps(json.loads(json.dumps(values)), sort_keys=True)
    return xxhash.xxh3_128_hexdigest(content.encode())


def stored_as(schema: type[Stored], values: Any, what: str, remedy: str) -> Stored:
    """``values`` of a JSON file as a dataclass, with the types of its fields checked.

    Args:
        schema: the dataclass.
        values: the content of the file.
        what: the file, for the message.
        remedy: the last sentence of the message.

    Raises:
        DamagedError: a field is missing, unknown or of another type; the message names it.
    """
    try:
        return cast(Stored, _value(schema, values, ""))
    except _UnfitError as error:
        raise DamagedError(f"{what} is damaged ({error}). {remedy}") from error


def check_value(kind: Any, value: Any, name: str, what: str, remedy: str) -> None:
    """Raise a DamagedError unless ``value`` is of the type ``kind``; ``name`` is its key; see :func:`stored_as`."""
    try:
        _value(kind, value, name)
    except _UnfitError as error:
        raise DamagedError(f"{what} is damaged ({error}). {remedy}") from error


class _UnfitError(Exception):
    pass


_PLAIN = (str, int, bool)


@cache
def _form(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    # Cached: a file of records has hundreds of thousands of values.
    return get_origin(kind), get_args(kind)


def _value(kind: Any, value: Any, name: str) -> Any:
    """A JSON value as ``kind``; lists become tuples if ``kind`` is one."""
    if kind is Any or (kind is type(value) and kind in _PLAIN):
        return value
    origin, parts = _form(kind)
    if origin in (Union, UnionType):
        for part in parts:
            try:
                return _value(part, value, name)
            except _UnfitError:
                continue
    elif origin is Literal:
        if isinstance(value, str) and value in parts:
            return value
    elif is_dataclass(kind):
        if isinstance(value, dict):
            return _dataclass(kind, value, name)
    elif origin in (list, tuple, Sequence):
        if isinstance(value, list):
            items = [_value(parts[0], item, f"{name}[{index}]") for index, item in enumerate(value)]
            return tuple(items) if origin is tuple else items
    elif origin in (dict, Mapping):
        if isinstance(value, dict):
            return {key: _value(parts[1], item, f"{name}.{key}".lstrip(".")) for key, item in value.items()}
    elif kind is float:
        if type(value) in (int, float) and math.isfinite(value):
            return float(value)
    elif type(value) is (NoneType if kind is None else kind):
        return value
    raise _UnfitError(f"{name or 'it'} is {_short(value)}")


def _dataclass(schema: Any, values: dict[str, Any], name: str) -> Any:
    kinds, needed = _fields_of(schema)
    if unknown := sorted(values.keys() - kinds.keys()):
        raise _UnfitError(f"{name or 'it'} has the unknown key {unknown[0]!r}")
    if missing := [key for key in needed if key not in values]:
        raise _UnfitError(f"{name or 'it'} lacks {missing[0]!r}")
    return schema(**{key: _value(kinds[key], value, f"{name}.{key}".lstrip(".")) for key, value in values.items()})


@cache
def _fields_of(schema: Any) -> tuple[dict[str, Any], list[str]]:
    """Types by name, and the names without a default."""
    kinds, given = get_type_hints(schema), [item for item in fields(schema) if item.init]
    needed = [item.name for item in given if item.default is MISSING and item.default_factory is MISSING]
    return {item.name: kinds[item.name] for item in given}, needed


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
