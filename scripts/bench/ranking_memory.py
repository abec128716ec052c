"""Peak memory of ranks among 100,000 items, in a process of its own: ``-m scripts.bench.ranking_memory Q N``."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import torch

from e2fashion.metrics.ranking import ranks
from e2fashion.types import E2FashionError
from scripts.bench.ranking import JOINT_DIMENSION, embeddings
from scripts.bench.report import Result
from scripts.bench.workplace import Workplace

TARGET_MB = 1_000
ITEMS = 100_000


def measure(queries: int, items: int) -> dict[str, float]:
    """Rank ``queries`` of ``items`` products in both directions: ``seconds``, and ``extra_mb``.

    That is the peak of the process less what was resident when ranking began. A peak from before it counts too, which
    makes the number an upper bound.
    """
    image, text = embeddings(items)
    ids = torch.arange(items)
    before, start = memory_mb("VmRSS"), time.perf_counter()
    ranks(image[:queries], text, ids[:queries], ids)
    ranks(text[:queries], image, ids[:queries], ids)
    return {"extra_mb": memory_mb("VmHWM") - before, "seconds": time.perf_counter() - start}


def memory_mb(entry: str) -> float:
    """Resident memory of this process in MB (10^6 bytes): ``VmRSS`` now, ``VmHWM`` at its peak. Linux only.

    Not ``ru_maxrss``: a process inherits the peak of the one that started it.
    """
    listing = Path("/proc/self/status")
    if not listing.is_file():
        raise E2FashionError(f"The memory benchmark reads {listing}, which this system lacks: run it on Linux.")
    lines = listing.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{entry}:"))


def run(workplace: Workplace) -> list[Result]:
    """Measure in a fresh process."""
    queries = min(workplace.queries, ITEMS)
    command = [sys.executable, "-m", "scripts.bench.ranking_memory", str(queries), str(ITEMS)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    part = "all" if queries == ITEMS else f"the first {queries:,}"
    return [
        Result(
            "ranks, memory",
            f"{ITEMS:,} x {ITEMS:,}",
            f"under {TARGET_MB:,} MB more",
            f"{found['extra_mb']:.0f} MB",
            found["extra_mb"] < TARGET_MB,
            f"C = {JOINT_DIMENSION}; {part} of {ITEMS:,} queries of each direction against all items, in the chunks "
            f"of a full ranking (queries={ITEMS} measures that), {found['seconds']:.1f} s",
        )
    ]


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))))
