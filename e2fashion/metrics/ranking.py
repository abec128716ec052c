"""The rank of every query's best positive, computed in chunks, with ties counted against the model.

Images and texts are compared in both directions, by one vector each or token by token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from e2fashion.similarity import is_tokenwise, present_tokens, token_similarities, token_similarity
from e2fashion.types import E2FashionError

CHUNK_BYTES = 64 * 2**20
"""Scores in memory: 167 rows against 100,000 items; more rows are not faster."""
CHUNK_ROWS = 512
BYTES_PER_POSITIVE = 40
FLOAT_COUNTS_UP_TO = 2**24


def ranks(
    query: Tensor,
    gallery: Tensor,
    query_ids: Tensor | None = None,
    gallery_ids: Tensor | None = None,
    chunk: int | None = None,
    item_of: Tensor | None = None,
) -> Tensor:
    """1 + the number of non-positives that score at least as high as the query's best positive: (Q,) int64.

    ``query`` (Q, C) and ``gallery`` (N, C) are scored by inner product in fp32. A gallery item is a positive of a
    query if ``query_ids`` (Q,) and ``gallery_ids`` (N,) int64 agree; without ids, row i belongs to row i and Q = N.
    Equal scores count against the model, so that a collapsed encoder ranks last; the positive's score comes from the
    same matrix product as the others. ``chunk`` queries are scored at a time (default: 64 MB).

    ``item_of`` (N,) int64, where an item has several rows of the gallery, numbers the item of each from 0; the best of
    its rows scores it, and ``gallery_ids`` are of items.

    Raises:
        E2FashionError: embeddings that are not finite, incompatible shapes, or a query without a positive.
    """
    check_embeddings(query, gallery)
    items = len(gallery) if item_of is None else int(item_of.max()) + 1
    transposed = gallery.float().T

    def scores(rows: slice) -> Tensor:
        if item_of is None:
            return query[rows].float() @ transposed
        at_once = max(1, CHUNK_BYTES // (4 * len(item_of)))
        return torch.cat([_best_rows(part.float() @ transposed, item_of, items) for part in query[rows].split(at_once)])

    with full_precision(query):
        return ranks_by(scores, (len(query), items), query_ids, gallery_ids, query.device, chunk)


def ranks_by(
    scores: Callable[[slice], Tensor],
    shape: tuple[int, int],
    query_ids: Tensor | None = None,
    gallery_ids: Tensor | None = None,
    device: torch.device | str = "cpu",
    chunk: int | None = None,
) -> Tensor:
    """:func:`ranks` under any similarity: (Q,) int64.

    ``scores`` returns the scores (rows, N) fp32 of a slice of the queries, which are overwritten; ``shape`` is (Q, N).
    """
    queries, items = shape
    pairs = _Positives(queries, items, query_ids, gallery_ids, torch.device(device))
    if chunk is None:
        most = int(pairs.number.max())
        chunk = max(1, min(CHUNK_ROWS, CHUNK_BYTES // max(4 * items, BYTES_PER_POSITIVE * most)))
    result = torch.empty(queries, dtype=torch.int64, device=device)
    for first in range(0, queries, chunk):
        part = scores(slice(first, first + chunk))
        rows, columns = pairs.within(first, len(part))
        positive = part[rows, columns]
        best = part.new_full((len(part),), -torch.inf)
        best.scatter_reduce_(0, rows, positive, "amax")
        # Positives do not count as rivals. 0.0 / 1.0 in place is 20 times as fast as bool.
        dtype = torch.float32 if items <= FLOAT_COUNTS_UP_TO else torch.float64
        counted = part.ge_(best[:, None]).sum(1, dtype=dtype).long()
        counted_positives = (positive >= best[rows]).long()
        result[first : first + len(part)] = 1 + counted.scatter_add_(0, rows, -counted_positives)
    return result


def ranks_among(query: Tensor, gallery: Tensor, candidates: Tensor, chunk: int = 256) -> Tensor:
    """The rank of each query's positive among its own candidates: (Q,) int64, ties against the model.

    ``query`` (Q, C), ``gallery`` (N, C); ``candidates`` (Q, K) int64 are rows of the gallery, the positive first,
    padded with -1.

    Raises:
        E2FashionError: embeddings that are not finite, incompatible shapes, or empty lists.
    """
    check_embeddings(query, gallery)
    if candidates.shape[0] != len(query) or candidates.shape[1] < 1 or bool((candidates[:, 0] < 0).any()):
        raise E2FashionError(
            f"candidates of shape {tuple(candidates.shape)} do not fit {len(query)} queries: "
            "give every query a row that starts with its positive"
        )
    result = torch.empty(len(query), dtype=torch.int64, device=query.device)
    with full_precision(query):
        for first in range(0, len(query), chunk):
            listed = candidates[first : first + chunk]
            rivals = gallery[listed.clamp(min=0)].float()
            scores = torch.bmm(rivals, query[first : first + chunk].float().unsqueeze(-1)).squeeze(-1)
            scores.masked_fill_(listed < 0, -torch.inf)
            result[first : first + chunk] = 1 + (scores[:, 1:] >= scores[:, :1]).sum(1)
    return result


def _best_rows(scores: Tensor, item_of: Tensor, items: int) -> Tensor:
    """The best score of every item (Q, items) from those of its rows (Q, N)."""
    best = scores.new_full((len(scores), items), -torch.inf)
    return best.scatter_reduce_(1, item_of.expand_as(scores), scores, "amax")


class _Positives:
    """The gallery rows of every query's positives, as a range of one sorted list."""

    def __init__(
        self, queries: int, items: int, query_ids: Tensor | None, gallery_ids: Tensor | None, device: torch.device
    ) -> None:
        if query_ids is None or gallery_ids is None:
            if query_ids is not gallery_ids or queries != items:
                raise E2FashionError(
                    f"{queries} queries and {items} gallery items are not rows of the same products: "
                    "give the ids of both"
                )
            query_ids = gallery_ids = torch.arange(queries, device=device)
        if query_ids.shape != (queries,) or gallery_ids.shape != (items,):
            raise E2FashionError(
                f"ids of shapes {tuple(query_ids.shape)} and {tuple(gallery_ids.shape)} for {queries} queries "
                f"and {items} gallery items: give one id per row"
            )
        ordered, self.order = gallery_ids.to(device).sort(stable=True)
        query_ids = query_ids.to(device).contiguous()
        self.start = torch.searchsorted(ordered, query_ids)
        self.number = torch.searchsorted(ordered, query_ids, right=True) - self.start
        without = (self.number == 0).nonzero().flatten()
        if len(without):
            raise E2FashionError(
                f"{len(without)} of {queries} queries have no positive in the gallery, the first is row "
                f"{int(without[0])} with id {int(query_ids[without[0]])}: leave them out or add their items"
            )

    def within(self, first: int, rows: int) -> tuple[Tensor, Tensor]:
        """Row within the chunk and gallery column of every positive of queries ``first`` to ``first + rows``."""
        number, start = self.number[first : first + rows], self.start[first : first + rows]
        row = torch.repeat_interleave(torch.arange(rows, device=number.device), number)
        before = (number.cumsum(0) - number)[row]
        return row, self.order[start[row] + torch.arange(len(row), device=row.device) - before]


def check_embeddings(query: Tensor, gallery: Tensor, dimensions: int = 2) -> None:
    """Check queries (Q, C) and items (N, C), or with ``dimensions`` 3 tokens (Q, T, C) and (N, S, C).

    Raises:
        E2FashionError: other shapes, no embeddings, or embeddings that are not finite.
    """
    if query.dim() != dimensions or gallery.dim() != dimensions or query.shape[-1] != gallery.shape[-1]:
        raise E2FashionError(
            f"queries of shape {tuple(query.shape)} and a gallery of shape {tuple(gallery.shape)}: "
            + ("give (Q, C) and (N, C)" if dimensions == 2 else "give tokens (Q, T, C) and (N, S, C)")
        )
    for name, embeds in (("query", query), ("gallery", gallery)):
        if not len(embeds):
            raise E2FashionError(f"the {name} embeddings are empty: embed at least one product")
        bad = (~embeds.isfinite().flatten(1).all(dim=1)).nonzero().flatten()
        if len(bad):
            raise E2FashionError(
                f"{len(bad)} of {len(embeds)} {name} embeddings are not finite, the first is row {int(bad[0])}: "
                "the model has diverged or an input is broken"
            )


@contextmanager
def full_precision(like: Tensor) -> Iterator[None]:
    """Products in fp32 regardless of autocast and the process-wide matmul precision."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device_type=like.device.type, enabled=False), torch.no_grad():
            yield
    finally:
        torch.set_float32_matmul_precision(before)


BLOCK_TOKENS = 4096
"""Tokens of either side in one matrix product, of 64 MB."""


def compare(image_embeds: Tensor, text_embeds: Tensor) -> Comparison:
    """The comparison of embeddings (M, C) and (N, C), or of tokens (M, P, C) and (N, L, C), L2-normalized.

    Raises:
        E2FashionError: only one side has tokens.
    """
    tokenwise = is_tokenwise(image_embeds), is_tokenwise(text_embeds)
    if len(set(tokenwise)) > 1:
        raise E2FashionError(
            f"images of shape {tuple(image_embeds.shape)} cannot be compared with texts of shape "
            f"{tuple(text_embeds.shape)}: embed both with one model"
        )
    return (TokenComparison if all(tokenwise) else Comparison)(image_embeds, text_embeds)


class Comparison:
    """M images (M, C) and N texts (N, C) under the inner product.

    ``direction`` is ``i2t`` (image queries) or ``t2i`` (text queries).
    """

    def __init__(self, image: Tensor, text: Tensor) -> None:
        self.sides: dict[str, Any] = {"i2t": (image, text), "t2i": (text, image)}

    def ranks(self, direction: str, query_ids: Tensor | None = None, gallery_ids: Tensor | None = None) -> Tensor:
        """The rank of every query's best positive, see :func:`ranks`."""
        query, gallery = self.sides[direction]
        return ranks(query, gallery, query_ids, gallery_ids)

    def ranks_among(self, direction: str, queries: Tensor, candidates: Tensor) -> Tensor:
        """Ranks among candidates, see :func:`ranks_among`; ``queries`` (Q,) are rows."""
        query, gallery = self.sides[direction]
        return ranks_among(query[queries], gallery, candidates)

    def scores(self, direction: str, query: int) -> Tensor:
        """Scores of the whole gallery for one query row: (M,) or (N,)."""
        queries, gallery = self.sides[direction]
        result: Tensor = gallery @ queries[query]
        return result


class TokenComparison(Comparison):
    """Late interaction of images (M, P, C) and texts (N, L, C), zero where a token is absent.

    Both directions are computed in one pass over blocks of at most :data:`BLOCK_TOKENS` squared products; only one
    score per pair and direction is kept, 8 M N bytes. Equal items are scored once: a matrix product may round equal
    columns differently, which would break ties.
    """

    def __init__(self, image: Tensor, text: Tensor) -> None:
        check_embeddings(image, text, dimensions=3)
        self.sides = {"i2t": _Items(image), "t2i": _Items(text)}

    @cached_property
    def matrices(self) -> dict[str, Tensor]:
        """Scores by direction: ``i2t`` (M, N) and ``t2i`` (N, M), fp32."""
        image, text = self.sides.values()
        i2t = torch.empty(len(image.distinct), len(text.distinct), device=image.distinct.device)
        t2i = torch.empty_like(i2t.T)
        with full_precision(i2t):
            for rows, patches in _blocks(image.lengths):
                some = image.distinct[rows, :patches].float()
                for columns, words in _blocks(text.lengths):
                    forth, back = token_similarities(some, text.distinct[columns, :words].float())
                    i2t[rows, columns], t2i[columns, rows] = forth, back
        return {"i2t": i2t[image.index][:, text.index], "t2i": t2i[text.index][:, image.index]}

    def ranks(self, direction: str, query_ids: Tensor | None = None, gallery_ids: Tensor | None = None) -> Tensor:
        """See :class:`Comparison`."""
        scores = self.matrices[direction]
        shape = scores.shape[0], scores.shape[1]
        return ranks_by(lambda rows: scores[rows].clone(), shape, query_ids, gallery_ids, scores.device)

    def ranks_among(self, direction: str, queries: Tensor, candidates: Tensor) -> Tensor:
        """See :class:`Comparison`; only the candidates are scored."""
        result = torch.empty(len(queries), dtype=torch.int64, device=queries.device)
        for row, (query, listed) in enumerate(zip(queries.tolist(), candidates, strict=True)):
            scores = self._scores_of(direction, query, listed[listed >= 0])
            result[row] = 1 + (scores[1:] >= scores[0]).sum()
        return result

    def scores(self, direction: str, query: int) -> Tensor:
        """See :class:`Comparison`."""
        return self._scores_of(direction, query, None)

    def _scores_of(self, direction: str, query: int, rows: Tensor | None) -> Tensor:
        """Scores of one query's gallery, or of these rows of it: (rows,)."""
        queries, gallery = self.sides[direction], self.sides["t2i" if direction == "i2t" else "i2t"]
        indices = gallery.index if rows is None else gallery.index[rows]
        tokens = queries.distinct[queries.index[query]][None].float()
        needed, inverse = indices.unique(return_inverse=True)
        scores = torch.empty(len(needed), device=tokens.device)
        with full_precision(tokens):
            for part, length in _blocks(gallery.lengths[needed]):
                scores[part] = token_similarity(tokens, gallery.distinct[needed[part], :length].float())[0]
        return scores[inverse]


class _Items:
    """The ``distinct`` items among (N, T, C), the shortest first, and the ``index`` (N,) of each item among them.

    ``lengths`` (distinct,): number of tokens of each distinct item.
    """

    def __init__(self, tokens: Tensor) -> None:
        steps = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
        lengths = (present_tokens(tokens) * steps).amax(1).clamp(min=1)
        tokens = tokens[:, : int(lengths.max())]
        seen: dict[bytes, int] = {}
        indices, first = [], []
        for row, item in enumerate(tokens.cpu()):
            content = hashlib.blake2b(item.float().contiguous().numpy().tobytes(), digest_size=16).digest()
            if content not in seen:
                seen[content] = len(seen)
                first.append(row)
            indices.append(seen[content])
        rows = torch.tensor(first, device=tokens.device)
        order = lengths[rows].argsort(stable=True)
        self.index = order.argsort()[torch.tensor(indices, device=tokens.device)]
        rows = rows[order]
        self.lengths = lengths[rows]
        unchanged = len(rows) == len(tokens) and torch.equal(rows, torch.arange(len(rows), device=rows.device))
        self.distinct = tokens if unchanged else tokens[rows]


def _blocks(lengths: Tensor) -> list[tuple[slice, int]]:
    """Slices of about :data:`BLOCK_TOKENS` tokens over items of these ascending lengths, each with its maximum."""
    listed, blocks, start = lengths.tolist(), [], 0
    while start < len(listed):
        end = start + 1
        while end < len(listed) and (end + 1 - start) * listed[end] <= BLOCK_TOKENS:
            end += 1
        blocks.append((slice(start, end), listed[end - 1]))
        start = end
    return blocks
