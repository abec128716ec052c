"""A CLIP's attention beside what E2 selects: one more column of the figure of selected patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from einops import rearrange

from e2fashion.data.transforms import normalise
from e2fashion.eval.embed import evaluating
from e2fashion.eval.encoder import Encoder
from e2fashion.eval.figures import SelectionRow
from e2fashion.tasks.grounding import attention_map
from e2fashion.types import E2FashionError


def add_attention(rows: Sequence[SelectionRow], encoder: Encoder, name: str) -> list[SelectionRow]:
    """The same rows with CLS's attention in ``encoder`` as the map ``name``; nothing is selected by it.

    Raises:
        E2FashionError: the encoder reads pictures of another size than those of the rows.
    """
    squares = torch.stack([torch.from_numpy(row.picture.copy()) for row in rows])
    if squares.shape[1] != encoder.transform.size:
        raise E2FashionError(
            f"{encoder.name} reads pictures of {encoder.transform.size} px, the figure has {squares.shape[1]} px: "
            "compare encoders of one size"
        )
    squares = rearrange(squares, "rows height width channels -> rows channels height width", channels=3)
    with evaluating(encoder.model):
        pixels = normalise(squares.to(encoder.model.device), encoder.transform.mean, encoder.transform.std)
        heat, layer = attention_map(encoder.model, pixels)
    return [
        replace(
            row,
            tags=row.tags | {name: f"attention of layer {layer}"},
            maps=row.maps | {name: own},
            selected=row.selected | {name: []},
        )
        for row, own in zip(rows, heat.cpu().numpy(), strict=True)
    ]
