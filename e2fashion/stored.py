"""Values that this package wrote as JSON, read again as dataclasses: of the types that they had, or one error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from e2fashion.disk import DamagedError

Stored = TypeVar("Stored")


def stored_as(schema: type[Stored], values: Any, what: str, remedy: str) -> Stored:
    """``values`` of a JSON file as a dataclass, every field of the type that it is declared with.

    Args:
        schema: the dataclass.
        values: what the file holds.
        what: the file, for the message.
        remedy: a sentence that says what to do about it.

    Raises:
        DamagedError: a field that is missing, unknown or of another type, by name.
    """
    try:
        return cast(Stored, _value(schema, values, ""))
    except _UnfitError as error:
        raise DamagedError(f"{what} is damaged ({error}). {remedy}") from error


def check_value(kind: Any, value: Any, name: str, what: str, remedy: str) -> None:
    """Refuse a ``value`` of JSON that is not of the type ``kind``; ``name`` is its key, the rest as for stored_as.

    Raises:
        DamagedError: it is of another type.
    """
    try:
        _value(kind, value, name)
    except _UnfitError as error:
        raise DamagedError(f"{what} is damaged ({error}). {remedy}") from error


class _UnfitError(Exception):
    pass


def _value(kind: Any, value: Any, name: str) -> Any:
    """A JSON value as ``kind``; lists become the tuples that are asked for."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
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
            items = [_value(parts[0], item, f"{name}[{place}]") for place, item in enumerate(value)]
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
    hints = get_type_hints(schema)
    own = {item.name: item for item in fields(schema) if item.init}
    if unknown := sorted(values.keys() - own.keys()):
        raise _UnfitError(f"{name or 'it'} has the unknown key {unknown[0]!r}")
    needed = [key for key, item in own.items() if item.default is MISSING and item.default_factory is MISSING]
    if missing := [key for key in needed if key not in values]:
        raise _UnfitError(f"{name or 'it'} lacks {missing[0]!r}")
    return schema(**{key: _value(hints[key], value, f"{name}.{key}".lstrip(".")) for key, value in values.items()})


def _short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= 60 else said[:57] + "..."
