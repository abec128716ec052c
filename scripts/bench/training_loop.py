"""The Lightning fit, with everything that a run hangs into it, against a bare loop over the same steps."""

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
from e2fashion.training.optimizers import build_optimizer
from e2fashion.training.schedules import cosine_with_warmup
from e2fashion.types import Batch
from scripts.bench.report import Result
from scripts.bench.timing import Timing
from scripts.bench.workplace import Products, Workplace

TARGET = 0.90
KAGL_SMALL_E2 = Path("configs/run/kagl_small_e2.yaml")


class StepClock(pl.Callback):
    """Seconds from the end of the first batch to the end of the epoch's last one: loader, step and callbacks."""

    def __init__(self) -> None:
        self.first = self.last = 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the time."""
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
        # Reading every batch once also fills the cache of pictures, as a run's first epoch does.
        self.batches: list[Batch] = list(self.data.loader("train", train=True))

    def fitted(self) -> tuple[float, torch.nn.Module]:
        """Seconds of a fit's steps (without the first), and the weights at its end."""
        module, clock = self._module(), StepClock()
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
        module = self._module()
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

    def _module(self) -> ContrastiveModule:
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


def run(workplace: Workplace) -> list[Result]:
    """Train epochs in turns, fit and bare."""
    products = workplace.products()
    config = small_config(products, [])
    loops = Loops(config, products, workplace.folder)
    seconds: dict[str, list[float]] = {"bare": [], "fit": []}
    for turn in range(-1, max(1, workplace.turns // 2 + 1)):
        for name, arm in (("bare", loops.bare), ("fit", loops.fitted)):
            duration, _ = arm()
            if turn >= 0:
                seconds[name].append(duration)
    timing = Timing(seconds)
    share = timing.ratio("bare", "fit")
    steps = len(loops.batches) - 1
    rate = {name: steps * config.loader.batch_size / timing.median(name) for name in seconds}
    return [
        Result(
            "training loop",
            "fit's throughput / bare step's",
            f"at least {TARGET:.0%}",
            f"{share:.1%} ({timing.spread('bare', 'fit')})",
            share >= TARGET,
            f"kagl_small_e2.yaml (batch {config.loader.batch_size}, {config.image.size} px, {config.train.precision}), "
            f"{steps} steps of {products.origin}; the fit loads its batches (pictures cached), logs, shows progress; "
            f"the bare loop has them ready; {rate['fit']:.0f} and {rate['bare']:.0f} images/s",
        )
    ]
