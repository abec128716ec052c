"""The nearest rows of a matrix by inner product, exactly: candidates in bfloat16 or fp32, their scores in fp64.

bfloat16 takes half the time where the processor multiplies it natively, and a bound on its rounding loses no row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from einops import repeat
from torch import Tensor

from e2fashion.arithmetic import multiplies_bf16
from e2fashion.metrics.ranking import full_precision
from e2fashion.types import E2FashionError

QUERIES_AT_ONCE = 1024
QUERIES_OF_BF16 = 64
"""For fewer, reading the rows takes longer than the products."""
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
COARSE = 256
"""Candidates of a query in a chunk, beyond those requested, for more of which bfloat16 is too coarse."""
MOST_LENGTH = 4.0
"""Of a row, for which the margin for the rounding of fp32 is made."""
SLACK = 2.1
"""Twice the rounding, and what a product of roundings adds."""
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
    """Pairs of queries and rows, (P,) int64 each, with the ``kept`` best rows of every query (Q, C) among them."""
    if len(query) < QUERIES_OF_BF16 or not multiplies_bf16(query.device):
        return _pairs(query, gallery, kept, rows)[:2]
    queries, found, undecided = _pairs(query, gallery, kept, rows, torch.bfloat16)
    if len(undecided):
        others, found_of_others, _ = _pairs(query[undecided], gallery, kept, rows)
        queries, found = torch.cat([queries, undecided[others]]), torch.cat([found, found_of_others])
    return queries, found


def _pairs(
    query: Tensor, gallery: Tensor, kept: int, rows: Tensor | None, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs as :func:`_candidates` by products of ``dtype``, and queries without any since it is too coarse for them.

    The ``kept``-th best maximum of a block so far is a bound: as many rows score at least as high, but for rounding.
    Scores are (rows, queries), since that product is faster than its transpose. A block is every ``n``-th row of a
    chunk, whose maximum vector instructions compute for many at a time.
    """
    number = len(gallery) if rows is None else len(rows)
    coarse, lowest = dtype != torch.float32, torch.finfo(torch.float32).min
    at_once = min(MOST_ROWS, max(LEAST_ROWS, CHUNK_SCORES // len(query) // BLOCK * BLOCK))
    if gallery.dtype != dtype:
        at_once = min(at_once, max(LEAST_ROWS, CHUNK_VALUES // query.shape[1] // BLOCK * BLOCK))
    most = kept + COARSE if coarse else max(kept + LEAST_TIES, MOST_PAIRS // (len(query) * (number // at_once + 1)))
    factors = query.to(dtype)
    rounding = Rounding.of(query, factors)
    best = query.new_full((len(query), kept), lowest)
    worst = query.new_full((len(query),), lowest)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    memory = query.new_empty(-(-min(at_once, number) // BLOCK) * BLOCK, len(query), dtype=dtype)  # new memory is slow
    with full_precision(query):
        for start in range(0, number, at_once):
            stop = min(start + at_once, number)
            part = (gallery[start:stop] if rows is None else gallery[rows[start:stop]]).to(dtype)
            if coarse:
                rounding.see(part)
            scores = memory[: -(-len(part) // BLOCK) * BLOCK]
            torch.mm(part, factors.T, out=scores[: len(part)])
            scores[len(part) :] = -torch.inf
            blocks = scores.view(BLOCK, -1)
            peaks = blocks.amax(0).view(-1, len(query)).float()
            better = (peaks >= rounding.below(worst)).any(0).nonzero()[:, 0]  # few, behind the first chunks
            best[better] = torch.cat([best[better], peaks.T[better]], dim=1).topk(kept, dim=1, sorted=False).values
            worst[better] = best[better].amin(1)
            bound = rounding.below(worst)
            near = (peaks >= bound).flatten().nonzero()[:, 0]
            inside = blocks.index_select(1, near).float()
            offset, pair = (inside >= bound[near % len(query)]).nonzero(as_tuple=True)
            values, near = inside[offset, pair], near[pair]
            queries, positions = near % len(query), offset * len(peaks) + near // len(query)
            many = torch.bincount(queries, minlength=len(query)) > most
            if many.any():
                few = ~many[queries]
                queries, positions, values = queries[few], positions[few], values[few]
                if coarse:
                    worst[many] = -lowest
                else:
                    values_of_many, positions_of_many = scores[:, many].topk(min(most, len(part)), dim=0)
                    queries_of_many = repeat(many.nonzero()[:, 0], "q -> k q", k=len(values_of_many))
                    queries = torch.cat([queries, queries_of_many.flatten()])
                    positions = torch.cat([positions, positions_of_many.flatten()])
                    values = torch.cat([values, values_of_many.flatten()])
            found.append((queries, positions + start, values))
    queries, positions, values = (torch.cat(each) for each in zip(*found, strict=True))
    left = (values >= rounding.below(worst)[queries]) & (positions < number)
    queries, positions = queries[left], positions[left]
    return queries, positions if rows is None else rows[positions], (worst == -lowest).nonzero()[:, 0]


@dataclass
class Rounding:
    """How far the products of queries with rows may be off: a bound, not an estimate.

    ``relative`` (Q,) to the length of the ``longest`` row, and ``last`` to a score itself, which is rounded too.
    """

    relative: Tensor
    last: float
    longest: float = MOST_LENGTH

    @classmethod
    def of(cls, query: Tensor, factors: Tensor) -> Rounding:
        """Of fp32 queries (Q, C) that are multiplied as ``factors``: sums are of fp32 in any order."""
        length = torch.linalg.vector_norm(query, dim=1)
        relative = query.shape[1] * torch.finfo(torch.float32).eps * length
        if factors.dtype == torch.float32:
            return cls(relative, 0.0)
        half = torch.finfo(factors.dtype).eps / 2
        relative += torch.linalg.vector_norm(query - factors.float(), dim=1) + (1 + half) * half * length
        return cls(relative, half, 0.0)

    def see(self, part: Tensor) -> None:
        """Take notice of the lengths of rows (n, C)."""
        self.longest = max(self.longest, float(torch.linalg.vector_norm(part, dim=1, dtype=torch.float32).max()))

    def below(self, worst: Tensor) -> Tensor:
        """What a row (Q,) must reach to be as good as one that reached ``worst``: both may be off, one up, one down."""
        return worst - SLACK * (self.longest * self.relative + self.last * worst.abs())


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
