"""Values from a second scale: patches divided into parts, which selection tokens weigh within the patch they pick."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from e2fashion.models.configuration_e2 import E2VisionConfig


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
