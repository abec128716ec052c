"""The nearest rows of a gallery by inner product, exactly.

Candidates come from matrix products over chunks of rows: in bfloat16 where the processor multiplies it natively and an
error bound excludes enough rows (:func:`prefilter`), else in fp32. The scores of candidates are computed again in fp64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

from e2fashion.metrics.ranking import full_precision
from e2fashion.types import E2FashionError

QUERIES_AT_ONCE = 1024
CHUNK_BYTES = 64 * 2**20
"""Scores in memory at once, and fp32 copies of rows in memory at once."""
CHUNK_ROWS = 2**15
RESCORED_BYTES = 32 * 2**20
BLOCK = 64
"""Scores that their maximum represents while the best are selected: one pass over the others instead of a sort."""
SPARE = 8
"""Candidates beyond those requested, so that rounding and equal scores cannot exclude a right one (ours)."""
MOST_SPARE = 4096
PREFILTER_QUERIES = 16
"""Fewer queries are bound by memory, whatever the type."""
PREFILTER_BYTES = 8 * 2**20
"""As ``CHUNK_BYTES``; the allocator keeps blocks of this size for the next chunk."""
MOST_BLOCKS = 64
MOST_ROWS = 512
"""Beyond those requested, per chunk and in total; a query with more is left undecided: its gallery is too dense."""
BF16_ROUNDING = 2.0**-8
"""Largest relative error of rounding to bfloat16, which has 8 significant bits."""


class Gallery:
    """Rows of several matrices (n_i, C), such as memory-mapped fp16 shards, all or a selection of them, read as fp32.

    Args:
        shards: one matrix or more.
        selected: rows (N,) int64, counted through all shards; None: all rows.
    """

    def __init__(self, shards: Sequence[Tensor], selected: Tensor | None = None) -> None:
        self._shards = list(shards)
        self._ends = torch.tensor([len(shard) for shard in shards]).cumsum(0)
        self._selected = selected

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._selected is None else len(self._selected)

    def stored_rows(self, positions: Tensor) -> Tensor:
        """The rows, counted through all shards, at positions (n,) of this gallery."""
        return positions if self._selected is None else self._selected[positions]

    def select(self, positions: Tensor) -> Gallery:
        """A gallery of the rows at positions (n,) alone."""
        return Gallery(self._shards, self.stored_rows(positions))

    def chunk(self, start: int, stop: int) -> Tensor:
        """Rows from ``start`` to ``stop``: (rows, C) fp32."""
        if self._selected is not None:
            return self.rows(torch.arange(start, stop))
        parts = []
        first = 0
        for shard in self._shards:
            low, high = max(start - first, 0), min(stop - first, len(shard))
            if low < high:
                parts.append(shard[low:high].float())
            first += len(shard)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def chunks(self, size: int = CHUNK_ROWS) -> Iterator[tuple[int, Tensor]]:
        """All rows in chunks of ``size``, each with the position of its first row."""
        for start in range(0, len(self), size):
            yield start, self.chunk(start, min(start + size, len(self)))

    def rows(self, positions: Tensor) -> Tensor:
        """Rows at positions (n,): (n, C) fp32."""
        stored = self.stored_rows(positions).contiguous()
        numbers = torch.searchsorted(self._ends, stored, right=True)
        found = torch.empty(len(positions), self._shards[0].shape[1])
        for number in numbers.unique().tolist():
            inside = numbers == number
            before = int(self._ends[number]) - len(self._shards[number])
            found[inside] = self._shards[number][stored[inside] - before].float()
        return found


def nearest(query: Tensor, gallery: Gallery, top: int, tie: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Scores (Q, k) fp64 and positions (Q, k) int64 of the ``top`` best rows, best first; k = min(top, N).

    Scores of ``query`` (Q, C) fp32 are inner products in fp64, which do not depend on how rows are distributed over
    shards; equal ones are in the order of ``tie`` (N,) int64 (default: of the rows). Where more than 4,096 rows score
    as the last one within rounding, the first of them are taken.

    Raises:
        E2FashionError: ``top`` is below 1, or a query is not finite.
    """
    if top < 1:
        raise E2FashionError(f"top is {top}; give a number of products from 1")
    if bad := int((~query.isfinite()).any(-1).sum()):
        raise E2FashionError(f"{bad} of {len(query)} queries are not finite: the model has diverged")
    kept = min(top, len(gallery))
    scores = torch.empty(len(query), kept, dtype=torch.float64)
    positions = torch.empty(len(query), kept, dtype=torch.int64)
    for start in range(0, len(query) if kept else 0, QUERIES_AT_ONCE):
        part = slice(start, start + QUERIES_AT_ONCE)
        scores[part], positions[part] = _nearest_of(query[part].float(), gallery, kept, tie)
    return scores, positions


def _nearest_of(query: Tensor, gallery: Gallery, kept: int, tie: Tensor | None) -> tuple[Tensor, Tensor]:
    if not prefilter_pays(len(query), len(gallery), kept):
        return _nearest_in_fp32(query, gallery, kept, tie)
    scores = torch.empty(len(query), kept, dtype=torch.float64)
    positions = torch.empty(len(query), kept, dtype=torch.int64)
    left = prefilter(query, gallery, kept)
    undecided, decided = left.undecided, ~left.undecided
    pairs = (decided.cumsum(0) - 1)[left.queries], left.positions
    scores[decided], positions[decided] = best_of_pairs(query[decided], gallery, pairs, kept, tie)
    scores[undecided], positions[undecided] = _nearest_in_fp32(query[undecided], gallery, kept, tie)
    return scores, positions


def _nearest_in_fp32(query: Tensor, gallery: Gallery, kept: int, tie: Tensor | None) -> tuple[Tensor, Tensor]:
    rounding = 2 * query.shape[1] * torch.finfo(torch.float32).eps
    scores = torch.empty(len(query), kept, dtype=torch.float64)
    positions = torch.empty(len(query), kept, dtype=torch.int64)
    undecided, spare = torch.arange(len(query)), SPARE
    while len(undecided):
        wanted = min(kept + spare, len(gallery))
        rough, found = _candidates(query[undecided], gallery, wanted)
        # Only what lies within rounding of the last kept one, or above it, can be among the best.
        close = rough >= rough[:, kept - 1 : kept] - rounding
        number = int(close.sum(1).max())
        exact, found = rescore(query[undecided], gallery, found[:, :number], tie)
        scores[undecided], positions[undecided] = exact[:, :kept], found[:, :kept]
        doubtful = close[:, -1]  # rows that were not candidates may be as close
        if wanted == len(gallery) or spare >= MOST_SPARE:
            break
        undecided, spare = undecided[doubtful], 8 * spare
    return scores, positions


def _candidates(query: Tensor, gallery: Gallery, wanted: int) -> tuple[Tensor, Tensor]:
    """The ``wanted`` best rows in fp32, best first: scores and positions (Q, wanted)."""
    most = max(BLOCK, min(CHUNK_ROWS, CHUNK_BYTES // (4 * len(query)), CHUNK_BYTES // (4 * query.shape[1])))
    rows_at_once = most // BLOCK * BLOCK
    best, positions = torch.empty(len(query), 0), torch.empty(len(query), 0, dtype=torch.int64)
    memory = torch.empty(len(query) * min(rows_at_once, len(gallery)))
    with full_precision(query):
        for start, rows in gallery.chunks(rows_at_once):
            product = torch.mm(query, rows.T, out=memory[: len(query) * len(rows)].view(len(query), len(rows)))
            scores, found = _best_of_chunk(product, wanted)
            best, positions = torch.cat([best, scores], dim=1), torch.cat([positions, found + start], dim=1)
            if best.shape[1] > wanted:
                best, order = best.topk(wanted, dim=1, sorted=False)
                positions = positions.gather(1, order)
    best, order = best.sort(dim=1, descending=True)
    return best, positions.gather(1, order)


def _best_of_chunk(scores: Tensor, wanted: int) -> tuple[Tensor, Tensor]:
    """The best of a chunk's scores (Q, M): scores and positions (Q, min(wanted, M)).

    The best ``wanted`` lie within the ``wanted`` blocks whose maxima are largest.
    """
    items = scores.shape[1]
    if items // BLOCK <= 2 * wanted:
        best, positions = scores.topk(min(wanted, items), dim=1, sorted=False)
        return best, positions
    blocks = _blocks(scores)
    chosen = blocks.amax(-1).topk(wanted, dim=1, sorted=False).indices
    inside = blocks.gather(1, chosen[..., None].expand(-1, -1, BLOCK))
    positions = rearrange(chosen[..., None] * BLOCK + torch.arange(BLOCK), "q wanted size -> q (wanted size)")
    best, order = rearrange(inside, "q wanted size -> q (wanted size)").topk(wanted, dim=1, sorted=False)
    return best, positions.gather(1, order)


def _blocks(scores: Tensor) -> Tensor:
    """Scores (Q, N) in blocks (Q, ceil(N / BLOCK), BLOCK); the last one is filled with minus infinity."""
    lacking = -scores.shape[1] % BLOCK
    whole = F.pad(scores, (0, lacking), value=-torch.inf) if lacking else scores
    return rearrange(whole, "q (blocks size) -> q blocks size", size=BLOCK)


def rescore(query: Tensor, gallery: Gallery, positions: Tensor, tie: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Inner products in fp64 of queries (Q, C) with rows at positions (Q, K), best first: scores and positions (Q, K).

    Equal scores are in the order of ``tie`` (N,), by default of the rows.
    """
    kept = positions.shape[1]
    queries = repeat(torch.arange(len(query)), "q -> (q k)", k=kept)
    return best_of_pairs(query, gallery, (queries, positions.flatten()), kept, tie)


def best_of_pairs(
    query: Tensor, gallery: Gallery, pairs: tuple[Tensor, Tensor], kept: int, tie: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The ``kept`` best rows of each query among its pairs, best first: scores and positions (Q, kept) as `rescore`.

    ``pairs`` are numbers of queries and positions of rows, (P,) int64 each; every query (Q, C) has ``kept`` or more.
    """
    queries, positions = pairs
    exact = torch.empty(len(positions), dtype=torch.float64)
    at_once = max(1, RESCORED_BYTES // (16 * query.shape[1]))
    for start in range(0, len(positions), at_once):
        part = slice(start, start + at_once)
        exact[part] = (gallery.rows(positions[part]).double() * query[queries[part]].double()).sum(-1)
    second = positions if tie is None else tie[positions]
    order = torch.from_numpy(np.lexsort((second.numpy(), -exact.numpy(), queries.numpy())))
    firsts = torch.searchsorted(queries[order], torch.arange(len(query)))
    chosen = order[firsts[:, None] + torch.arange(kept)]
    return exact[chosen], positions[chosen]


@dataclass(frozen=True)
class Prefiltered:
    """Pairs of queries and positions of rows, (P,) int64 each; queries that are ``undecided`` (Q,) bool have none."""

    queries: Tensor
    positions: Tensor
    undecided: Tensor


def prefilter_pays(queries: int, items: int, kept: int) -> bool:
    """Whether the processor has bfloat16 products, and there is enough to do."""
    able = torch.cpu.get_capabilities()
    native = bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return native and queries >= PREFILTER_QUERIES and items >= 16 * BLOCK * kept


def prefilter(query: Tensor, gallery: Gallery, kept: int) -> Prefiltered:
    """For each query (Q, C) fp32 a superset of its ``kept`` best rows, or nothing where the superset is large.

    Native bfloat16 products take less than half of the time of fp32. What rounding can do to a score is bounded by the
    rounded vectors themselves, so rows below the bound are excluded for certain; the caller scores the others in fp64.
    ``kept`` is at most the number of whole blocks in the gallery's first chunk. Ours.
    """
    low = query.bfloat16()
    lost, length = (query - low.float()).norm(dim=1), low.float().norm(dim=1)
    most = min(PREFILTER_BYTES // (2 * len(query)), PREFILTER_BYTES // (4 * query.shape[1]))
    best = query.new_full((len(query), kept), -torch.inf, dtype=torch.bfloat16)
    bound, worst = query.new_full((len(query),), -torch.inf), torch.zeros(len(query))
    alive = torch.ones(len(query), dtype=torch.bool)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for start, rows in gallery.chunks(max(BLOCK * kept, most // BLOCK * BLOCK)):
        low_rows = rows.bfloat16()
        margin = _margin(lost, length, rows, low_rows)
        worst = torch.maximum(worst, margin)
        blocks = _blocks(low @ low_rows.T)
        peaks = blocks.amax(-1)
        # As many rows as there are peaks score at least as high as the last of the best peaks.
        best = torch.cat([best, peaks], dim=1).topk(kept, dim=1, sorted=False).values
        lowest = best.amin(1).float()
        bound = torch.maximum(bound, lowest - 2 * BF16_ROUNDING * lowest.abs() - worst)
        limit = (bound - margin).bfloat16()  # rounding keeps order: what is above the bound stays above it
        chosen = (peaks >= limit[:, None]) & alive[:, None]
        alive &= chosen.sum(1) <= MOST_BLOCKS + 4 * kept
        if 2 * int(alive.sum()) < len(query):
            nothing = torch.empty(0, dtype=torch.int64)
            return Prefiltered(nothing, nothing, torch.ones_like(alive))
        queries, block = (chosen & alive[:, None]).nonzero(as_tuple=True)
        inside = blocks[queries, block]
        pair, offset = (inside >= limit[queries, None]).nonzero(as_tuple=True)
        found.append((queries[pair], start + block[pair] * BLOCK + offset, inside[pair, offset]))
    queries, positions, rough = (torch.cat(part) for part in zip(*found, strict=True))
    left = (rough >= (bound - worst).bfloat16()[queries]) & alive[queries]
    alive &= torch.bincount(queries[left], minlength=len(query)) <= MOST_ROWS + 4 * kept
    left &= alive[queries]
    return Prefiltered(queries[left], positions[left], ~alive)


def _margin(lost: Tensor, length: Tensor, rows: Tensor, low_rows: Tensor) -> Tensor:
    """Largest difference of a product of rounded vectors to that of the vectors, before it is rounded itself: (Q,).

    By Cauchy and Schwarz for q x - q' x' = (q - q') x + q' (x - x'), and the error of summation in fp32.
    """
    longest = rows.norm(dim=1).amax()
    residual = low_rows.float().sub_(rows).norm(dim=1).amax()
    summing = 2 * rows.shape[1] * torch.finfo(torch.float32).eps
    return lost * longest + length * residual + summing * length * (longest + residual)
