"""What a search asks for: texts and images as one vector, and the tags that products must have."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, TypeAlias

import pyarrow as pa
import torch.nn.functional as F
from torch import Tensor

from e2fashion.data.text import normalize_text
from e2fashion.encoder import Encoder, ImageInput, require_single_vectors
from e2fashion.tasks.search.storage import quote
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

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
            known = f"choose from {suggest(column, list(tags))}" if tags else "this index holds no tags"
            raise E2FashionError(f"there is no tag '{column}' to filter by: {known}")
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
                hint = f"no product has {column} '{value}': choose from {suggest(value, stored)}"
                if self.strict:
                    raise E2FashionError(hint)
                logger.warning(hint)
            found += same
        listed = ", ".join(map(quote, found))
        if not found:
            return NOTHING
        return f"array_has_any({name}, [{listed}])" if pa.types.is_list(kind) else f"({name} IN ({listed}))"


def encode_query(
    encoder: Encoder, text: str | None = None, image: ImageInput | None = None, weight: float = 0.5
) -> Tensor:
    """The L2-normalized ``weight`` x text + (1 - ``weight``) x image, or the embedding of the one given: (1, C).

    Raises:
        E2FashionError: neither is given, the text is blank, the weight is no share, or the encoder compares tokens.
    """
    require_single_vectors(encoder, "search")
    if text is not None:
        check_text(text)
    if text is None and image is None:
        raise E2FashionError("there is nothing to look for: give a text, an image or both")
    if not 0.0 <= weight <= 1.0:
        raise E2FashionError(f"weight is {weight}; give the text's share, from 0 (image alone) to 1 (text alone)")
    if image is None:
        return encoder.embed_texts(text or "")
    if text is None:
        return encoder.embed_images(image)
    return F.normalize(weight * encoder.embed_texts(text) + (1 - weight) * encoder.embed_images(image), dim=-1)


def check_text(text: str) -> None:
    """Raise an E2FashionError for a text to search for that is blank."""
    if not text.strip():
        raise E2FashionError("the text of the query is empty: say what to look for")


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


def suggest(word: str, names: Sequence[str]) -> str:
    """The names nearest to ``word``, whatever their case; if none is near, the first ones and the number of all."""
    by_lower = {name.lower(): name for name in names}
    near = get_close_matches(word.lower(), by_lower, n=SUGGESTIONS, cutoff=0.5)
    if near:
        return ", ".join(f"'{by_lower[name]}'" for name in near)
    listed = ", ".join(f"'{name}'" for name in sorted(names)[:SUGGESTIONS])
    return listed + (f" ... ({len(names)} in all)" if len(names) > SUGGESTIONS else "")


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
