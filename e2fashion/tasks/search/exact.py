"""The nearest rows of a gallery by inner product, exactly: chunked matrix products, the best merged over chunks."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from e2fashion.metrics.ranking import full_precision
from e2fashion.tasks.search.gallery import Gallery
from e2fashion.tasks.search.rescoring import best_of_pairs, rescore
from e2fashion.tasks.search.sieve import pays, sieve
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


def nearest(query: Tensor, gallery: Gallery, top: int, tie: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Scores (Q, k) fp64 and places (Q, k) int64 of the ``top`` best rows, the best first; k = min(top, N).

    ``query`` (Q, C) fp32. Candidates come from matrix products over chunks, in bfloat16 where that is quicker and
    bounds tell enough rows apart, else in fp32; their final scores are inner products in fp64, which do not depend on
    where a row lies, and equal ones stand in the order of ``tie`` (N,) int64 (default: of the rows). Where more than
    4,096 rows score as the last one within rounding, those that lie first are taken.

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
    scores = torch.empty(len(query), kept, dtype=torch.float64)
    places = torch.empty(len(query), kept, dtype=torch.int64)
    dense = torch.ones(len(query), dtype=torch.bool)
    if pays(len(query), len(gallery), kept):
        sieved = sieve(query, gallery, kept)
        dense, done = sieved.open_queries, ~sieved.open_queries
        pairs = (done.cumsum(0) - 1)[sieved.asks], sieved.places
        scores[done], places[done] = best_of_pairs(query[done], gallery, pairs, kept, tie)
    scores[dense], places[dense] = _nearest_in_fp32(query[dense], gallery, kept, tie)
    return scores, places


def _nearest_in_fp32(query: Tensor, gallery: Gallery, kept: int, tie: Tensor | None) -> tuple[Tensor, Tensor]:
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
