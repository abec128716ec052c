"""InfoNCE and the sigmoid loss of pairs, with absent members and with several positives per row."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MINIMUM_PRESENT = 2
"""With fewer members there are no negatives: the term is zero and left out of the mean."""


def info_nce(
    a: Tensor,
    b: Tensor,
    logit_scale: Tensor,
    present: Tensor | None = None,
    value: Tensor | None = None,
    *,
    joint: tuple[Tensor, Tensor] | None = None,
    first: int = 0,
) -> Tensor:
    """Mean of the cross-entropies a -> b and b -> a over the members that are present.

    ``a`` and ``b`` (..., B, C) are L2-normalized and row i of one belongs to row i of the other; ``logit_scale``
    () is the logarithm of the inverse temperature. Leading dimensions are independent problems: the result has
    shape (...). Computed in fp32, also under autocast.

    ``present`` (..., B) bool: a member that is False leaves the rows and the columns, and gets a gradient of
    exactly zero, whatever its embeddings are. With fewer than two present members the result and its gradients
    are exactly zero; :func:`count_present` distinguishes this from a perfect loss.

    ``value`` (..., B) int64: present members of equal value are positives of each other. The target of a row is
    uniform over its positives, so that its term is ``logsumexp(logits) - mean(logits of the positives)``. It
    equals the diagonal loss when all values differ; with n positives it cannot fall below ln n. (Diagonal: CLIP
    and the official E2 code. Equal values: ours, the form of SupCon's L_out.) Where members of equal value have equal
    ``b``, as tags with one text each, both losses and their gradients are equal: equal logits have equal terms.

    With ``joint`` the result is the share of R consecutive members in the loss of all N; the shares of all ranks sum to
    it. ``a`` and ``b`` (..., R, C) are then members ``first`` to ``first + R`` of the two tensors (..., N, C) in
    ``joint``; ``present`` and ``value`` (..., N) refer to all N.
    """
    with torch.autocast(device_type=a.device.type, enabled=False):
        present = _all_present(a, joint) if present is None else present
        a_to_b = _logits(a, b, logit_scale, None if joint is None else joint[1], first, present)
        b_to_a = a_to_b.mT if joint is None else _logits(b, a, logit_scale, joint[0], first, present)
        return _share(a_to_b, b_to_a, present, value, first)


def sigmoid_share(
    a: Tensor,
    b: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    joint: tuple[Tensor, Tensor] | None = None,
    first: int = 0,
    present: Tensor | None = None,
    value: Tensor | None = None,
) -> Tensor:
    """SigLIP's loss in place of :func:`info_nce`, with the same arguments and ``logit_bias`` ().

    Every pair of an ``a`` and a ``b`` is classified on its own as match or not: the loss is the sum of
    ``-log sigmoid(+- (scale * a . b + bias))`` over all pairs of present members, divided by their number (Zhai et al.,
    ICCV 2023). Matches are the diagonal, or all pairs of equal ``value`` (ours). As in InfoNCE, a problem with fewer
    than two members is zero.
    """
    with torch.autocast(device_type=a.device.type, enabled=False):
        present = _all_present(a, joint) if present is None else present
        logits = _logits(a, b, logit_scale, None if joint is None else joint[1], first, present)
        return sigmoid_of_logits(logits + logit_bias.float(), present, value, first)


def info_nce_of_logits(a_to_b: Tensor, b_to_a: Tensor, first: int = 0, value: Tensor | None = None) -> Tensor:
    """:func:`info_nce` for given similarities, every member present.

    ``a_to_b`` and ``b_to_a`` (R, N): logits, the temperature applied, of members ``first`` to ``first + R`` against all
    N; ``value`` (N,) as there. Returns ().
    """
    with torch.autocast(device_type=a_to_b.device.type, enabled=False):
        present = torch.ones(a_to_b.shape[-1], dtype=torch.bool, device=a_to_b.device)
        return _share(a_to_b.float(), b_to_a.float(), present, value, first)


def sigmoid_of_logits(
    logits: Tensor, present: Tensor | None = None, value: Tensor | None = None, first: int = 0
) -> Tensor:
    """:func:`sigmoid_share` for given ``logits`` (..., R, N), temperature and bias applied: (...)."""
    with torch.autocast(device_type=logits.device.type, enabled=False):
        if present is None:
            present = torch.ones(logits.shape[-1], dtype=torch.bool, device=logits.device)
        rows = slice(first, first + logits.shape[-2])
        if value is None:
            match = torch.eye(logits.shape[-1], dtype=torch.bool, device=logits.device)[rows]
        else:
            match = value[..., rows, None] == value.unsqueeze(-2)
        losses = F.softplus(torch.where(match, -logits.float(), logits.float()))
        both_present = present[..., rows, None] & present.unsqueeze(-2)
        number = count_present(present)
        share = losses.masked_fill(~both_present, 0.0).sum((-1, -2)) / number.clamp(min=1)
        return torch.where(number >= MINIMUM_PRESENT, share, torch.zeros_like(share))


def _all_present(a: Tensor, joint: tuple[Tensor, Tensor] | None) -> Tensor:
    members = a if joint is None else joint[0]
    return torch.ones(members.shape[:-1], dtype=torch.bool, device=a.device)


def _logits(
    rows: Tensor, columns: Tensor, logit_scale: Tensor, joint: Tensor | None, first: int, present: Tensor
) -> Tensor:
    """Scaled products (..., R, N) of ``rows`` with ``joint`` (None: ``columns``), zero where a member is absent."""
    local = present[..., first : first + rows.shape[-2]]
    others = _blank(columns, local) if joint is None else _blank(joint, present)
    return logit_scale.float().exp() * (_blank(rows, local) @ others.mT)


def _share(a_to_b: Tensor, b_to_a: Tensor, present: Tensor, value: Tensor | None, first: int) -> Tensor:
    """Both directions' logits (..., R, N) to the contribution of these rows to the loss of all N: (...)."""
    total = _row_terms(a_to_b, present, value, first) + _row_terms(b_to_a, present, value, first)
    number = count_present(present)
    share = total.sum(-1) / (2 * number.clamp(min=1))
    return torch.where(number >= MINIMUM_PRESENT, share, torch.zeros_like(share))


def count_present(present: Tensor) -> Tensor:
    """Number of members of each problem: ``present`` (..., B) bool -> (...) int64."""
    return present.sum(-1)


def _blank(embeds: Tensor, present: Tensor) -> Tensor:
    # Set to zero before the product: 0 * NaN would spread an absent member's NaN to all gradients.
    return embeds.float().masked_fill(~present.unsqueeze(-1), 0.0)


def _row_terms(logits: Tensor, present: Tensor, value: Tensor | None, first: int) -> Tensor:
    """Cross-entropy of each row, zero where the row is absent: ``logits`` (..., R, N) -> (..., R)."""
    row_present = present[..., first : first + logits.shape[-2]]
    # A problem without members keeps its columns: logsumexp over an empty set has a NaN gradient.
    column_present = present | ~present.any(-1, keepdim=True)
    normalizer = logits.masked_fill(~column_present.unsqueeze(-2), -torch.inf).logsumexp(-1)
    if value is None:
        positive = logits.diagonal(offset=first, dim1=-2, dim2=-1)
    else:
        row_value = value[..., first : first + logits.shape[-2]]
        same = (row_value.unsqueeze(-1) == value.unsqueeze(-2)) & present.unsqueeze(-2)
        positive = (logits * same).sum(-1) / same.sum(-1).clamp(min=1)
    return torch.where(row_present, normalizer - positive, torch.zeros_like(normalizer))
