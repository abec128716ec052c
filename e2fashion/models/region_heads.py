"""Region heads: one feature of the joint space per entity, from the entity's selection tokens or the whole image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from e2fashion.types import Entity


class RegionHead(nn.Module):
    """Normalize each token, average them, project: (B, K, D) to (B, C) (official code)."""

    def __init__(self, width: int, joint_dimension: int, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(width, eps=epsilon)
        self.projection = nn.Linear(width, joint_dimension, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Region feature (B, C), not normalized."""
        return self.projection(self.layer_norm(tokens).mean(dim=1))


class RegionHeads(nn.ModuleDict):
    """One :class:`RegionHead` per entity with tokens, under its name.

    An entity without tokens has no head: its feature is that of the image, so that its tags are contrasted with what
    plain CLIP knows (a control, ours).
    """

    def __init__(self, entities: Sequence[Entity], width: int, joint_dimension: int, epsilon: float = 1e-5) -> None:
        super().__init__(
            {entity.name: RegionHead(width, joint_dimension, epsilon) for entity in entities if entity.tokens}
        )
        #: Selection tokens by entity, in the order of the regions.
        self.tokens_per_entity = {entity.name: entity.tokens for entity in entities}
        self.joint_dimension = joint_dimension

    def forward(self, tokens: Tensor, image: Tensor) -> Tensor:
        """All selection tokens (B, S, D) and image features (B, C) to region features (B, E, C), not normalized.

        Without entities (B, 0, C).
        """
        if not self.tokens_per_entity:
            return tokens.new_zeros(tokens.shape[0], 0, self.joint_dimension)
        parts = tokens.split(list(self.tokens_per_entity.values()), dim=1)
        features = [
            self[name](part) if name in self else image
            for name, part in zip(self.tokens_per_entity, parts, strict=True)
        ]
        return torch.stack(features, dim=1)
