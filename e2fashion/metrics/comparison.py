"""Comparison of images and texts in both directions, by one vector each or token by token."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from e2fashion.metrics.ranking import check_embeddings, full_precision, ranks, ranks_among, ranks_by
from e2fashion.similarity import is_tokenwise, present_tokens, token_similarities, token_similarity
from e2fashion.types import E2FashionError

BLOCK_TOKENS = 4096
"""Tokens of either side in one matrix product, of 64 MB."""


class Comparison(Protocol):
    """M images and N texts under one similarity; ``direction`` is ``i2t`` (image queries) or ``t2i`` (text queries)."""

    def ranks(
        self,
        direction: str,
        query_ids: Tensor | None = None,
        gallery_ids: Tensor | None = None,
        chunk: int | None = None,
    ) -> Tensor:
        """The rank of every query's best positive, see :func:`e2fashion.metrics.ranking.ranks`."""
        ...

    def ranks_among(self, direction: str, queries: Tensor, candidates: Tensor) -> Tensor:
        """Ranks among candidates, see :func:`e2fashion.metrics.ranking.ranks_among`; ``queries`` (Q,) are rows."""
        ...

    def scores(self, direction: str, query: int) -> Tensor:
        """Scores of the whole gallery for one query row: (M,) or (N,)."""
        ...


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
    return TokenComparison(image_embeds, text_embeds) if all(tokenwise) else VectorComparison(image_embeds, text_embeds)


class VectorComparison:
    """Inner products of images (M, C) and texts (N, C)."""

    def __init__(self, image: Tensor, text: Tensor) -> None:
        self.sides = {"i2t": (image, text), "t2i": (text, image)}

    def ranks(
        self,
        direction: str,
        query_ids: Tensor | None = None,
        gallery_ids: Tensor | None = None,
        chunk: int | None = None,
    ) -> Tensor:
        """See :class:`Comparison`."""
        return ranks(*self.sides[direction], query_ids, gallery_ids, chunk)

    def ranks_among(self, direction: str, queries: Tensor, candidates: Tensor) -> Tensor:
        """See :class:`Comparison`."""
        query, gallery = self.sides[direction]
        return ranks_among(query[queries], gallery, candidates)

    def scores(self, direction: str, query: int) -> Tensor:
        """See :class:`Comparison`."""
        queries, gallery = self.sides[direction]
        return gallery @ queries[query]


class TokenComparison:
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
        return {
            "i2t": i2t[image.index][:, text.index],
            "t2i": t2i[text.index][:, image.index],
        }

    def ranks(
        self,
        direction: str,
        query_ids: Tensor | None = None,
        gallery_ids: Tensor | None = None,
        chunk: int | None = None,
    ) -> Tensor:
        """See :class:`Comparison`."""
        scores = self.matrices[direction]
        shape = scores.shape[0], scores.shape[1]
        return ranks_by(lambda rows: scores[rows].clone(), shape, query_ids, gallery_ids, scores.device, chunk)

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
