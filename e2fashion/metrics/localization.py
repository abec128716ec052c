"""Localization metrics on patch grids: whether selected patches are on a true region, with exact chance levels.

An image is a grid of P patches in row-major order; a region is a union of boxes. A patch is *on* the region if the
region covers at least half as much of it as of the patch it covers most (:func:`patches_on_region`). For regions that
fill whole patches that means "at least half covered"; a logo smaller than a patch still has one or two patches. Ties in
a map count with their expected value under a random order, so that a flat map scores chance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from e2fashion.types import Box

#: Regions below this share of the image are small: chance is low for them, which makes pointing informative.
SMALL_REGION = 0.15


def patch_coverage(boxes: Sequence[Box], side: int) -> Tensor:
    """The exact share of every patch that the union of ``boxes`` covers: (P,) float64 with P = side * side."""
    # Cut at all edges of boxes and grid: each piece is in exactly one patch, and inside or outside of the union.
    lines = np.arange(side + 1) / side
    across = np.unique(np.concatenate([lines, [edge for box in boxes for edge in (box.left, box.right)]]))
    down = np.unique(np.concatenate([lines, [edge for box in boxes for edge in (box.top, box.bottom)]]))
    x, y = (across[1:] + across[:-1]) / 2, (down[1:] + down[:-1]) / 2
    covered = np.zeros((len(y), len(x)), dtype=bool)
    for box in boxes:
        covered |= ((y > box.top) & (y < box.bottom))[:, None] & ((x > box.left) & (x < box.right))
    area = covered * np.diff(down)[:, None] * np.diff(across)
    patch = (y * side).astype(np.int64)[:, None] * side + (x * side).astype(np.int64)
    return torch.from_numpy(np.bincount(patch.ravel(), area.ravel(), minlength=side * side) * side * side)


def patches_on_region(coverage: Tensor) -> Tensor:
    """Patches (..., P) bool that are on a region, from their :func:`patch_coverage` (..., P); none if it is 0."""
    best = coverage.amax(-1, keepdim=True)
    return (coverage > 0) & (coverage >= 0.5 * best - 1e-9)


def chance_share(on: Tensor) -> Tensor:
    """Expected share of uniformly random patches that are on the region: (N, P) bool to (N,).

    The same holds for patches drawn with and without replacement, and for a single one: the pointing game's chance.
    """
    return on.double().mean(-1)


def share_on_region(selected: Tensor, on: Tensor) -> Tensor:
    """Share of the selected patches (N, k) int64 that are on the region (N, P); a patch selected twice counts twice.

    -1 stands for no patch, which is on no region.
    """
    return (on.gather(-1, selected.clamp(min=0)) & (selected >= 0)).double().mean(-1)


def best_on_region(maps: Tensor, on: Tensor, count: int = 1) -> Tensor:
    """Share of the ``count`` highest patches of a map (N, P) that are on the region (N, P): (N,).

    ``count`` 1 is the pointing game.
    """
    counts = torch.full(maps.shape[:-1], count, device=maps.device)
    sure, tied, tied_on, free = _highest(maps, on, counts)
    return (sure + free * tied_on.double() / tied) / count


def best_iou(maps: Tensor, on: Tensor) -> Tensor:
    """IoU of the region's n patches (N, P) with the n highest of a map (N, P): (N,)."""
    size = on.sum(-1)
    return _expected_iou(size, *_highest(maps, on, size))


def chance_iou(on: Tensor) -> Tensor:
    """Expected :func:`best_iou` of n uniformly random patches: (N, P) bool to (N,)."""
    return best_iou(torch.zeros(on.shape, device=on.device), on)


def _highest(maps: Tensor, on: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The ``counts`` (N,) highest patches: those above ties and on the region, ties, ties on it, ties to draw."""
    last = counts.clamp(min=1)[..., None] - 1
    threshold = maps.sort(dim=-1, descending=True).values.gather(-1, last)
    above, equal = maps > threshold, maps == threshold
    sure = (above & on).sum(-1)
    return sure, equal.sum(-1), (equal & on).sum(-1), counts - above.sum(-1)


def _expected_iou(size: Tensor, sure: Tensor, tied: Tensor, tied_on: Tensor, free: Tensor) -> Tensor:
    """Mean of hits / (2 size - hits) where ``free`` of the ``tied`` patches are drawn: hits are hypergeometric."""
    hits = torch.arange(int(size.max()) + 1 if size.numel() else 1, dtype=torch.float64, device=size.device)
    sure, tied, tied_on, free, whole = (item.double()[..., None] for item in (sure, tied, tied_on, free, size))
    possible = (hits <= tied_on) & (hits <= free) & (free - hits <= tied - tied_on)
    logs = _log_choose(tied_on, hits) + _log_choose(tied - tied_on, free - hits) - _log_choose(tied, free)
    chance = torch.where(possible, logs.exp(), 0.0)
    return (chance * (sure + hits) / (2 * whole - sure - hits).clamp(min=1)).sum(-1)


def _log_choose(total: Tensor, chosen: Tensor) -> Tensor:
    total, chosen = total.clamp(min=0), chosen.clamp(min=0)
    rest = (total - chosen).clamp(min=0)
    return torch.lgamma(total + 1) - torch.lgamma(chosen + 1) - torch.lgamma(rest + 1)
