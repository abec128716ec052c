"""Learning-rate schedules as multipliers of the base rate, by step."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

logger = logging.getLogger(__name__)


def cosine_with_warmup(warmup_steps: int, total_steps: int) -> Callable[[int], float]:
    """Linear rise over ``warmup_steps``, then half a cosine down to zero at ``total_steps`` (official code).

    A warm-up longer than a tenth of a short run would leave nothing to train with, so it is cut there, and logged.
    """
    warmup = _warmup(warmup_steps, total_steps)

    def multiplier(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = (step - warmup) / max(1, total_steps - warmup)
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))

    return multiplier


def linear_with_warmup(warmup_steps: int, total_steps: int) -> Callable[[int], float]:
    """Linear rise over ``warmup_steps``, then a straight line down to zero at ``total_steps`` (DeCap, CapDec).

    The warm-up is cut to a tenth of a short run, as that of :func:`cosine_with_warmup`, and logged.
    """
    warmup = _warmup(warmup_steps, total_steps)

    def multiplier(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return max(0.0, 1.0 - (step - warmup) / max(1, total_steps - warmup))

    return multiplier


def _warmup(warmup_steps: int, total_steps: int) -> int:
    warmup = min(warmup_steps, max(1, total_steps // 10)) if warmup_steps else 0
    if warmup < warmup_steps:
        logger.info(
            "warm-up of %d steps instead of train.warmup_steps=%d: a tenth of the stage's %d steps",
            warmup,
            warmup_steps,
            total_steps,
        )
    return warmup
