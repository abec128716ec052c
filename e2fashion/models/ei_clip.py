"""EI-CLIP (our interpretation), a variant of E2 whose text features are combined with those of tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.generic import can_return_tuple

from e2fashion.models.configuration_e2 import E2Config
from e2fashion.models.modeling_e2 import E2Model, of_products
from e2fashion.types import Entity


class EntityText(nn.Module):
    """Add the features of a text's tags to its feature: one linear map and one gate per entity type.

    EI-CLIP (Ma et al., CVPR 2022) treats words such as a brand's name as confounders: their general meaning in CLIP
    affects both the text's feature and the choice of images. Its backdoor adjustment sums over the entities:
    ``P(image | do(text))`` is the sum over e of ``P(image | text, e) P(e)``. Our interpretation, based on the abstract
    alone: entity-aware learning is a linear map of the tag's text feature for each type, ``P(e)`` a learned gate for
    each type (confounding entity selection), and the sum is over features before normalization.

    The maps start at zero, so that training starts as CLIP fine-tuning; the gates start half open (sigmoid of 0).
    """

    def __init__(self, entities: Sequence[Entity], joint_dimension: int) -> None:
        super().__init__()
        self.maps = nn.ModuleDict(
            {entity.name: nn.Linear(joint_dimension, joint_dimension, bias=False) for entity in entities}
        )
        self.gates = nn.Parameter(torch.zeros(len(entities)))

    def matrices(self) -> list[Tensor]:
        """The weights of the maps, (C, C) each."""
        return [module.weight for module in self.maps.values() if isinstance(module, nn.Linear)]

    def forward(self, text: Tensor, tags: Tensor, present: Tensor) -> Tensor:
        """Text features (B, C) and tag features (B, E, C), none normalized, to text features (B, C).

        A tag that is not ``present`` (B, E) adds exactly zero.
        """
        mapped = torch.stack([module(tag) for module, tag in zip(self.maps.values(), tags.unbind(1), strict=True)], 1)
        weight = self.gates.sigmoid() * present
        return text + (weight[..., None] * mapped).sum(1).to(text.dtype)


class EiClipModel(E2Model):
    """An :class:`E2Model` whose texts are encoded with the tags of the T ``text_entities`` of its configuration."""

    added_prefixes: ClassVar[tuple[str, ...]] = (*E2Model.added_prefixes, "entity_text.")
    reads_tags: ClassVar[bool] = True

    @classmethod
    def is_for(cls, config: E2Config) -> bool:
        """A configuration that names text entities."""
        return bool(config.text_entities)

    def add_parts(self, config: E2Config) -> None:
        """The maps and gates of the text entities."""
        self.entity_text = EntityText(config.text_entity_list, config.projection_dim)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, EntityText):
            init.zeros_(module.gates)
            for matrix in module.matrices():
                init.zeros_(matrix)

    def departures(self) -> list[str]:
        """The linear maps, with their number of parameters."""
        number = sum(parameter.numel() for parameter in self.entity_text.parameters())
        return [*super().departures(), f"the tags' maps of the text feature: {number:,} values"]

    @can_return_tuple
    def get_text_features(
        self, *arguments: Any, tag_features: Tensor | None = None, tag_present: Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """As :meth:`E2Model.get_text_features`, with the texts' ``tag_features`` (B, T, C) added to ``pooler_output``.

        Tags count where ``tag_present`` (B, T), see :meth:`get_tag_features`; without tags the text is encoded alone.
        """
        output = super().get_text_features(*arguments, return_dict=True, **kwargs)
        if tag_features is not None and tag_present is not None:
            output.pooler_output = self.entity_text(output.pooler_output, tag_features, tag_present)
        return output

    def text_options(self, distinct: Tensor, tag_index: Tensor, tag_present: Tensor) -> dict[str, Tensor]:
        """The features of the text entities' tags, which follow those of the regions."""
        regions = len(self.region_heads.tokens_per_entity)
        present = tag_present[:, regions:]
        return {"tag_features": of_products(distinct, tag_index[:, regions:], present), "tag_present": present}

    def get_tag_features(
        self, tag_input_ids: Tensor, tag_attention_mask: Tensor | None, tag_index: Tensor, tag_present: Tensor
    ) -> Tensor:
        """Features (B, T, C) of the text entities' tags alone, not normalized, zero where ``tag_present`` is false."""
        return of_products(self.distinct_tags(tag_input_ids, tag_attention_mask), tag_index, tag_present)
