"""The final scores of rows that a first pass has found: inner products in fp64, equal ones in a stated order."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange, repeat
from torch import Tensor

from e2fashion.tasks.search.gallery import Gallery

RESCORED_BYTES = 32 * 2**20


def rescore(query: Tensor, gallery: Gallery, places: Tensor, tie: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Inner products in fp64 of queries (Q, C) with their own rows (Q, K), best first: scores and places (Q, K).

    Equal scores stand in the order of ``tie`` (N,), by default of the rows.
    """
    asks = repeat(torch.arange(len(query)), "q -> (q k)", k=places.shape[1])
    exact = rearrange(pair_scores(query, gallery, asks, places.flatten()), "(q k) -> q k", q=len(query))
    second = places if tie is None else tie[places]
    order = torch.from_numpy(np.lexsort((second.numpy(), -exact.numpy()), axis=1))
    return exact.gather(1, order), places.gather(1, order)


def best_of_pairs(
    query: Tensor, gallery: Gallery, pairs: tuple[Tensor, Tensor], kept: int, tie: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The ``kept`` best rows of each query among its own pairs, best first: scores and places (Q, kept), as `rescore`.

    ``pairs`` are numbers of queries and of rows, (P,) int64 each; every query (Q, C) has ``kept`` of them or more.
    """
    asks, places = pairs
    exact = pair_scores(query, gallery, asks, places)
    second = places if tie is None else tie[places]
    order = torch.from_numpy(np.lexsort((second.numpy(), -exact.numpy(), asks.numpy())))
    firsts = torch.searchsorted(asks[order], torch.arange(len(query)))
    chosen = order[firsts[:, None] + torch.arange(kept)]
    return exact[chosen], places[chosen]


def pair_scores(query: Tensor, gallery: Gallery, asks: Tensor, places: Tensor) -> Tensor:
    """Inner products (P,) fp64 of queries ``asks`` (P,) with rows ``places`` (P,), wherever a row lies the same."""
    exact = torch.empty(len(places), dtype=torch.float64)
    at_once = max(1, RESCORED_BYTES // (16 * query.shape[1]))
    for start in range(0, len(places), at_once):
        own = slice(start, start + at_once)
        exact[own] = (gallery.rows(places[own]).double() * query[asks[own]].double()).sum(-1)
    return exact
