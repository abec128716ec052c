"""Products as captions, with the texts that an encoder embeds of them, and tags as prompts (ViECap's idea)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.text import DESCRIPTION, TextTemplate
from e2fashion.tasks.captioning.memory import EmbedTexts, MemoryEntry, nearest
from e2fashion.types import E2FashionError


@dataclass(frozen=True)
class ProductTexts:
    """The distinct texts and captions of a product's views, and its tags as a prompt."""

    product_id: str
    entries: tuple[MemoryEntry, ...]
    prompt: str = ""

    @property
    def captions(self) -> tuple[str, ...]:
        """Its distinct captions."""
        return tuple(dict.fromkeys(entry.caption for entry in self.entries))


def product_texts(
    catalogue: Catalogue, split: str, caption: TextTemplate, text: TextTemplate, prompt_columns: Sequence[str] = ()
) -> list[ProductTexts]:
    """Every product of a split in its order; one without a caption has no entries.

    Raises:
        E2FashionError: a template or the prompt names a column that the catalogue lacks.
    """
    for template in (caption, text):
        template.validate(catalogue.tag_columns)
    if unknown := [column for column in prompt_columns if column not in catalogue.tag_columns]:
        raise E2FashionError(
            f"The prompt reads the column '{unknown[0]}', which the catalogue {catalogue.path} lacks. Its columns: "
            f"{', '.join(catalogue.tag_columns)}."
        )
    columns = sorted({*caption.columns, *text.columns, *prompt_columns})
    entries: dict[str, dict[MemoryEntry, None]] = {}
    prompts: dict[str, str] = {}
    for row in catalogue.split(split).select_columns(["product_id", DESCRIPTION, *columns]):
        product, rendered = row["product_id"], caption.render(row, row[DESCRIPTION]).strip()
        of_product = entries.setdefault(product, {})
        if rendered:
            of_product.setdefault(MemoryEntry(text.render(row, row[DESCRIPTION]), rendered))
        prompts.setdefault(product, join_tags([row[column] for column in prompt_columns]))
    return [ProductTexts(product, tuple(listed), prompts[product]) for product, listed in entries.items()]


def training_tags(catalogue: Catalogue, columns: Mapping[str, str]) -> dict[str, list[str]]:
    """The distinct tags of train by entity (its column), sorted."""
    tags = {}
    for entity, column in columns.items():
        tags[entity] = sorted({tag.strip() for tag in catalogue.split("train")[column] if tag and tag.strip()})
        if not tags[entity]:
            raise E2FashionError(f"The column '{column}' of train holds no tag: leave '{entity}' out of the prompt.")
    return tags


def check_prompt_entities(entities: Sequence[str], known: Sequence[str], encoder: str) -> None:
    """Raise an E2FashionError for an entity whose regions the encoder does not embed."""
    for entity in entities:
        if entity not in known:
            has = f"its entities are {', '.join(known)}" if known else "it was trained without entities"
            raise E2FashionError(
                f"prompt_entities names '{entity}', of which '{encoder}' has no region embedding: {has}. Leave it "
                "out, or give an E2 that was trained with it."
            )


def join_tags(tags: Sequence[str | None]) -> str:
    """The tags that are not missing, in order, as one prompt; empty without any."""
    return ", ".join(tag.strip() for tag in tags if tag and tag.strip())


def predicted_prompts(
    regions: Mapping[str, Tensor], tags: Mapping[str, Sequence[str]], embed_tags: EmbedTexts
) -> list[str]:
    """One prompt per image: for each entity of ``tags``, in order, the tag nearest to its region.

    ``regions`` holds region embeddings (N, C), L2-normalized, by entity.
    """
    columns = []
    for entity, values in tags.items():
        rows = nearest(regions[entity], embed_tags(values))
        columns.append([values[row] for row in rows.tolist()])
    return [join_tags(row) for row in zip(*columns, strict=True)]
