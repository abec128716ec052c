"""What lies between texts and pictures in the joint space: noise in training, a fixed offset at the end."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CAPDEC_VARIANCE = 0.016
"""Per dimension, as published at C = 512: the cosine to the clean vector is then about 0.33."""


def add_noise(embeds: Tensor, variance: float, generator: torch.Generator | None = None) -> Tensor:
    """``embeds`` (N, C), L2-normalised, with Gaussian noise of ``variance`` per dimension, normalised again (CapDec).

    Its length grows with C: the expected cosine to the clean vector is about 1 / sqrt(1 + C * variance). 0.0 returns
    the embeddings as they are.
    """
    if not variance:
        return embeds
    noise = torch.randn(embeds.shape, generator=generator, device=embeds.device, dtype=embeds.dtype)
    return F.normalize(embeds + variance**0.5 * noise, dim=-1)


def modality_offset(image_embeds: Tensor, text_embeds: Tensor) -> Tensor:
    """Mean of texts (M, C) minus mean of pictures (N, C), which need not be pairs: (C,)."""
    return text_embeds.mean(0) - image_embeds.mean(0)


def shift(embeds: Tensor, offset: Tensor) -> Tensor:
    """``embeds`` (N, C) moved by ``offset`` (C,) and normalised again."""
    return F.normalize(embeds + offset, dim=-1)
