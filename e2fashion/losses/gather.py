"""Gradient-carrying collectives: everybody's rows on every rank, and one sum over ranks."""

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
        # gloo has no reduce-scatter: sum everything, keep the own part.
        gradient = gradients[0].contiguous()
        dist.all_reduce(gradient)
        return gradient[dist.get_rank()]


class _AllSum(torch.autograd.Function):
    """Sum over ranks in both directions: what is minimized is the sum of every rank's copy of the result.

    DDP divides that by the number of ranks, so that parameters get the gradient of one copy.
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
    """Number of this process among all."""
    return dist.get_rank()


def largest_over_ranks(number: int, device: torch.device) -> int:
    """The largest ``number`` of all ranks."""
    found = torch.tensor(number, device=device)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return int(found)


def row_counts(local: Tensor) -> list[int]:
    """Rows of ``local`` on every rank, in the order of ranks.

    Raises E2FashionError on all ranks when the shapes behind the first dimension differ, which would hang.
    """
    shape = torch.tensor(local.shape, dtype=torch.int64, device=local.device)
    shapes = [torch.empty_like(shape) for _ in range(dist.get_world_size())]
    dist.all_gather(shapes, shape)
    found = torch.stack(shapes).tolist()
    if any(item[1:] != found[0][1:] for item in found):
        raise E2FashionError(
            f"the ranks hold embeddings of different shapes {found}: "
            "give every process the same entities and joint dimension"
        )
    return [item[0] for item in found]


def gather_rows(local: Tensor, counts: list[int]) -> Tensor:
    """The rows of all ranks in the order of ranks: (B_rank, ...) -> (sum of counts, ...), with gradient.

    Ranks may hold different numbers of rows (the last batch of an epoch): they are padded on the way only.
    """
    longest = max(counts)
    padding = [0, 0] * (local.dim() - 1) + [0, longest - local.shape[0]]
    stacked = _AllGather.apply(F.pad(local, padding) if padding[-1] else local)
    if min(counts) == longest:
        return stacked.flatten(0, 1)
    return torch.cat([stacked[rank, :count] for rank, count in enumerate(counts)])


def sum_over_ranks(local: Tensor) -> Tensor:
    """The sum of ``local`` over ranks, the same on each of them, with gradient."""
    result: Tensor = _AllSum.apply(local)
    return result
