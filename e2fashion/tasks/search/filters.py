"""Which products carry the tags that a search asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from e2fashion.tasks.search.shards import DESCRIPTION, PLACE, PRODUCT_ID
from e2fashion.types import E2FashionError

#: Values by column: one value, several of which any will do, or None for products without the tag.
Where: TypeAlias = Mapping[str, str | Sequence[str] | None]

SUGGESTIONS = 5


def tag_columns(products: pa.Table) -> list[str]:
    """The columns that products can be chosen by."""
    return [name for name in products.column_names if name not in (PRODUCT_ID, DESCRIPTION, PLACE)]


def matching(products: pa.Table, where: Where) -> NDArray[np.bool_]:
    """Which of N products fulfil every condition: (N,).

    Raises:
        E2FashionError: a column or a value that does not occur; the message offers those that are nearest.
    """
    found = np.ones(len(products), dtype=bool)
    columns = tag_columns(products)
    for column, wanted in where.items():
        if column not in columns:
            raise E2FashionError(
                f"there is no tag '{column}' to filter by: "
                + (f"choose from {suggest(column, columns)}" if columns else "this index holds no tags")
            )
        if wanted is None:
            found &= products[column].is_null().to_numpy()
            continue
        values = [wanted] if isinstance(wanted, str) else [str(value) for value in wanted]
        there = pc.unique(products[column]).drop_null().to_pylist()
        for value in values:
            if value not in there:
                raise E2FashionError(f"no product has {column} '{value}': choose from {suggest(value, there)}")
        if not values:
            raise E2FashionError(f"the filter on {column} names no value: give one or more")
        found &= pc.is_in(products[column], value_set=pa.array(values, pa.string())).to_numpy()
    return found


def suggest(word: str, names: Sequence[str]) -> str:
    """The names nearest to ``word``, whatever their case; if none is near, the first ones and how many there are."""
    by_lower = {name.lower(): name for name in names}
    near = get_close_matches(word.lower(), by_lower, n=SUGGESTIONS, cutoff=0.5)
    if near:
        return ", ".join(f"'{by_lower[name]}'" for name in near)
    listed = ", ".join(f"'{name}'" for name in sorted(names)[:SUGGESTIONS])
    return listed + (f" ... ({len(names)} in all)" if len(names) > SUGGESTIONS else "")
