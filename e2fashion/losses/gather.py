"""Differentiable collectives: the rows of all ranks on every rank, and a sum over ranks."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from e2fashion.types import E2FashionError


class _AllGather(torch.autograd.Function):
    """Stack equal shapes of all ranks; the gradient of a rank's part is the sum over all ranks."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        parts = [torch.empty_like(local) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, local.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # gloo has no reduce-scatter: sum everything, keep this rank's part.
        gradient = gradients[0].contiguous()
        dist.all_reduce(gradient)
        return gradient[dist.get_rank()]


class _AllSum(torch.autograd.Function):
    """Sum over ranks, forward and backward: the sum of all ranks' copies of the result is minimized.

    DDP divides by the number of ranks, so that parameters get the gradient of one copy.
    """

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        total = local.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].clone()
        dist.all_reduce(gradient)
        return gradient


def is_distributed() -> bool:
    """Whether several processes train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def this_rank() -> int:
    """Rank of this process."""
    return dist.get_rank()


def largest_over_ranks(number: int, device: torch.device) -> int:
    """The largest ``number`` of all ranks."""
    largest = torch.tensor(number, device=device)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)


def row_counts(local: Tensor) -> list[int]:
    """The number of rows of ``local`` on every rank.

    Raises:
        E2FashionError: shapes differ behind the first dimension (on all ranks, since gathering them would hang).
    """
    shape = torch.tensor(local.shape, dtype=torch.int64, device=local.device)
    shapes = [torch.empty_like(shape) for _ in range(dist.get_world_size())]
    dist.all_gather(shapes, shape)
    listed = torch.stack(shapes).tolist()
    if any(item[1:] != listed[0][1:] for item in listed):
        raise E2FashionError(
            f"the ranks have embeddings of different shapes {listed}: "
            "give every process the same entities and joint dimension"
        )
    return [item[0] for item in listed]


def gather_rows(local: Tensor, counts: list[int]) -> Tensor:
    """The rows of all ranks in the order of ranks: (B_rank, ...) -> (sum of counts, ...), with gradient.

    Ranks may have different numbers of rows (the last batch of an epoch); padding is removed again.
    """
    longest = max(counts)
    padding = [0, 0] * (local.dim() - 1) + [0, longest - local.shape[0]]
    stacked = _AllGather.apply(F.pad(local, padding) if padding[-1] else local)
    if min(counts) == longest:
        return stacked.flatten(0, 1)
    return torch.cat([stacked[rank, :count] for rank, count in enumerate(counts)])


def mean_over_ranks(losses: Tensor, counted: Tensor) -> Tensor:
    """The mean () of the ``losses`` (B,) of the products of all ranks that are ``counted`` (B,) bool, with gradient.

    It is the same on every rank, and zero if none is counted.
    """
    total, number = losses.masked_fill(~counted, 0.0).sum(), counted.sum()
    if is_distributed():
        total, number = sum_over_ranks(total), sum_over_ranks(number)
    return total / number.clamp(min=1)


def sum_over_ranks(local: Tensor) -> Tensor:
    """The sum of ``local`` over ranks, the same on each of them, with gradient."""
    result: Tensor = _AllSum.apply(local)
    return result
