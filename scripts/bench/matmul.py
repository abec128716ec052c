"""The share of a bare matrix product's speed that a training step of the quickstart's E2 reaches on this processor."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from e2fashion.config import load_config
from e2fashion.training.build import resolve_arithmetic
from e2fashion.training.config import RunConfig
from scripts.bench.report import Result
from scripts.bench.timing import Timing
from scripts.bench.training_loop import Loops
from scripts.bench.workplace import Workplace

TARGET = 0.80
QUICKSTART_E2 = Path("configs/run/quickstart_e2.yaml")
SHAPE = (3584, 128, 512)
"""Of the step's largest product: the tokens of 64 images through the first linear map of an MLP."""
REPEATS = 20


def bare_product(shape: tuple[int, int, int] = SHAPE) -> float:
    """Floating-point operations a second of one fp32 product whose operands lie in the cache."""
    rows, inner, columns = shape
    left, right, out = torch.randn(rows, inner), torch.randn(inner, columns), torch.empty(rows, columns)
    torch.mm(left, right, out=out)
    started = time.perf_counter()
    for _ in range(REPEATS):
        torch.mm(left, right, out=out)
    return REPEATS * 2 * rows * inner * columns / (time.perf_counter() - started)


def run(workplace: Workplace) -> list[Result]:
    """Time epochs of steps and bare products in turns; in fp32, whatever the processor has."""
    products = workplace.products()
    words = [f"data={products.catalogue.path}", "accelerator=cpu", "train.precision=fp32"]
    config, _ = resolve_arithmetic(load_config(RunConfig, QUICKSTART_E2, [*words, f"text.template='{products.text}'"]))
    loops = Loops(config, products, workplace.folder)
    with FlopCounterMode(display=False) as counter:
        loops.bare()
    # The clock of the bare loop starts behind the first step.
    operations = counter.get_total_flops() * (1 - 1 / len(loops.batches))
    seconds: dict[str, list[float]] = {"step": [], "product": []}
    for _ in range(workplace.turns):
        seconds["step"].append(loops.bare()[0])
        seconds["product"].append(operations / bare_product())
    timing = Timing(seconds)
    share = timing.ratio("product", "step")
    threads = torch.get_num_threads()
    rates = {name: operations / timing.median(name) / threads / 1e9 for name in seconds}
    return [
        Result(
            "training step",
            "quickstart's E2, share of a bare product's speed",
            f"at least {TARGET:.0%}",
            f"{share:.0%} ({timing.spread('product', 'step')})",
            share >= TARGET,
            f"{QUICKSTART_E2.name} (batch {config.loader.batch_size}, {config.image.size} px, fp32), "
            f"{len(loops.batches) - 1} steps of {products.origin}; {rates['step']:.0f} of {rates['product']:.0f} GF/s "
            f"per thread; the product is {' x '.join(map(str, SHAPE))}",
        )
    ]
