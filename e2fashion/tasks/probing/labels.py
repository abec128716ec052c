"""The classes of a linear probe: an entity's tags, the rare ones left out and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.composition.grammar import dominant_fibre
from e2fashion.types import E2FashionError, Entity

TRAIN, VAL = "train", "val"


@dataclass(frozen=True)
class Labelled:
    """The products of one split that have a class: ``rows`` (M,) into its products, ``labels`` (M,) int64.

    ``untagged`` products have no tag; ``rare`` and ``unseen`` count the products, and ``rare_classes`` and
    ``unseen_classes`` the classes, that were left out because train has too few of the class, or none.
    """

    rows: Tensor
    labels: Tensor
    untagged: int = 0
    rare: int = 0
    rare_classes: int = 0
    unseen: int = 0
    unseen_classes: int = 0


@dataclass(frozen=True)
class Task:
    """One entity's classes, in alphabetical order, and the products of every split that belong to them."""

    entity: str
    classes: tuple[str, ...]
    splits: dict[str, Labelled]
    min_examples: int


def entity_column(entity: str, entities: Sequence[Entity], catalogue: Catalogue) -> str:
    """The catalogue's column that holds an entity: the model's choice for its entities, else of the same name.

    Raises:
        E2FashionError: the catalogue has no such column.
    """
    column = next((item.column for item in entities if item.name == entity), entity)
    if column not in catalogue.tag_columns:
        of = f" (column '{column}')" if column != entity else ""
        raise E2FashionError(
            f"The catalogue {catalogue.path} has no entity '{entity}'{of}. Its tag columns: "
            f"{', '.join(catalogue.tag_columns) or 'none'}."
        )
    return column


def build_task(
    catalogue: Catalogue, entity: str, column: str, split: str, min_examples: int, by_fibre: bool = False
) -> Task:
    """The classes of ``column`` with at least ``min_examples`` products in train.

    ``by_fibre`` reads a value as a composition, whose class is its dominant fibre.

    Raises:
        E2FashionError: a split that the catalogue lacks, fewer than two classes, or none of them in val or ``split``.
    """
    if min_examples < 1:
        raise E2FashionError(f"min_examples is {min_examples}; give a number from 1.")
    tags = {name: _tags(catalogue, name, column, by_fibre) for name in dict.fromkeys((TRAIN, VAL, split))}
    counts = Counter(tag for tag in tags[TRAIN] if tag is not None)
    classes = tuple(sorted(tag for tag, count in counts.items() if count >= min_examples))
    if len(classes) < 2:
        raise E2FashionError(
            f"'{entity}' has {len(classes)} class(es) with at least {min_examples} products in train, of "
            f"{len(counts)} altogether; a probe needs two. Lower min_examples, or choose another entity."
        )
    labelled = {name: _labelled(values, classes, counts) for name, values in tags.items()}
    for name, products in labelled.items():
        if not len(products.rows):
            raise E2FashionError(
                f"No product of {name} has one of the {len(classes)} classes of '{entity}' that train knows: "
                "lower min_examples, or choose another split or entity."
            )
    return Task(entity, classes, labelled, min_examples)


def _tags(catalogue: Catalogue, split: str, column: str, by_fibre: bool) -> list[str | None]:
    """The tag of every product's first view, in the order of the products; None where it is unknown."""
    tags = [tag and tag.strip() for tag in catalogue.first_tags(split, column).values()]
    return [dominant_fibre(tag) for tag in tags] if by_fibre else tags


def _labelled(tags: Sequence[str | None], classes: Sequence[str], known: Counter[str]) -> Labelled:
    number = {name: label for label, name in enumerate(classes)}
    kept = [(row, number[tag]) for row, tag in enumerate(tags) if tag in number]
    left_out = [tag for tag in tags if tag is not None and tag not in number]
    rare = [tag for tag in left_out if tag in known]
    unseen = [tag for tag in left_out if tag not in known]
    return Labelled(
        rows=torch.tensor([row for row, _ in kept], dtype=torch.int64),
        labels=torch.tensor([label for _, label in kept], dtype=torch.int64),
        untagged=sum(tag is None for tag in tags),
        rare=len(rare),
        rare_classes=len(set(rare)),
        unseen=len(unseen),
        unseen_classes=len(set(unseen)),
    )
