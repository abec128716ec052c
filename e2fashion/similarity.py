"""Similarity of embeddings: the inner product of vectors, or token-wise late interaction (FILIP).

An item is one vector (C,) or T tokens (T, C), all L2-normalized. Items with fewer tokens are padded with zeros: a token
that is exactly zero is absent. The token-wise similarity of a query and a gallery item is the mean over the query's
tokens of the maximum over the item's tokens (Yao et al., ICLR 2022). It differs by direction; with one token each it is
the inner product.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from e2fashion.types import E2FashionError


def is_tokenwise(embeds: Tensor) -> bool:
    """Whether items are compared by their tokens, (N, T, C), and not by one vector, (N, C)."""
    return embeds.dim() == 3


def present_tokens(tokens: Tensor) -> Tensor:
    """Which tokens are present: (N, T, C) -> (N, T) bool."""
    return tokens.ne(0).any(-1)


def pad_tokens(tokens: Tensor, length: int) -> Tensor:
    """Pad items with zero tokens: (N, T, C) -> (N, length, C)."""
    return F.pad(tokens, (0, 0, 0, length - tokens.shape[1])) if tokens.shape[1] < length else tokens


def join_items(parts: list[Tensor]) -> Tensor:
    """Concatenate the items of several batches: (N_i, C), or (N_i, T_i, C) padded to the largest T_i."""
    if not is_tokenwise(parts[0]):
        return torch.cat(parts)
    length = max(part.shape[1] for part in parts)
    return torch.cat([pad_tokens(part, length) for part in parts])


def most_active(tokens: Tensor, others: Tensor, keep: float) -> Tensor:
    """The share ``keep`` of every item's tokens with the highest similarity to any token of ``others``, in order.

    ``tokens`` (N, T, C) against ``others`` (M, S, C) -> (N, ceil(keep * T), C), padded with zeros. FILIP keeps
    a quarter at large batch size; the tokens have a gradient, the choice has none.
    """
    if keep >= 1.0:
        return tokens
    present = present_tokens(tokens)
    kept = (present.sum(1) * keep).ceil().long()
    with torch.no_grad():
        flat = rearrange(_filled(others), "m s c -> c (m s)")
        activity = torch.stack([(item @ flat).amax(-1) for item in tokens]).masked_fill(~present, -torch.inf)
        order = activity.argsort(dim=1, descending=True, stable=True)[:, : max(1, int(kept.max()))]
        within = torch.arange(order.shape[1], device=order.device) < kept[:, None]
        # Tokens beyond an item's share are sorted to its end and set to zero there.
        order = order.masked_fill(~within, tokens.shape[1]).sort(dim=1).values
        within = order < tokens.shape[1]
    chosen = tokens.gather(1, order.clamp(max=tokens.shape[1] - 1)[..., None].expand(-1, -1, tokens.shape[-1]))
    return torch.where(within[..., None], chosen, torch.zeros_like(chosen))


def token_similarity(query: Tensor, gallery: Tensor) -> Tensor:
    """Mean over each query's tokens of the maximum over each item's: (Q, T, C) and (N, S, C) -> (Q, N) fp32.

    Computed in one piece, in the precision of the inputs: the products are (Q, T, N, S). For large galleries see
    :mod:`e2fashion.metrics.ranking`.
    """
    best = _Best.apply(_products(query, _filled(gallery)), False)[0]
    return _mean_over_own(best, query)


def token_similarities(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`token_similarity` in both directions from one matrix product: (M, N) and (N, M) fp32.

    ``one`` (M, T, C), ``other`` (N, S, C).
    """
    forth, back = _Best.apply(_products(_filled(one), _filled(other)), True)
    back = rearrange(back, "m n s -> n s m")
    return _mean_over_own(forth, one), _mean_over_own(back, other)


class _Best(torch.autograd.Function):
    """Maxima of (M, T, N, S) over S, and over T when ``both``: (M, T, N) and (M, N, S).

    The gradient goes to the maximum alone; one buffer for both directions costs half of autograd's two.
    """

    @staticmethod
    def forward(ctx: Any, products: Tensor, both: bool) -> tuple[Tensor, Tensor | None]:
        if not ctx.needs_input_grad[0]:
            return products.amax(-1), products.amax(1) if both else None
        forth, of_forth = products.max(-1)
        back, of_back = products.max(1) if both else (None, None)
        ctx.save_for_backward(of_forth, of_back)
        ctx.like = products.new_empty(0), products.shape
        return forth, back

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        of_forth, of_back = ctx.saved_tensors
        like, shape = ctx.like
        result = like.new_zeros(shape)
        result.scatter_(-1, of_forth[..., None], gradients[0][..., None])
        if of_back is not None:
            result.scatter_add_(1, of_back[:, None], gradients[1][:, None])
        return result, None


def _products(one: Tensor, other: Tensor) -> Tensor:
    """Inner products of all tokens, by one matrix product: (M, T, C) and (N, S, C) -> (M, T, N, S)."""
    if one.shape[-1] != other.shape[-1]:
        raise E2FashionError(
            f"tokens of shapes {tuple(one.shape)} and {tuple(other.shape)} have different widths: "
            "compare embeddings of one model"
        )
    flat = rearrange(one, "m t c -> (m t) c") @ rearrange(other, "n s c -> c (n s)")
    sizes = {"m": one.shape[0], "t": one.shape[1], "n": other.shape[0], "s": other.shape[1]}
    return rearrange(flat, "(m t) (n s) -> m t n s", **sizes)


def _filled(tokens: Tensor) -> Tensor:
    """Replace absent tokens by the item's first one, which changes no maximum and saves a mask over all products."""
    present = present_tokens(tokens)
    first = present.int().argmax(1)[:, None, None].expand(-1, 1, tokens.shape[-1])
    return torch.where(present[..., None], tokens, tokens.gather(1, first))


def _mean_over_own(best: Tensor, tokens: Tensor) -> Tensor:
    """(Q, T, N) over the tokens (Q, T, C) that are present: (Q, N) fp32."""
    present = present_tokens(tokens).float()
    weight = present / present.sum(1, keepdim=True).clamp(min=1)
    return (best.float() * weight[..., None]).sum(1)
