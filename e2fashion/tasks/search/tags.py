"""Tags as typed columns of a table, the conditions on them that a search states, and the tags that a text names."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from e2fashion.data.numbers import decide_sign, parse_number
from e2fashion.data.text import normalize_text
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

TagValue: TypeAlias = str | float | list[str]
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


#: By tag: a value, a list of which any will do, or None for products without the tag. Ranges of numbers: ``"10..50"``.
Where: TypeAlias = Mapping[str, Any]

SUGGESTIONS = 5
RANGE = ".."
NOTHING = "1 = 0"


@dataclass(frozen=True)
class Conditions:
    """Which products are searched: those that fulfil all of ``where``, none of ``where_not``, and ``filter`` in SQL.

    A value that no product has finds nothing, and a warning offers the nearest ones; with ``strict`` it is an error.
    """

    where: Where = field(default_factory=dict)
    where_not: Where = field(default_factory=dict)
    filter: str | None = None
    strict: bool = False

    @classmethod
    def of(cls, given: Conditions | Where | None) -> Conditions:
        """Conditions from a mapping alone, or from nothing."""
        return given if isinstance(given, Conditions) else cls(given or {})

    def sql(self, tags: Mapping[str, pa.DataType], values_of: Callable[[str], list[str]]) -> str | None:
        """The condition in SQL; None: there is none.

        Args:
            tags: the columns and their types.
            values_of: the distinct values of a column of texts or lists.

        Raises:
            E2FashionError: an unknown column, no value, no number where there are numbers, or, with ``strict``, a value
                that no product has.
        """
        parts = [self._one(column, wanted, tags, values_of) for column, wanted in self.where.items()]
        for column, excluded in self.where_not.items():
            condition = self._one(column, excluded, tags, values_of)
            name = _name(column)
            parts.append(f"{name} IS NOT NULL" if excluded is None else f"({name} IS NULL OR NOT {condition})")
        if self.filter is not None:
            if not self.filter.strip() or ";" in self.filter:
                raise E2FashionError(f'filter is {self.filter!r}; give one condition in SQL, as in "price < 50"')
            parts.append(f"({self.filter})")
        return " AND ".join(parts) or None

    def _one(
        self, column: str, wanted: Any, tags: Mapping[str, pa.DataType], values_of: Callable[[str], list[str]]
    ) -> str:
        if column not in tags:
            raise E2FashionError(f"there is no tag '{column}' to filter by: {suggest(column, list(tags))}")
        name, kind = _name(column), tags[column]
        if wanted is None:
            return f"{name} IS NULL"
        values = (
            [str(value) for value in wanted]
            if isinstance(wanted, Sequence | set) and not isinstance(wanted, str)
            else [str(wanted)]
        )
        if not values:
            raise E2FashionError(f"the filter on {column} names no value: give one or more")
        if pa.types.is_floating(kind):
            return f"({' OR '.join(_in_range(column, value) for value in values)})"
        stored = values_of(column)
        found: list[str] = []
        for value in values:
            same = [other for other in stored if other.casefold() == value.casefold()]
            if not same:
                hint = f"no product has {column} '{value}': {suggest(value, stored)}"
                if self.strict:
                    raise E2FashionError(hint)
                logger.warning(hint)
            found += same
        listed = ", ".join(map(quote, found))
        if not found:
            return NOTHING
        return f"array_has_any({name}, [{listed}])" if pa.types.is_list(kind) else f"({name} IN ({listed}))"


def tags_in(text: str, values: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The values that a text names as whole words, whatever their case, at most one per entity.

    Longer ones come first, then earlier ones; what is part of a longer value's place is not read for itself.

    Args:
        text: the text.
        values: by entity its values, by what :func:`~e2fashion.data.text.normalize_text` makes of them.
    """
    text = normalize_text(text)
    places = [
        (match.start() - match.end(), match.start(), entity, value)
        for entity, known in values.items()
        for name, value in known.items()
        if name and name in text
        for match in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", text)
    ]
    found: dict[str, str] = {}
    taken: set[tuple[int, int]] = set()
    for length, start, entity, value in sorted(places, key=lambda place: place[:2]):
        end = start - length
        if all((start, end) == other or end <= other[0] or other[1] <= start for other in taken):
            taken.add((start, end))
            found.setdefault(entity, value)
    return {entity: found[entity] for entity in values if entity in found}


def quote(text: str) -> str:
    """A text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def tag_text(value: TagValue) -> str:
    """A tag's value as it is shown."""
    return f"{value:.15g}" if isinstance(value, float) else value if isinstance(value, str) else ", ".join(value)


def suggest(word: str, names: Sequence[str]) -> str:
    """What to write for ``word``: the nearest names, whatever their case; else the first ones and their number."""
    if not names:
        return "the index has none"
    by_lower = {name.lower(): name for name in names}
    near = get_close_matches(word.lower(), by_lower, n=SUGGESTIONS, cutoff=0.5)
    if near:
        *others, last = [f"'{by_lower[name]}'" for name in near]
        return f"did you mean {', '.join(others)}{' or ' if others else ''}{last}?"
    listed = ", ".join(f"'{name}'" for name in sorted(names)[:SUGGESTIONS])
    return f"choose from {listed}" + (f" ... ({len(names)} in all)" if len(names) > SUGGESTIONS else "")


def _name(column: str) -> str:
    return f"`{column}`"


def _in_range(column: str, value: str) -> str:
    """A number, or a range of which both ends belong to it and one may be missing, as a condition in SQL."""
    low, given, high = value.partition(RANGE)
    ends = [(sign, end.strip()) for sign, end in ((">=", low), ("<=", high)) if end.strip()] if given else [("=", low)]
    try:
        bounds = [f"{_name(column)} {sign} {float(end)!r}" for sign, end in ends]
    except ValueError:
        bounds = []
    if not bounds or "nan" in str(bounds):
        raise E2FashionError(f"{column} holds numbers, and '{value}' is none: give one, or a range as in 10..50")
    return f"({' AND '.join(bounds)})"
