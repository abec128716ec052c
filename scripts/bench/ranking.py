"""Ranks of all queries against the matrix products that they are computed from, and the memory that ranking takes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from e2fashion.metrics.ranking import compare as compare_tokens
from e2fashion.metrics.ranking import ranks
from scripts.bench.harness import Context, Result, compare, extra_memory, in_fresh_process, interleave

TARGET = 3.0
PRODUCTS, JOINT_DIMENSION = 7_519, 512
ROWS_AT_ONCE = 4_096

MEMORY_ITEMS, MEMORY_TARGET_MB = 100_000, 1_000

# Of kagl_pretrained_filip_ft: 112 px in patches of 16, texts of up to 48 tokens, joint width 192. All products at once
# would be 38 GB (ViT-B/32 at 77 tokens: 60 GB, and four times the arithmetic for the same claim).
FILIP_ITEMS, FILIP_TARGET_MB = 2_000, 2_000
PATCHES, TOKENS, SHORTEST, FILIP_DIMENSION = 49, 48, 20, 192
ITEMS_AT_ONCE = 100


def embeddings(count: int, dimension: int = JOINT_DIMENSION) -> tuple[Tensor, Tensor]:
    """Normalized images (N, C) and texts (N, C) that resemble them."""
    generator = torch.Generator().manual_seed(0)
    image, text = torch.empty(count, dimension), torch.empty(count, dimension)
    for first in range(0, count, ROWS_AT_ONCE):  # in pieces: no temporary of the full size blurs the memory
        rows = slice(first, first + ROWS_AT_ONCE)
        drawn = torch.randn(2, len(image[rows]), dimension, generator=generator)
        image[rows] = F.normalize(drawn[0], dim=-1)
        text[rows] = F.normalize(drawn[0] + 2 * drawn[1], dim=-1)
    return image, text


def both_directions(image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    """Ranks image to text and text to image, (N,) each."""
    return ranks(image, text), ranks(text, image)


def bare_products(image: Tensor, text: Tensor) -> None:
    """The two matrix products alone, (N, N) each, one freed before the next."""
    image @ text.T
    text @ image.T


def ranking(context: Context) -> list[Result]:
    """Time both directions."""
    image, text = embeddings(PRODUCTS)
    variants = {"ranks": lambda: both_directions(image, text), "matmul": lambda: bare_products(image, text)}
    timing = interleave(variants, 2 * context.turns)
    claim = f"{PRODUCTS:,} x {PRODUCTS:,}, both directions / bare matmul"
    detail = (
        f"C = {JOINT_DIMENSION}, fp32, one product per direction in both variants; "
        f"matmul {timing.median('matmul'):.2f} s, ranks {timing.median('ranks'):.2f} s"
    )
    return [compare("ranks", claim, timing, ("ranks", "matmul"), detail, at_most=TARGET)]


def measure_ranks(queries: int, items: int) -> dict[str, float]:
    """Rank ``queries`` of ``items`` products in both directions: ``seconds`` and ``extra_mb``."""
    image, text = embeddings(items)
    ids = torch.arange(items)
    directions = ((image, text), (text, image))
    return extra_memory(lambda: [ranks(ours[:queries], theirs, ids[:queries], ids) for ours, theirs in directions])


def ranking_memory(context: Context) -> list[Result]:
    """The memory of ranks among 100,000 items."""
    items, queries = MEMORY_ITEMS, min(context.queries, MEMORY_ITEMS)
    measured = in_fresh_process(measure_ranks, queries, items)
    part = "all" if queries == items else f"the first {queries:,}"
    detail = (
        f"C = {JOINT_DIMENSION}; {part} of {items:,} queries of each direction against all items, in the chunks "
        f"of a full ranking (queries={items} measures that), {measured['seconds']:.1f} s"
    )
    return [_memory("ranks, memory", f"{items:,} x {items:,}", measured, MEMORY_TARGET_MB, detail)]


def token_embeddings(items: int, length: int, shortest: int, seed: int) -> Tensor:
    """Normalized tokens (N, length, C), between ``shortest`` and ``length`` an item, zeros behind them."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(shortest, length + 1, (items,), generator=generator)
    real = torch.arange(length) < lengths[:, None]
    result = torch.empty(items, length, FILIP_DIMENSION)
    for first in range(0, items, ITEMS_AT_ONCE):
        rows = slice(first, first + ITEMS_AT_ONCE)
        result[rows].normal_(generator=generator)
        result[rows] = F.normalize(result[rows], dim=-1) * real[rows, :, None]
    return result


def measure_tokens(items: int, length: int) -> dict[str, float]:
    """Rank images and texts of up to ``length`` tokens by FILIP in both directions: ``seconds`` and ``extra_mb``."""
    image = token_embeddings(items, PATCHES, PATCHES, seed=0)
    text = token_embeddings(items, length, min(SHORTEST, length), seed=1)

    def rank() -> None:
        compared = compare_tokens(image, text)
        compared.ranks("i2t")
        compared.ranks("t2i")

    return extra_memory(rank)


def filip_memory(context: Context) -> list[Result]:
    """The memory of retrieval by tokens."""
    items = min(context.queries, FILIP_ITEMS)
    measured = in_fresh_process(measure_tokens, items, TOKENS)
    detail = (
        f"shape of kagl_pretrained_filip_ft: C = {FILIP_DIMENSION}, fp32; {PATCHES} patches against {SHORTEST} to "
        f"{TOKENS} tokens; {measured['seconds']:.0f} s"
    )
    claim = f"{items:,} x {items:,}, both directions"
    return [_memory("FILIP retrieval, memory", claim, measured, FILIP_TARGET_MB, detail)]


def _memory(benchmark: str, claim: str, measured: dict[str, float], target: int, detail: str) -> Result:
    extra = measured["extra_mb"]
    return Result(benchmark, claim, f"under {target:,} MB more", f"{extra:.0f} MB", extra < target, detail)
