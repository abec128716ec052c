"""What a search asks for: texts and images as one vector, and the tags that products must have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from e2fashion.encoder import Encoder, ImageInput, require_single_vectors
from e2fashion.tasks.search.storage import tag_columns
from e2fashion.types import E2FashionError

#: Values by column: one value, a list of which any will do, or None for products without the tag.
Where: TypeAlias = Mapping[str, str | Sequence[str] | None]

SUGGESTIONS = 5


def encode_query(
    encoder: Encoder, text: str | None = None, image: ImageInput | None = None, weight: float = 0.5
) -> Tensor:
    """The L2-normalized ``weight`` x text + (1 - ``weight``) x image, or the embedding of the one given: (1, C).

    Raises:
        E2FashionError: neither is given, the text is blank, the weight is no share, or the encoder compares tokens.
    """
    require_single_vectors(encoder, "search")
    if text is not None and not text.strip():
        raise E2FashionError("the text of the query is empty: say what to look for")
    if text is None and image is None:
        raise E2FashionError("there is nothing to look for: give a text, an image or both")
    if not 0.0 <= weight <= 1.0:
        raise E2FashionError(f"weight is {weight}; give the text's share, from 0 (image alone) to 1 (text alone)")
    if image is None:
        return encoder.embed_texts(text or "")
    if text is None:
        return encoder.embed_images(image)
    return F.normalize(weight * encoder.embed_texts(text) + (1 - weight) * encoder.embed_images(image), dim=-1)


def conditions(where: Mapping[str, Any]) -> dict[str, str | list[str] | None]:
    """The ``where`` of a configuration, its numbers as texts: that is how tags are stored."""
    return {
        column: None if value is None else [str(item) for item in value] if isinstance(value, list) else str(value)
        for column, value in where.items()
    }


def matching(products: pa.Table, where: Where) -> NDArray[np.bool_]:
    """Which of N products fulfil every condition: (N,).

    Raises:
        E2FashionError: a column or a value that does not occur; the message suggests the nearest ones.
    """
    found = np.ones(len(products), dtype=bool)
    columns = tag_columns(products)
    for column, wanted in where.items():
        if column not in columns:
            known = f"choose from {suggest(column, columns)}" if columns else "this index holds no tags"
            raise E2FashionError(f"there is no tag '{column}' to filter by: {known}")
        if wanted is None:
            found &= products[column].is_null().to_numpy()
            continue
        values = [wanted] if isinstance(wanted, str) else [str(value) for value in wanted]
        if not values:
            raise E2FashionError(f"the filter on {column} names no value: give one or more")
        stored = pc.unique(products[column]).drop_null().to_pylist()
        for value in values:
            if value not in stored:
                raise E2FashionError(f"no product has {column} '{value}': choose from {suggest(value, stored)}")
        found &= pc.is_in(products[column], value_set=pa.array(values, pa.string())).to_numpy()
    return found


def suggest(word: str, names: Sequence[str]) -> str:
    """The names nearest to ``word``, whatever their case; if none is near, the first ones and the number of all."""
    by_lower = {name.lower(): name for name in names}
    near = get_close_matches(word.lower(), by_lower, n=SUGGESTIONS, cutoff=0.5)
    if near:
        return ", ".join(f"'{by_lower[name]}'" for name in near)
    listed = ", ".join(f"'{name}'" for name in sorted(names)[:SUGGESTIONS])
    return listed + (f" ... ({len(names)} in all)" if len(names) > SUGGESTIONS else "")
