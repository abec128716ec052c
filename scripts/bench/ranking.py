"""Ranks of all queries against the matrix products that they are read from."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from e2fashion.metrics.ranking import ranks
from scripts.bench.report import Result
from scripts.bench.timing import interleave
from scripts.bench.workplace import Workplace

TARGET = 3.0
PRODUCTS = 7_519
JOINT_DIMENSION = 512
ROWS_AT_ONCE = 4_096


def embeddings(count: int, dimension: int = JOINT_DIMENSION) -> tuple[Tensor, Tensor]:
    """Normalised images (N, C) and texts (N, C) that resemble them."""
    generator = torch.Generator().manual_seed(0)
    image, text = torch.empty(count, dimension), torch.empty(count, dimension)
    for first in range(0, count, ROWS_AT_ONCE):  # piece by piece: no temporary of the full size blurs the memory
        rows = slice(first, first + ROWS_AT_ONCE)
        drawn = torch.randn(2, len(image[rows]), dimension, generator=generator)
        image[rows] = F.normalize(drawn[0], dim=-1)
        text[rows] = F.normalize(drawn[0] + 2 * drawn[1], dim=-1)
    return image, text


def both_directions(image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    """Ranks image to text and text to image, (N,) each."""
    return ranks(image, text), ranks(text, image)


def bare_products(image: Tensor, text: Tensor) -> None:
    """The two matrix products alone, (N, N) each, one let go before the next."""
    image @ text.T
    text @ image.T


def run(workplace: Workplace) -> list[Result]:
    """Time both directions."""
    image, text = embeddings(PRODUCTS)
    timing = interleave(
        {"ranks": lambda: both_directions(image, text), "matmul": lambda: bare_products(image, text)},
        2 * workplace.turns,
    )
    ratio = timing.ratio("ranks", "matmul")
    return [
        Result(
            "ranks",
            f"{PRODUCTS:,} x {PRODUCTS:,}, both directions / bare matmul",
            f"at most {TARGET:.0f} x",
            f"{ratio:.2f} x ({timing.spread('ranks', 'matmul')})",
            ratio <= TARGET,
            f"C = {JOINT_DIMENSION}, fp32, one product per direction in both arms; "
            f"matmul {timing.median('matmul'):.2f} s, ranks {timing.median('ranks'):.2f} s",
        )
    ]
