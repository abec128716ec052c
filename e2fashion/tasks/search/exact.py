"""The nearest rows of a matrix by inner product, exactly: candidates in fp32, their scores in fp64."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

from e2fashion.metrics.ranking import full_precision
from e2fashion.types import E2FashionError

QUERIES_AT_ONCE = 1024
CHUNK_SCORES = 2**22
"""Scores in memory at once: few enough that caches hold a part of them, since each is read again."""
CHUNK_VALUES = 2**21
"""Values of rows that are converted to fp32 at once."""
MOST_ROWS, LEAST_ROWS = 2**16, 2**10
BLOCK = 64
"""Scores that their maximum represents while the best are selected."""
MOST_PAIRS, LEAST_TIES = 2**24, 64
"""Candidates of all queries, and the fewest of one in a chunk beyond those requested: where more score the same, any of
them are taken."""
RESCORED_BYTES = 2 * 2**20
"""Memory of the candidates that are scored again at once: little, so that it is used again and stays in the cache."""


def nearest(
    query: Tensor, gallery: Tensor, top: int, tie: Tensor | None = None, rows: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Scores (Q, k) fp64 and rows (Q, k) int64 of the ``top`` best, best first; k = min(top, number of rows).

    Args:
        query: (Q, C) fp32.
        gallery: (N, C) fp32 or fp16, rows of length 4 at most: the margin for rounding is made for them.
        top: how many are wanted.
        tie: (N,) int64, the order of rows that score the same; None: that of the rows.
        rows: the rows that are searched (n,) int64; None: all.

    Raises:
        E2FashionError: ``top`` is below 1, or a query is not finite.
    """
    if top < 1:
        raise E2FashionError(f"top is {top}; give a number of products from 1")
    if bad := int((~query.isfinite()).any(-1).sum()):
        raise E2FashionError(f"{bad} of {len(query)} queries are not finite: the model has diverged")
    kept = min(top, len(gallery) if rows is None else len(rows))
    scores = torch.empty(len(query), kept, dtype=torch.float64)
    found = torch.empty(len(query), kept, dtype=torch.int64)
    for start in range(0, len(query) if kept else 0, QUERIES_AT_ONCE):
        part = slice(start, start + QUERIES_AT_ONCE)
        queries, candidates = _candidates(query[part].float(), gallery, kept, rows)
        scores[part], found[part] = _best_of_pairs(query[part], gallery, (queries, candidates), kept, tie)
    return scores, found


def _candidates(query: Tensor, gallery: Tensor, kept: int, rows: Tensor | None) -> tuple[Tensor, Tensor]:
    """Pairs of queries and rows, (P,) int64 each, with the ``kept`` best rows of every query (Q, C) among them.

    The ``kept``-th best maximum of a block so far is a bound: as many rows score at least as high.
    """
    number = len(gallery) if rows is None else len(rows)
    at_once = min(MOST_ROWS, max(LEAST_ROWS, CHUNK_SCORES // len(query) // BLOCK * BLOCK))
    if gallery.dtype != torch.float32:
        at_once = min(at_once, max(LEAST_ROWS, CHUNK_VALUES // query.shape[1] // BLOCK * BLOCK))
    most = max(kept + LEAST_TIES, MOST_PAIRS // (len(query) * (number // at_once + 1)))
    longest = torch.linalg.vector_norm(query, dim=1)
    rounding = 4 * query.shape[1] * torch.finfo(torch.float32).eps * longest
    best = query.new_full((len(query), kept), -torch.inf)
    bound = query.new_full((len(query),), -torch.inf)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    memory = torch.empty(len(query) * min(at_once, number))  # new memory for every chunk costs a tenth of the time
    with full_precision(query):
        for start in range(0, number, at_once):
            stop = min(start + at_once, number)
            part = (gallery[start:stop] if rows is None else gallery[rows[start:stop]]).float()
            scores = torch.mm(query, part.T, out=memory[: len(query) * len(part)].view(len(query), len(part)))
            blocks = _blocks(scores)
            peaks = blocks.amax(1)
            queries, block = (peaks >= bound[:, None]).nonzero(as_tuple=True)
            better = queries.unique_consecutive()  # few, behind the first chunks
            best[better] = torch.cat([best[better], peaks[better]], dim=1).topk(kept, dim=1, sorted=False).values
            bound[better] = best[better].amin(1) - rounding[better]
            near = peaks[queries, block] >= bound[queries]
            queries, block = queries[near], block[near]
            inside = blocks[queries, :, block]
            pair, offset = (inside >= bound[queries, None]).nonzero(as_tuple=True)
            positions, values = offset * blocks.shape[2] + block[pair], inside[pair, offset]
            queries = queries[pair]
            many = torch.bincount(queries, minlength=len(query)) > most
            if many.any():
                few = ~many[queries]
                values_of_many, positions_of_many = scores[many].topk(min(most, stop - start), dim=1)
                queries_of_many = repeat(many.nonzero()[:, 0], "q -> (q k)", k=values_of_many.shape[1])
                queries = torch.cat([queries[few], queries_of_many])
                positions = torch.cat([positions[few], positions_of_many.flatten()])
                values = torch.cat([values[few], values_of_many.flatten()])
            found.append((queries, positions + start, values))
    queries, positions, values = (torch.cat(each) for each in zip(*found, strict=True))
    left = (values >= bound[queries]) & (positions < number)
    queries, positions = queries[left], positions[left]
    return queries, positions if rows is None else rows[positions]


def _blocks(scores: Tensor) -> Tensor:
    """Scores (Q, N) as (Q, BLOCK, ceil(N / BLOCK)), filled with minus infinity.

    A block is a column, whose maximum vector instructions compute for many at a time.
    """
    lacking = -scores.shape[1] % BLOCK
    whole = F.pad(scores, (0, lacking), value=-torch.inf) if lacking else scores
    return rearrange(whole, "q (size blocks) -> q size blocks", size=BLOCK)


def _best_of_pairs(
    query: Tensor, gallery: Tensor, pairs: tuple[Tensor, Tensor], kept: int, tie: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The ``kept`` best rows of each query (Q, C) among its pairs by their products in fp64: (Q, kept) each."""
    queries, rows = pairs
    exact = torch.empty(len(rows), dtype=torch.float64)
    at_once = max(1, RESCORED_BYTES // (16 * query.shape[1]))
    for start in range(0, len(rows), at_once):
        part = slice(start, start + at_once)
        exact[part] = (gallery[rows[part]].double() * query[queries[part]].double()).sum(-1)
    second = rows if tie is None else tie[rows]
    order = torch.from_numpy(np.lexsort((second.numpy(), -exact.numpy(), queries.numpy())))
    firsts = torch.searchsorted(queries[order], torch.arange(len(query)))
    chosen = order[firsts[:, None] + torch.arange(kept)]
    return exact[chosen], rows[chosen]
