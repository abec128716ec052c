"""Tags as the columns of a table: texts, numbers and lists."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from e2fashion.data.numbers import decide_sign, parse_number
from e2fashion.types import E2FashionError

_PLAIN = r"^-?(0|[1-9]\d*)(\.\d+)?$"
TYPES: dict[str, pa.DataType] = {"text": pa.string(), "number": pa.float64(), "list": pa.list_(pa.string())}


@dataclass(frozen=True)
class Typing:
    """The kind of every tag, the decimal sign of those that are parsed as numbers, and the separator of lists."""

    kinds: dict[str, Literal["text", "number", "list"]] = field(default_factory=dict)
    decimal: dict[str, str] = field(default_factory=dict)
    separators: dict[str, str] = field(default_factory=dict)

    @property
    def types(self) -> dict[str, pa.DataType]:
        """The types of the columns."""
        return {name: TYPES[kind] for name, kind in self.kinds.items()}

    def extended(self, tags: pa.Table) -> Typing:
        """The same with the tags of a table that are new: numbers where all values are, else texts."""
        new = {name: tags[name] for name in tags.column_names if name not in self.kinds}
        return replace(self, kinds={**self.kinds, **{name: _kind(values) for name, values in new.items()}})

    def typed(self, rows: pa.Table) -> pa.Table:
        """The rows with the tags in their types.

        Raises:
            E2FashionError: a value of a number is none; the message names the product.
        """
        for position, name in enumerate(rows.column_names):
            kind = self.kinds.get(name, "text")
            if pa.types.is_floating(rows[name].type):
                if kind == "number":
                    continue
                rows = rows.set_column(position, name, as_texts(rows[name]))
            values: Sequence[str | None] = rows[name].to_pylist() if kind != "text" else ()
            if kind == "number":
                numbers = [_number(value, self.decimal.get(name)) for value in values]
                for row, (value, number) in enumerate(zip(values, numbers, strict=True)):
                    if value and value.strip() and number is None:
                        raise E2FashionError(
                            f"product '{rows['product_id'][row]}' has {name} '{value}', which is no number: correct "
                            f"it, or build the index with texts={name}"
                        )
                rows = rows.set_column(position, name, pa.array(numbers, pa.float64()))
            elif kind == "list":
                lists = [_parts(value, self.separators.get(name, "")) for value in values]
                rows = rows.set_column(position, name, pa.array(lists, TYPES["list"]))
        return rows


def decide_typing(
    tags: pa.Table, numbers: Sequence[str] = (), texts: Sequence[str] = (), lists: Mapping[str, Any] | None = None
) -> Typing:
    """The kinds of the tags of a table; ``numbers`` are parsed, ``texts`` stay so, ``lists`` are split at a separator.

    Raises:
        E2FashionError: a column that does not exist, no separator, or numbers whose decimal sign is open.
    """
    separators = {name: str(separator or "") for name, separator in (lists or {}).items()}
    for name in (*numbers, *texts, *separators):
        if name not in tags.column_names:
            raise E2FashionError(f"there is no tag '{name}': choose from {', '.join(tags.column_names) or 'none'}")
    if empty := [name for name, separator in separators.items() if not separator]:
        raise E2FashionError(f"lists.{empty[0]} is empty: give what separates the values, as in lists.{empty[0]}=|")
    given = dict.fromkeys(numbers, "number") | dict.fromkeys(texts, "text") | dict.fromkeys(separators, "list")
    kinds: dict[str, Any] = {name: given.get(name) or _kind(tags[name]) for name in tags.column_names}
    decimal = {name: _decimal_sign(name, tags[name]) for name in numbers if not pa.types.is_floating(tags[name].type)}
    return Typing(kinds, decimal, separators)


def as_texts(values: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """A column with its numbers, if it is of numbers, as texts."""
    if not pa.types.is_floating(values.type):
        return values
    return pa.array([None if number is None else f"{number:.15g}" for number in values.to_pylist()], pa.string())


def _kind(values: pa.ChunkedArray) -> Literal["text", "number"]:
    """Numbers where every value is one as it is written: no leading zeros, no sign but the minus."""
    return "number" if pa.types.is_floating(values.type) or _all_plain(values.drop_null()) else "text"


def _all_plain(values: pa.ChunkedArray) -> bool:
    return len(values) > 0 and bool(pc.all(pc.match_substring_regex(values, _PLAIN)).as_py())


def _decimal_sign(name: str, values: pa.ChunkedArray) -> str:
    present = values.drop_null()
    if _all_plain(present):
        return "."
    if (sign := decide_sign(filter(str.strip, present.to_pylist()))) is None:
        raise E2FashionError(
            f"the numbers of '{name}' may be fractions or thousands, as in '{present[0]}': prepare the catalogue with "
            f"numbers=[{name}] and decimal=comma or decimal=point"
        )
    return sign


def _number(value: str | None, decimal: str | None) -> float | None:
    """The number of a text that is parsed with a decimal sign, or that is written as a plain number (None)."""
    if value is None or not value.strip():
        return None
    if decimal is not None:
        return parse_number(value, decimal)
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _parts(value: str | None, separator: str) -> list[str] | None:
    parts = [part.strip() for part in (value or "").split(separator)]
    return [part for part in parts if part] or None
