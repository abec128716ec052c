"""Two or more ways to do the same, timed in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

Arm = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Wall seconds of every run by arm; run i of all arms happened in one turn."""

    seconds: Mapping[str, list[float]]

    def median(self, arm: str) -> float:
        """Median seconds of one run."""
        return statistics.median(self.seconds[arm])

    def ratio(self, slow: str, fast: str) -> float:
        """Median over turns of the quotient of their seconds: what slows a whole turn down cancels out."""
        return statistics.median(a / b for a, b in zip(self.seconds[slow], self.seconds[fast], strict=True))

    def spread(self, slow: str, fast: str) -> str:
        """The smallest and the largest quotient of a turn."""
        quotients = [a / b for a, b in zip(self.seconds[slow], self.seconds[fast], strict=True)]
        return f"{min(quotients):.2f} to {max(quotients):.2f}"


def interleave(arms: Mapping[str, Arm], turns: int, warmup: int = 1) -> Timing:
    """Run A B A B ...: every arm once a turn, in the given order, after ``warmup`` turns that are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(-warmup, turns):
        for name, arm in arms.items():
            start = time.perf_counter()
            arm()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    return Timing(seconds)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """PyTorch on ``number`` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
