"""More positions for a CLIP's text encoder, between those that it has learnt."""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from transformers import CLIPModel

from e2fashion.types import E2FashionError

#: The positions that every text has and that are trained best; they stay as they are (Zhang et al., Long-CLIP, 2024).
KEPT = 20


def stretched_positions(positions: Tensor, length: int) -> Tensor:
    """Position embeddings (P, D) at ``length`` places: the first stay, the others are interpolated between linearly.

    Place ``KEPT + i`` reads the old place ``KEPT + i * (P - KEPT) / (length - KEPT)``; behind the last one the line
    through the last two goes on. From 77 to 248 that is Long-CLIP's factor of four. Of fewer than 40 positions half
    are kept.
    """
    kept = min(KEPT, len(positions) // 2)
    step = (len(positions) - kept) / (length - kept)
    place = kept + step * torch.arange(length - kept, dtype=torch.float64)
    below = place.floor().long().clamp(max=len(positions) - 2)
    share = rearrange((place - below).to(positions.dtype), "n -> n 1")
    return torch.cat([positions[:kept], torch.lerp(positions[below], positions[below + 1], share)])


@torch.no_grad()
def stretch_text_positions(model: CLIPModel, length: int) -> None:
    """Let the text encoder of ``model`` read ``length`` tokens.

    Texts of at most ``KEPT`` tokens keep their features to the bit; those of others change until they are trained.
    ``model.config.text_stretched_from`` says how many positions there were.

    Raises:
        E2FashionError: it reads as many already, or has too few positions to interpolate between.
    """
    embeddings = model.text_model.embeddings
    before = embeddings.position_embedding.weight
    if length <= len(before):
        raise E2FashionError(
            f"text.overflow is stretch, but text.context_length is {length} and the checkpoint reads {len(before)} "
            "tokens already. Give a longer one, as in text.context_length=248, or set text.overflow=truncate."
        )
    if len(before) < 4:
        raise E2FashionError(f"the checkpoint has {len(before)} text positions, too few to stretch: use another one")
    after = nn.Embedding(length, before.shape[1], device=before.device, dtype=before.dtype)
    after.weight.copy_(stretched_positions(before, length))
    embeddings.position_embedding = after
    embeddings.position_ids = rearrange(torch.arange(length, device=before.device), "n -> 1 n")
    # The towers hold configurations of their own, or share the model's: both say so.
    own: Any = model.config.text_config
    for config in (own, model.text_model.config):
        config.max_position_embeddings = length
    model.config.text_stretched_from = getattr(model.config, "text_stretched_from", None) or len(before)
