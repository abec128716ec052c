"""Attention between selection tokens and image: a learned bias that hides the tokens, a mask that hides the image."""

from __future__ import annotations

import torch
from einops import repeat
from torch import Tensor, nn

from e2fashion.models.configuration_e2 import E2VisionConfig


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
