"""Epochs of small runs: the Lightning fit against a bare loop, kinds of attention, and the speed of a bare product."""

from __future__ import annotations

import contextlib
import io
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.flop_counter import FlopCounterMode

from e2fashion.config import load_config
from e2fashion.data.datamodule import CatalogueDataModule
from e2fashion.training.build import (
    build_datamodule,
    build_loss,
    build_model,
    build_template,
    build_tokenizer,
    build_transform,
    resolve_arithmetic,
    training_texts,
)
from e2fashion.training.callbacks import BestModel
from e2fashion.training.config import RunConfig
from e2fashion.training.fit import fit_stage
from e2fashion.training.loggers import LogSettings, open_loggers
from e2fashion.training.module import ContrastiveModule
from e2fashion.training.optimization import build_optimizer, cosine_with_warmup
from e2fashion.types import Batch
from scripts.bench.harness import Context, Products, Result, Variant, compare, in_turns, interleave

LOOP_TARGET, MATMUL_TARGET = 0.90, 0.80
KAGL_SMALL_E2 = Path("configs/run/kagl_small_e2.yaml")
QUICKSTART_E2 = Path("configs/run/quickstart_e2.yaml")
CLIP = [
    "model.entities={sub_category: null, brand: null, season: null, article_type: null}",
    "model.fusion_layers=[]",
    "loss.region_weight=0.0",
]
SHAPE = (3584, 128, 512)
"""Of the step's largest product: the tokens of 64 images through the first linear map of an MLP."""
REPEATS = 20


class StepClock(pl.Callback):
    """Seconds from the end of the first batch to the end of the epoch's last one: loader, step and callbacks."""

    def __init__(self) -> None:
        self.first = self.last = 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the time."""
        if batch_idx == 0:
            self.first = time.perf_counter()
        self.last = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Of all batches but the first."""
        return self.last - self.first


class Loops:
    """Both ways to train one epoch, from the same weights on the same batches."""

    def __init__(self, config: RunConfig, products: Products, folder: Path) -> None:
        self.config = config
        self.folder = folder
        catalogue = products.catalogue
        template = build_template(config, catalogue)
        self.tokenizer = build_tokenizer(config, training_texts(config, catalogue, template))
        self.transform = build_transform(config)
        self.data: CatalogueDataModule = build_datamodule(config, catalogue, template, self.transform, self.tokenizer)
        self.stage = config.train.stages["main"]
        self.fits = 0
        # Reading every batch once also fills the cache of images, as a run's first epoch does.
        self.batches: list[Batch] = list(self.data.loader("train", train=True))

    def fitted(self) -> tuple[float, torch.nn.Module]:
        """Seconds of a fit's steps (without the first), and the weights at its end."""
        module, clock = self.module(), StepClock()
        self.fits += 1
        run = self.folder / f"fit-{self.fits}"
        assert self.stage is not None
        best = BestModel(run / "best", lambda folder: folder.mkdir(parents=True, exist_ok=True), "SumR")
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            open_loggers(LogSettings(("tensorboard",)), run / "logs", "main") as loggers,
        ):
            fit_stage(module, self.data, self.config.train, self.stage.epochs, run, "main", best, [clock], loggers)
        return clock.seconds, module.model

    def bare(self) -> tuple[float, torch.nn.Module]:
        """Seconds of the plain loop's steps (without the first), and the weights at its end."""
        module = self.module()
        optimizer = build_optimizer(module.model, module.config, module.learning_rate)
        schedule = LambdaLR(optimizer, cosine_with_warmup(module.config.warmup_steps, len(self.batches)))
        module.train()
        first = 0.0
        bf16 = self.config.train.precision == "bf16"
        for number, batch in enumerate(self.batches):
            batch = module.on_after_batch_transfer(replace(batch), 0)
            module.model.seed_selection_noise(number)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = module.compute_loss(batch).total
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if number == 0:
                first = time.perf_counter()
        return time.perf_counter() - first, module.model

    def module(self) -> ContrastiveModule:
        """The module with its first weights."""
        assert self.stage is not None
        torch.manual_seed(0)
        return ContrastiveModule(
            model=build_model(self.config, self.tokenizer),
            loss=build_loss(self.config),
            learning_rate=self.stage.learning_rate,
            config=self.config.train,
            transform=self.transform,
            nonfinite_report=self.folder / "nonfinite_batch.json",
        )


def small_config(products: Products, overrides: list[str]) -> RunConfig:
    """``kagl_small_e2.yaml`` for one epoch; on SynthFashion with the entities and the text that it has."""
    given = [f"data={products.catalogue.path}", "accelerator=cpu", "train.stages.main.epochs=1", *overrides]
    if "article_type" not in products.catalogue.tag_columns:
        given += [
            "model.entities.article_type=null",
            "model.entities.composition={tokens: 2}",
            f"text.template='{products.text}'",
        ]
    return resolve_arithmetic(load_config(RunConfig, KAGL_SMALL_E2, given))[0]


def training_loop(context: Context) -> list[Result]:
    """Time epochs of the fit and of the bare loop in turns."""
    products = context.products()
    config = small_config(products, [])
    loops = Loops(config, products, context.folder)
    timing = in_turns({"bare": lambda: loops.bare()[0], "fit": lambda: loops.fitted()[0]}, context.turns // 2 + 1)
    steps = len(loops.batches) - 1
    rate = {name: steps * config.loader.batch_size / timing.median(name) for name in timing.seconds}
    detail = (
        f"kagl_small_e2.yaml (batch {config.loader.batch_size}, {config.image.size} px, {config.train.precision}), "
        f"{steps} steps of {products.origin}; the fit loads its batches (images cached), logs, shows progress; "
        f"the bare loop has them ready; {rate['fit']:.0f} and {rate['bare']:.0f} images/s"
    )
    claim, pair = "fit's throughput / bare step's", ("bare", "fit")
    return [compare("training loop", claim, timing, pair, detail, at_least=LOOP_TARGET, percent=True)]


def attention(context: Context) -> list[Result]:
    """Steps of CLIP and of E2 with either attention (``model.attention``); there is no target."""
    products = context.products()
    results = []
    for name, overrides in (("CLIP", CLIP), ("E2", [])):
        variants: dict[str, Variant] = {}
        for kind in ("sdpa", "eager"):
            config = small_config(products, [*overrides, f"model.attention={kind}"])
            loops = Loops(config, products, context.folder)
            variants[kind] = loops.bare
        timing = interleave(variants, max(1, context.turns // 2))
        each = {kind: timing.median(kind) / len(loops.batches) for kind in variants}
        detail = (
            f"shape, batch and precision of kagl_small ({config.train.precision}); "
            f"sdpa {each['sdpa']:.2f} s, eager {each['eager']:.2f} s a step"
        )
        results.append(compare("attention", f"{name}, step with sdpa / eager", timing, ("sdpa", "eager"), detail))
    return results


def bare_product(shape: tuple[int, int, int] = SHAPE) -> float:
    """Floating-point operations a second of one fp32 product whose operands stay in the cache."""
    rows, inner, columns = shape
    left, right, out = torch.randn(rows, inner), torch.randn(inner, columns), torch.empty(rows, columns)
    torch.mm(left, right, out=out)
    started = time.perf_counter()
    for _ in range(REPEATS):
        torch.mm(left, right, out=out)
    return REPEATS * 2 * rows * inner * columns / (time.perf_counter() - started)


def matmul(context: Context) -> list[Result]:
    """The share of a bare product's speed that a step of the quickstart's E2 reaches; fp32 on every processor."""
    products = context.products()
    overrides = [f"data={products.catalogue.path}", "accelerator=cpu", "train.precision=fp32"]
    overrides += [f"text.template='{products.text}'"]
    config, _ = resolve_arithmetic(load_config(RunConfig, QUICKSTART_E2, overrides))
    loops = Loops(config, products, context.folder)
    with FlopCounterMode(display=False) as counter:
        loops.bare()
    # The clock of the bare loop starts behind the first step.
    operations = counter.get_total_flops() * (1 - 1 / len(loops.batches))
    variants = {"step": lambda: loops.bare()[0], "product": lambda: operations / bare_product()}
    timing = in_turns(variants, context.turns, warmup=0)
    threads = torch.get_num_threads()
    rates = {name: operations / timing.median(name) / threads / 1e9 for name in variants}
    detail = (
        f"{QUICKSTART_E2.name} (batch {config.loader.batch_size}, {config.image.size} px, fp32), "
        f"{len(loops.batches) - 1} steps of {products.origin}; {rates['step']:.0f} of {rates['product']:.0f} GF/s "
        f"per thread; the product is {' x '.join(map(str, SHAPE))}"
    )
    claim, pair = "quickstart's E2, share of a bare product's speed", ("product", "step")
    return [compare("training step", claim, timing, pair, detail, at_least=MATMUL_TARGET, percent=True)]
