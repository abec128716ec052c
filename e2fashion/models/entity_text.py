"""EI-CLIP (our reading): tags that join the text's feature through maps of their own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from e2fashion.types import Entity


class EntityText(nn.Module):
    """Add to a text's feature what its tags mean in fashion: one linear map and one gate per entity type.

    EI-CLIP (Ma et al., CVPR 2022) sees words such as a brand's name as confounders: a general CLIP reads them with a
    meaning from elsewhere, which reaches the text's feature and the choice of image alike. Its backdoor adjustment sums
    over the entity instead of taking the word at its face: ``P(image | do(text))`` is the sum over e of
    ``P(image | text, e) P(e)``. Here, after the abstract alone, for the formulas could not be read: entity-aware
    learning is a map of the tag's own text feature for each type, ``P(e)`` a learned gate for each type that selects
    which of them matter (confounding entity selection), and the sum is taken of features, before they are normalised.

    The maps start at zero: training starts as CLIP fine-tuning. The gates start half open (sigmoid of 0).
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
        """Text features (B, C) and tag features (B, E, C), none normalised, to text features (B, C).

        A tag that is not ``present`` (B, E) adds exactly zero.
        """
        mapped = torch.stack([module(tag) for module, tag in zip(self.maps.values(), tags.unbind(1), strict=True)], 1)
        weight = self.gates.sigmoid() * present
        return text + (weight[..., None] * mapped).sum(1).to(text.dtype)
