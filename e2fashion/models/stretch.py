"""More positions for a CLIP's text encoder, interpolated between the learned ones."""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from transformers import CLIPModel

from e2fashion.types import E2FashionError

#: The first positions, which are trained best, are kept unchanged (Zhang et al., Long-CLIP, 2024).
KEPT = 20


def stretched_positions(positions: Tensor, length: int) -> Tensor:
    """Position embeddings (P, D) stretched to ``length``: the first are kept, the others interpolated linearly.

    Position ``KEPT + i`` reads the old position ``KEPT + i * (P - KEPT) / (length - KEPT)``; positions after the last
    one are extrapolated from the last two. From 77 to 248 this is Long-CLIP's factor of four. Of fewer than 40
    positions half are kept.
    """
    kept = min(KEPT, len(positions) // 2)
    step = (len(positions) - kept) / (length - kept)
    source = kept + step * torch.arange(length - kept, dtype=torch.float64)
    below = source.floor().long().clamp(max=len(positions) - 2)
    share = rearrange((source - below).to(positions.dtype), "n -> n 1")
    return torch.cat([positions[:kept], torch.lerp(positions[below], positions[below + 1], share)])


@torch.no_grad()
def stretch_text_positions(model: CLIPModel, length: int) -> None:
    """Stretch the positions of the text encoder of ``model`` to ``length`` tokens.

    The features of texts of at most ``KEPT`` tokens are bit-equal; longer texts need training.
    ``model.config.text_stretched_from`` is the former number of positions.

    Raises:
        E2FashionError: it has as many positions already, or too few to interpolate between, or it is a SigLIP.
    """
    if getattr(model.config, "backbone", "clip") == "siglip":
        raise E2FashionError(
            "text.overflow is stretch, but a SigLIP reads every text at full length, padding included: its positions "
            "cannot be stretched. Set text.overflow=truncate."
        )
    embeddings = model.text_model.embeddings
    before = embeddings.position_embedding.weight
    if length <= len(before):
        raise E2FashionError(
            f"text.overflow is stretch, but text.context_length is {length} and the checkpoint reads {len(before)} "
            "tokens already. Give a larger value, as in text.context_length=248, or set text.overflow=truncate."
        )
    if len(before) < 4:
        raise E2FashionError(f"the checkpoint has {len(before)} text positions, too few to stretch: use another one")
    after = nn.Embedding(length, before.shape[1], device=before.device, dtype=before.dtype)
    after.weight.copy_(stretched_positions(before, length))
    embeddings.position_embedding = after
    embeddings.position_ids = rearrange(torch.arange(length, device=before.device), "n -> 1 n")
    # The tower's configuration may be the model's or a copy.
    text_config: Any = model.config.text_config
    for config in (text_config, model.text_model.config):
        config.max_position_embeddings = length
    model.config.text_stretched_from = getattr(model.config, "text_stretched_from", None) or len(before)
