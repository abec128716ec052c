"""What is read from a support memory for a picture: the nearest caption, or a mixture of embeddings near it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURE = 100.0
"""By which similarities are multiplied before the softmax (DeCap)."""
QUERY_CHUNK, MEMORY_CHUNK = 256, 16_384


def project(
    embeds: Tensor,
    memory: Tensor,
    temperature: float = TEMPERATURE,
    query_chunk: int = QUERY_CHUNK,
    memory_chunk: int = MEMORY_CHUNK,
) -> Tensor:
    """Embeddings moved into the space of texts: normalize(softmax(temperature * v M^T) M) (DeCap).

    ``embeds`` (N, C) and ``memory`` (M, C) are L2-normalised; returns (N, C), L2-normalised. The softmax runs over
    chunks of the memory with a running maximum, so that nothing of size (N, M) is ever held.
    """
    parts = [_project_chunk(rows, memory, temperature, memory_chunk) for rows in embeds.split(query_chunk)]
    return torch.cat(parts) if parts else embeds


def _project_chunk(rows: Tensor, memory: Tensor, temperature: float, memory_chunk: int) -> Tensor:
    maximum = torch.full((len(rows), 1), -torch.inf, device=rows.device)
    mixed = torch.zeros_like(rows)
    for chunk in memory.split(memory_chunk):
        chunk = chunk.to(rows.device)
        logits = temperature * rows @ chunk.T
        larger = torch.maximum(maximum, logits.amax(1, keepdim=True))
        # The sum of weights is never needed: the result is normalised.
        mixed = mixed * (maximum - larger).exp() + (logits - larger).exp() @ chunk
        maximum = larger
    return F.normalize(mixed, dim=-1)


def nearest(embeds: Tensor, memory: Tensor, query_chunk: int = QUERY_CHUNK, memory_chunk: int = MEMORY_CHUNK) -> Tensor:
    """The row of ``memory`` (M, C) nearest to every row of ``embeds`` (N, C), the first of equal ones: (N,) int64."""
    found = []
    for rows in embeds.split(query_chunk):
        best = torch.full((len(rows),), -torch.inf, device=rows.device)
        place = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        for start in range(0, len(memory), memory_chunk):
            score, row = (rows @ memory[start : start + memory_chunk].to(rows.device).T).max(1)
            place = torch.where(score > best, row + start, place)
            best = torch.maximum(score, best)
        found.append(place)
    return torch.cat(found) if found else torch.empty(0, dtype=torch.int64)
