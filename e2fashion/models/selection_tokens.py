"""What surrounds the selection tokens: region heads, and the attention between tokens and image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import repeat
from torch import Tensor, nn

from e2fashion.models.configuration_e2 import E2VisionConfig
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


class TokenGates(nn.Module):
    """One learned bias per layer and head on the attention of CLS and patches to the selection tokens (ours).

    Randomly initialized tokens in the sequence of a pretrained CLIP disturb CLS and all patches at first. A strongly
    negative bias hides the tokens from them, so that training starts from CLIP's features, while the tokens attend to
    everything; the bias can increase in training. Zero is the official model.
    """

    def __init__(self, config: E2VisionConfig) -> None:
        super().__init__()
        self.tokens = sum(entity.tokens for entity in config.entity_list)
        self.start = float(config.token_gate or 0.0)
        self.bias = nn.Parameter(torch.empty(config.num_hidden_layers, config.num_attention_heads))

    def forward(self, layer: int, states: Tensor) -> Tensor:
        """The bias on the attention scores of the ``layer``-th layer (from 1): states (B, T, D) to (1, H, T, T).

        The last ``tokens`` of the T states are the selection tokens.
        """
        others = states.shape[1] - self.tokens
        bias = self.bias[layer - 1].to(states.dtype)
        gate = repeat(bias, "h -> 1 h t s", t=others, s=self.tokens)
        seen = gate.new_zeros(1, len(bias), states.shape[1], others)
        between_tokens = gate.new_zeros(1, len(bias), self.tokens, self.tokens)
        return torch.cat([seen, torch.cat([gate, between_tokens], dim=2)], dim=3)


def hide_image_from_tokens(states: Tensor, tokens: int) -> Tensor:
    """A bias that lets the last ``tokens`` of the T states (B, T, D) attend to each other alone: (1, 1, T, T)."""
    others = states.shape[1] - tokens
    bias = states.new_zeros(1, 1, states.shape[1], states.shape[1])
    bias[:, :, others:, :others] = torch.finfo(states.dtype).min
    return bias
