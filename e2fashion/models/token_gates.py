"""How much CLS and the patches attend to the selection tokens: a learned bias that can hide them at the start."""

from __future__ import annotations

import torch
from einops import repeat
from torch import Tensor, nn

from e2fashion.models.configuration_e2 import E2VisionConfig


class TokenGates(nn.Module):
    """One learned bias per layer and head on the attention of CLS and patches to the selection tokens (ours).

    Freshly drawn tokens in the sequence of a pretrained CLIP disturb every patch and CLS before anything is trained.
    A bias far below zero hides them from both, so that CLIP's own features are what training starts from, while the
    tokens see everything from the start; the bias is free to rise. Zero is the official model.
    """

    def __init__(self, config: E2VisionConfig) -> None:
        super().__init__()
        self.tokens = sum(entity.tokens for entity in config.entity_list)
        self.start = float(config.token_gate or 0.0)
        self.bias = nn.Parameter(torch.empty(config.num_hidden_layers, config.num_attention_heads))

    def forward(self, layer: int, states: Tensor) -> Tensor:
        """What the attention of the ``layer``-th layer (from 1) adds to its scores: states (B, T, D) to (1, H, T, T).

        The last ``tokens`` of the T states are the selection tokens, wherever patches have been dropped before them.
        """
        others = states.shape[1] - self.tokens
        bias = self.bias[layer - 1].to(states.dtype)
        gate = repeat(bias, "h -> 1 h t s", t=others, s=self.tokens)
        seen = gate.new_zeros(1, len(bias), states.shape[1], others)
        own = gate.new_zeros(1, len(bias), self.tokens, self.tokens)
        return torch.cat([seen, torch.cat([gate, own], dim=2)], dim=3)
