"""The recall that equal texts allow: nobody can tell two products apart by the same words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from e2fashion.types import E2FashionError


@dataclass(frozen=True)
class TextCeiling:
    """Highest possible R@1 (0 to 1) of N pictures against their N texts when only the product itself is a hit.

    ``text_to_image``: of the n products that share a text one can be first: distinct texts / N.
    ``image_to_text``: the same for a model that breaks ties by chance. ``ties_lose`` is the ceiling of
    image-to-text where a tie counts against the model: texts that occur once / N.
    """

    image_to_text: float
    text_to_image: float
    ties_lose: float


def text_ceiling(texts: Sequence[str]) -> TextCeiling:
    """Ceiling on R@1 that equal texts among ``texts`` (one per product) impose.

    Raises:
        E2FashionError: there are no texts.
    """
    if not texts:
        raise E2FashionError("text_ceiling: got 0 texts; pass the descriptions of a split that is not empty")
    sizes = Counter(texts).values()
    distinct = len(sizes) / len(texts)
    return TextCeiling(distinct, distinct, sum(size == 1 for size in sizes) / len(texts))
