"""What surrounds fusion blocks: region heads, the attention between tokens and image, and windows and parts of patches
to read."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from e2fashion.models.configuration_e2 import E2VisionConfig


class RegionHead(nn.Module):
    """Normalize each token, average them, project: (B, K, D) to (B, C) (official code)."""

    def __init__(self, config: E2VisionConfig) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Region feature (B, C), not normalized."""
        return self.projection(self.layer_norm(tokens).mean(dim=1))


class RegionHeads(nn.ModuleDict):
    """One :class:`RegionHead` per entity with tokens, under its name.

    An entity without tokens has no head: its feature is that of the image, so that its tags are contrasted with what
    plain CLIP knows (a control, ours).
    """

    def __init__(self, config: E2VisionConfig) -> None:
        super().__init__({entity.name: RegionHead(config) for entity in config.entity_list if entity.tokens})
        #: Selection tokens by entity, in the order of the regions.
        self.tokens_per_entity = {entity.name: entity.tokens for entity in config.entity_list}
        self.joint_dimension = config.projection_dim

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


class ValueWindow(nn.Module):
    """Values that hold the n x n patches around each patch, n = ``value_window``: a crop around what a token picks.

    A depthwise convolution on the grid of patch states; it starts with the patch alone, and what lies beyond the border
    is zero.
    """

    def __init__(self, config: E2VisionConfig) -> None:
        super().__init__()
        width, side = config.hidden_size, config.value_window
        self.convolution = nn.Conv2d(width, width, side, padding=side // 2, groups=width, bias=False)

    def forward(self, values: Tensor, columns: int) -> Tensor:
        """States (B, P, D) of a grid with ``columns`` patches in a row, row by row, to (B, P, D)."""
        grid = rearrange(values, "b (y x) d -> b d y x", x=columns)
        return rearrange(self.convolution(grid), "b d y x -> b (y x) d")


class SubPatches(nn.Module):
    """Embed n x n parts of every patch, n = ``value_scale``: (B, 3, H, W) to (B, n * n, P, D / n).

    A convolution with the patch size divided by n, LayerNorm and GELU. At width D / n it costs 1 / n of the patch
    embedding.
    """

    def __init__(self, config: E2VisionConfig) -> None:
        super().__init__()
        self.scale, self.patch_size = config.value_scale, cast(int, config.patch_size)
        width, side = config.hidden_size // self.scale, self.patch_size // self.scale
        self.convolution = nn.Conv2d(config.num_channels, width, kernel_size=side, stride=side, bias=False)
        self.layer_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """The parts of each patch; parts and patches row by row."""
        parts = self.convolution(pixel_values.to(self.convolution.weight.dtype))
        rows, columns = (self.scale * (size // self.patch_size) for size in pixel_values.shape[-2:])
        parts = rearrange(
            parts[:, :, :rows, :columns], "b d (y i) (x j) -> b (i j) (y x) d", i=self.scale, j=self.scale
        )
        return F.gelu(self.layer_norm(parts))


class SubPatchReader(nn.Module):
    """What a token reads of the parts f of patches: the sum over p and j of ``a(p) b(j|p) Wv f(p,j)``.

    ``a`` are the weights of the patches; ``b`` is a softmax over the parts of one patch of the token's query with f. So
    ``a(p) b(j|p)`` is a distribution over all parts whose marginal is ``a``: the parts neither change the choice of
    patches nor show a token a patch that it does not read. Each head compares D / n / H of the numbers of f.
    """

    def __init__(self, width: int, scale: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width // scale, bias=False)
        self.value = nn.Linear(width // scale, width, bias=False)

    def forward(self, tokens: Tensor, weights: Tensor, parts: Tensor) -> Tensor:
        """Tokens (B, S, D), weights (B, S * H, P) and parts (B, n * n, P, D / n) to (B, S * H, D)."""
        queries = rearrange(self.query(tokens), "b s (h d) -> b h s d", h=self.heads)
        keys = rearrange(parts, "b n p (h d) -> b h d (n p)", h=self.heads)
        scores = rearrange(queries @ keys, "b h s (n p) -> b (s h) n p", n=parts.shape[1]) * queries.shape[-1] ** -0.5
        # Parts come before patches because a softmax over a last dimension of four is slow on a CPU.
        shares = weights[:, :, None].to(parts.dtype) * scores.softmax(2)
        return self.value(rearrange(shares, "b r n p -> b r (n p)") @ rearrange(parts, "b n p d -> b (n p) d"))
