"""The nearest rows of a gallery by inner product, exactly: chunked matrix products, the best merged over chunks."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from e2fashion.metrics.ranking import full_precision
from e2fashion.types import E2FashionError

QUERIES_AT_ONCE = 1024
CHUNK_BYTES = 64 * 2**20
"""Scores held at once, and fp32 copies of rows held at once."""
CHUNK_ROWS = 2**15
BLOCK = 64
"""Scores of which the largest stands for all when the best are looked for: one pass over the rest instead of a sort."""
SPARE = 8
"""Rows looked at beyond those asked for, so that rounding and equal scores cannot push a right one out (ours)."""
MOST_SPARE = 4096
RESCORED_BYTES = 32 * 2**20


class Gallery(Protocol):
    """Rows of L2-normalised embeddings (N, C), wherever they lie."""

    def __len__(self) -> int: ...

    def chunk(self, start: int, stop: int) -> Tensor:
        """The rows from ``start`` to ``stop``: (rows, C) fp32."""
        ...

    def rows(self, places: Tensor) -> Tensor:
        """The rows at ``places`` (n,) int64: (n, C) fp32."""
        ...


class TensorGallery:
    """A :class:`Gallery` of one tensor (N, C) in memory, of any floating type."""

    def __init__(self, embeds: Tensor) -> None:
        self.embeds = embeds

    def __len__(self) -> int:
        return len(self.embeds)

    def chunk(self, start: int, stop: int) -> Tensor:
        """Rows as fp32."""
        return self.embeds[start:stop].float()

    def rows(self, places: Tensor) -> Tensor:
        """Chosen rows as fp32."""
        return self.embeds[places].float()


def nearest(query: Tensor, gallery: Gallery, top: int, tie: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Scores (Q, k) fp64 and places (Q, k) int64 of the ``top`` best rows, the best first; k = min(top, N).

    ``query`` (Q, C) fp32. Candidates come from fp32 matrix products over chunks; their final scores are inner products
    in fp64, which do not depend on where a row lies, and equal ones stand in the order of ``tie`` (N,) int64 (default:
    of the rows). Where more than 4,096 rows score as the last one within rounding, those that lie first are taken.

    Raises:
        E2FashionError: ``top`` is below 1, or a query is not finite.
    """
    if top < 1:
        raise E2FashionError(f"top is {top}; give a number of products from 1")
    if bad := int((~query.isfinite()).any(-1).sum()):
        raise E2FashionError(f"{bad} of {len(query)} queries are not finite: the model has diverged")
    kept = min(top, len(gallery))
    if not kept or not len(query):
        return torch.empty(len(query), kept, dtype=torch.float64), torch.empty(len(query), kept, dtype=torch.int64)
    parts = [_nearest_of(part, gallery, kept, tie) for part in query.float().split(QUERIES_AT_ONCE)]
    return torch.cat([scores for scores, _ in parts]), torch.cat([places for _, places in parts])


def _nearest_of(query: Tensor, gallery: Gallery, kept: int, tie: Tensor | None) -> tuple[Tensor, Tensor]:
    rounding = 2 * query.shape[1] * torch.finfo(torch.float32).eps
    scores = torch.empty(len(query), kept, dtype=torch.float64)
    places = torch.empty(len(query), kept, dtype=torch.int64)
    open_queries, spare = torch.arange(len(query)), SPARE
    while len(open_queries):
        wanted = min(kept + spare, len(gallery))
        rough, found = _candidates(query[open_queries], gallery, wanted)
        # Only what lies within rounding of the last kept one, or above it, can be among the best.
        close = rough >= rough[:, kept - 1 : kept] - rounding
        number = int(close.sum(1).max())
        exact, found = rescore(query[open_queries], gallery, found[:, :number], tie)
        scores[open_queries], places[open_queries] = exact[:, :kept], found[:, :kept]
        doubtful = close[:, -1]  # rows that were not looked at may be as close
        if wanted == len(gallery) or spare >= MOST_SPARE:
            break
        open_queries, spare = open_queries[doubtful], 8 * spare
    return scores, places


def _candidates(query: Tensor, gallery: Gallery, wanted: int) -> tuple[Tensor, Tensor]:
    """The ``wanted`` best rows in fp32, the best first: scores and places (Q, wanted)."""
    most = max(BLOCK, min(CHUNK_ROWS, CHUNK_BYTES // (4 * len(query)), CHUNK_BYTES // (4 * query.shape[1])))
    rows_at_once = most // BLOCK * BLOCK
    best, where = torch.empty(len(query), 0), torch.empty(len(query), 0, dtype=torch.int64)
    memory = torch.empty(len(query) * min(rows_at_once, len(gallery)))
    with full_precision(query):
        for start in range(0, len(gallery), rows_at_once):
            chunk = gallery.chunk(start, min(start + rows_at_once, len(gallery)))
            own = torch.mm(query, chunk.T, out=memory[: len(query) * len(chunk)].view(len(query), len(chunk)))
            scores, places = _best_of_chunk(own, wanted)
            best, where = torch.cat([best, scores], dim=1), torch.cat([where, places + start], dim=1)
            if best.shape[1] > wanted:
                best, order = best.topk(wanted, dim=1, sorted=False)
                where = where.gather(1, order)
    best, order = best.sort(dim=1, descending=True)
    return best, where.gather(1, order)


def _best_of_chunk(scores: Tensor, wanted: int) -> tuple[Tensor, Tensor]:
    """The best of a chunk's scores (Q, M): scores and places (Q, min(wanted, M)).

    The best ``wanted`` lie within the ``wanted`` blocks whose maxima are largest.
    """
    queries, items = scores.shape
    blocks = items // BLOCK
    if blocks <= 2 * wanted:
        best, places = scores.topk(min(wanted, items), dim=1, sorted=False)
        return best, places
    whole = rearrange(scores[:, : blocks * BLOCK], "q (blocks size) -> q blocks size", size=BLOCK)
    chosen = whole.amax(-1).topk(wanted, dim=1, sorted=False).indices
    inside = whole.gather(1, chosen[..., None].expand(-1, -1, BLOCK))
    places = chosen[..., None] * BLOCK + torch.arange(BLOCK)
    flat = rearrange(inside, "q wanted size -> q (wanted size)", q=queries, size=BLOCK)
    flat_places = rearrange(places, "q wanted size -> q (wanted size)", q=queries, size=BLOCK)
    if blocks * BLOCK < items:  # what no whole block holds
        rest = torch.arange(blocks * BLOCK, items)
        flat = torch.cat([flat, scores[:, rest]], dim=1)
        flat_places = torch.cat([flat_places, rest.expand(queries, -1)], dim=1)
    best, order = flat.topk(wanted, dim=1, sorted=False)
    return best, flat_places.gather(1, order)


def rescore(query: Tensor, gallery: Gallery, places: Tensor, tie: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Inner products in fp64 of queries (Q, C) with their own rows (Q, K), best first: scores and places (Q, K).

    Equal scores stand in the order of ``tie`` (N,), by default of the rows.
    """
    exact = torch.empty(places.shape, dtype=torch.float64)
    at_once = max(1, RESCORED_BYTES // (8 * places.shape[1] * query.shape[1]))
    for start in range(0, len(query), at_once):
        own = places[start : start + at_once]
        rows = rearrange(gallery.rows(own.flatten()), "(q k) c -> q k c", q=len(own))
        exact[start : start + at_once] = (rows.double() * query[start : start + at_once, None].double()).sum(-1)
    second = places if tie is None else tie[places]
    order = torch.from_numpy(np.lexsort((second.numpy(), -exact.numpy()), axis=1))
    return exact.gather(1, order), places.gather(1, order)
