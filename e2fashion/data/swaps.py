"""Texts of products in which one tag is wrong: hard negatives for a contrast of image and text."""

from __future__ import annotations

import random
from collections.abc import Sequence

from e2fashion.data.dataset import Item
from e2fashion.data.text import Span, TextTemplate
from e2fashion.types import E2FashionError


class TagSwap:
    """The text of each product of a batch with one of its tags replaced by another value that the batch has.

    The tag is one that the template states; the description stays as it is. Column and value are drawn from the batch's
    product ids alone, whose order comes from seed and epoch.

    Raises:
        E2FashionError: the template states no tag.
    """

    def __init__(self, template: TextTemplate) -> None:
        if not template.columns:
            raise E2FashionError(
                f"loss.terms.swapped_tags swaps a tag that the text states, but text.template '{template.template}' "
                "states none. Name a tag column, as in text.template='{brand} . {description}', or set "
                "loss.terms.swapped_tags=null."
            )
        self.template = template

    def __call__(self, items: Sequence[Item]) -> list[tuple[str, Span] | None]:
        """The changed texts, with the ranges of their descriptions; None where the batch has no other value."""
        draw = random.Random("/".join(item.product_id for item in items))
        stated = [{c: v for c, v in item.text_tags.items() if v is not None and v.strip()} for item in items]
        values = {
            column: sorted({tags[column] for tags in stated if column in tags}) for column in self.template.columns
        }
        changed: list[tuple[str, Span] | None] = []
        for item, tags in zip(items, stated, strict=True):
            choices = [column for column in tags if len(values[column]) > 1]
            if not choices:
                changed.append(None)
                continue
            column = draw.choice(choices)
            other = draw.choice([value for value in values[column] if value != tags[column]])
            description = "" if item.description is None else item.text[slice(*item.description)]
            changed.append(self.template.render_placed({**tags, column: other}, description))
        return changed
