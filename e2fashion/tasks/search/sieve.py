"""A first pass in bfloat16 that leaves few rows to each query and provably loses none of its best.

Where a processor multiplies bfloat16 matrices itself that takes less than half of the time in fp32. What rounding can
do to a score is bounded from the rounded vectors themselves, so that rows below the bound are out for certain; the
rest are scored in fp64 by the caller. Ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from e2fashion.tasks.search.gallery import Gallery

FEWEST_QUERIES = 16
"""Fewer queries wait for memory, whatever the type."""
CHUNK_BYTES = 8 * 2**20
"""Scores held at once, and fp32 copies of rows held at once; the allocator keeps blocks of this size for the next."""
BLOCK = 64
"""Scores of which the largest stands for all: few blocks are ever looked into."""
MOST_BLOCKS = 64
MOST_ROWS = 512
"""Beyond those asked for, in a chunk and in the end; a query with more is left open: its gallery is too dense."""
ROUNDED = 2.0**-8
"""Largest relative error of rounding to bfloat16, which has 8 significant bits."""


@dataclass(frozen=True)
class Sieved:
    """Pairs of queries and rows, (P,) int64 each; ``open_queries`` (Q,) bool have none and need another way."""

    asks: Tensor
    places: Tensor
    open_queries: Tensor


def pays(queries: int, items: int, kept: int) -> bool:
    """Whether the processor has bfloat16 products, and there is enough to do."""
    able = torch.cpu.get_capabilities()
    return (
        bool(able.get("avx512_bf16") or able.get("amx_bf16"))
        and queries >= FEWEST_QUERIES
        and items >= 16 * BLOCK * kept
    )


def sieve(query: Tensor, gallery: Gallery, kept: int) -> Sieved:
    """For each query (Q, C) fp32 a superset of its ``kept`` best rows, or nothing where the superset is large.

    ``kept`` is at most the number of whole blocks in the gallery's first chunk.
    """
    low = query.bfloat16()
    lost, length = (query - low.float()).norm(dim=1), low.float().norm(dim=1)
    most = min(CHUNK_BYTES // (2 * len(query)), CHUNK_BYTES // (4 * query.shape[1]))
    rows_at_once = max(BLOCK * kept, most // BLOCK * BLOCK)
    best = query.new_full((len(query), kept), -torch.inf, dtype=torch.bfloat16)
    bound, worst = query.new_full((len(query),), -torch.inf), torch.zeros(len(query))
    alive = torch.ones(len(query), dtype=torch.bool)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for start in range(0, len(gallery), rows_at_once):
        rows = gallery.chunk(start, min(start + rows_at_once, len(gallery)))
        low_rows = rows.bfloat16()
        margin = _margin(lost, length, rows, low_rows)
        worst = torch.maximum(worst, margin)
        blocks = _blocks(low @ low_rows.T)
        peaks = blocks.amax(-1)
        # As many rows as there are peaks score at least as high as the last of the best peaks.
        best = torch.cat([best, peaks], dim=1).topk(kept, dim=1, sorted=False).values
        lowest = best.amin(1).float()
        bound = torch.maximum(bound, lowest - 2 * ROUNDED * lowest.abs() - worst)
        limit = (bound - margin).bfloat16()  # rounding keeps order: what is above the bound stays above it
        chosen = (peaks >= limit[:, None]) & alive[:, None]
        alive &= chosen.sum(1) <= MOST_BLOCKS + 4 * kept
        if 2 * int(alive.sum()) < len(query):
            nothing = torch.empty(0, dtype=torch.int64)
            return Sieved(nothing, nothing, torch.ones_like(alive))
        asks, block = (chosen & alive[:, None]).nonzero(as_tuple=True)
        inside = blocks[asks, block]
        pair, place = (inside >= limit[asks, None]).nonzero(as_tuple=True)
        found.append((asks[pair], start + block[pair] * BLOCK + place, inside[pair, place]))
    asks, places, rough = (torch.cat(part) for part in zip(*found, strict=True))
    left = (rough >= (bound - worst).bfloat16()[asks]) & alive[asks]
    alive &= torch.bincount(asks[left], minlength=len(query)) <= MOST_ROWS + 4 * kept
    left &= alive[asks]
    return Sieved(asks[left], places[left], ~alive)


def _margin(lost: Tensor, length: Tensor, rows: Tensor, low_rows: Tensor) -> Tensor:
    """How far a product of rounded vectors can lie from that of the vectors, before it is rounded itself: (Q,).

    By Cauchy and Schwarz for q x - q' x' = (q - q') x + q' (x - x'), and what adding up in fp32 can lose.
    """
    longest = rows.norm(dim=1).amax()
    residual = low_rows.float().sub_(rows).norm(dim=1).amax()
    adding = 2 * rows.shape[1] * torch.finfo(torch.float32).eps
    return lost * longest + length * residual + adding * length * (longest + residual)


def _blocks(scores: Tensor) -> Tensor:
    """Scores (Q, N) in blocks (Q, ceil(N / BLOCK), BLOCK); what the last one lacks is minus infinity."""
    lacking = -scores.shape[1] % BLOCK
    whole = F.pad(scores, (0, lacking), value=-torch.inf) if lacking else scores
    return rearrange(whole, "q (blocks size) -> q blocks size", size=BLOCK)
