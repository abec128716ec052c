"""Peak memory of retrieval by tokens (FILIP), in a process of its own: ``-m scripts.bench.filip_memory N L``."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from e2fashion.metrics.comparison import compare
from scripts.bench.ranking_memory import memory_mb
from scripts.bench.report import Result
from scripts.bench.workplace import Workplace

TARGET_MB = 2_000
ITEMS = 2_000
# Of kagl_pretrained_filip_ft: 112 px in patches of 16, texts of up to 48 tokens, joint width 192. All products at once
# would be 38 GB (ViT-B/32 at 77 tokens: 60 GB, and four times the arithmetic for the same claim).
PATCHES = 49
TOKENS = 48
DIMENSION = 192
SHORTEST = 20
CHUNK = 100


def tokens(items: int, length: int, shortest: int, seed: int) -> Tensor:
    """Normalised tokens (N, length, C), of every item between ``shortest`` and ``length``, zeros behind them."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(shortest, length + 1, (items,), generator=generator)
    real = torch.arange(length) < lengths[:, None]
    result = torch.empty(items, length, DIMENSION)
    for first in range(0, items, CHUNK):  # piece by piece: no temporary of the full size blurs the memory
        rows = slice(first, first + CHUNK)
        result[rows].normal_(generator=generator)
        result[rows] = F.normalize(result[rows], dim=-1) * real[rows, :, None]
    return result


def measure(items: int, length: int) -> dict[str, float]:
    """Rank ``items`` images and texts of up to ``length`` tokens in both directions: ``seconds`` and ``extra_mb``.

    That is the peak of the process less what was resident when ranking began, the embeddings included.
    """
    image, text = tokens(items, PATCHES, PATCHES, seed=0), tokens(items, length, min(SHORTEST, length), seed=1)
    before, start = memory_mb("VmRSS"), time.perf_counter()
    compared = compare(image, text)
    compared.ranks("i2t")
    compared.ranks("t2i")
    return {"extra_mb": memory_mb("VmHWM") - before, "seconds": time.perf_counter() - start}


def run(workplace: Workplace) -> list[Result]:
    """Measure in a fresh process."""
    items = min(workplace.queries, ITEMS)
    command = [sys.executable, "-m", "scripts.bench.filip_memory", str(items), str(TOKENS)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return [
        Result(
            "FILIP retrieval, memory",
            f"{items:,} x {items:,}, both directions",
            f"under {TARGET_MB:,} MB more",
            f"{found['extra_mb']:.0f} MB",
            found["extra_mb"] < TARGET_MB,
            f"shape of kagl_pretrained_filip_ft: C = {DIMENSION}, fp32; {PATCHES} patches against {SHORTEST} to "
            f"{TOKENS} tokens; {found['seconds']:.0f} s",
        )
    ]


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))))
