"""Tags in front of a caption: a product's own in training, those nearest to its regions afterwards (ViECap's idea)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from e2fashion.tasks.captioning.memory import EmbedTexts
from e2fashion.tasks.captioning.projection import nearest
from e2fashion.types import E2FashionError

SEPARATOR = ", "


def join_tags(tags: Sequence[str | None]) -> str:
    """The tags that are there, in order, as one prompt; empty without any."""
    return SEPARATOR.join(tag.strip() for tag in tags if tag and tag.strip())


@dataclass(frozen=True)
class TagTexts:
    """The distinct tags of one entity and their L2-normalised embeddings (T, C)."""

    tags: tuple[str, ...]
    embeds: Tensor

    def nearest(self, region_embeds: Tensor) -> list[str]:
        """The tag nearest to each of ``region_embeds`` (N, C), L2-normalised."""
        return [self.tags[row] for row in nearest(region_embeds, self.embeds).tolist()]


def check_prompt_entities(entities: Sequence[str], there: Sequence[str], encoder: str) -> None:
    """Raise an E2FashionError for an entity whose regions the encoder does not embed."""
    for entity in entities:
        if entity not in there:
            has = f"its entities are {', '.join(there)}" if there else "it is a plain CLIP without entities"
            raise E2FashionError(
                f"prompt_entities names '{entity}', of which '{encoder}' has no region embedding: {has}. Leave it "
                "out, or give an E2 that was trained with it."
            )


def embed_tag_texts(tags: Mapping[str, Sequence[str]], embed_tags: EmbedTexts) -> dict[str, TagTexts]:
    """Tags by entity with the embeddings that regions are compared with."""
    return {entity: TagTexts(tuple(values), embed_tags(values)) for entity, values in tags.items()}


def predicted_prompts(regions: Mapping[str, Tensor], tag_texts: Mapping[str, TagTexts]) -> list[str]:
    """One prompt a picture: for each entity of ``tag_texts``, in order, the tag nearest to its region.

    ``regions`` holds region embeddings (N, C), L2-normalised, by entity.
    """
    columns = [texts.nearest(regions[entity]) for entity, texts in tag_texts.items()]
    return [join_tags(tags) for tags in zip(*columns, strict=True)]
