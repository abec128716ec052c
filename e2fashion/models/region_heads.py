"""Region heads: one feature of the joint space per entity, from the entity's selection tokens."""

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
    """One :class:`RegionHead` per entity, under its name."""

    def __init__(self, entities: Sequence[Entity], width: int, joint_dimension: int, epsilon: float = 1e-5) -> None:
        super().__init__({entity.name: RegionHead(width, joint_dimension, epsilon) for entity in entities})
        self.tokens_per_entity = [entity.tokens for entity in entities]
        self.joint_dimension = joint_dimension

    def forward(self, tokens: Tensor) -> Tensor:
        """All selection tokens (B, S, D) to features (B, E, C), not normalized; (B, 0, C) without entities."""
        if not self.tokens_per_entity:
            return tokens.new_zeros(tokens.shape[0], 0, self.joint_dimension)
        parts = tokens.split(self.tokens_per_entity, dim=1)
        return torch.stack([head(part) for head, part in zip(self.values(), parts, strict=True)], dim=1)
