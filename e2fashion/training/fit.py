"""One stage of training as one Lightning fit that can be interrupted and resumed."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch.distributed as dist
from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from e2fashion.arithmetic import Precision, build_device, resolve_precision
from e2fashion.losses.gather import is_distributed
from e2fashion.options import FitConfig
from e2fashion.terminal import draws_bars
from e2fashion.training.callbacks import BestModel, ResumeCheckpoint, StageBar, Throughput
from e2fashion.training.resume import damage_of, last_checkpoint
from e2fashion.training.sharding import ShardedStrategy
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

LIGHTNING_PRECISION: dict[Precision, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "fp32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}

LOG_EVERY_STEPS = 10


@dataclass(frozen=True)
class Machine:
    """Kind of device, processes per machine, number of machines, and what each process keeps of the model."""

    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"

    def __str__(self) -> str:
        return f"accelerator={self.accelerator} with devices={self.devices}, nodes={self.nodes}"


def fit_stage(
    module: pl.LightningModule,
    data: pl.LightningDataModule,
    config: FitConfig,
    epochs: int,
    run_folder: Path,
    stage: str,
    best_model: BestModel,
    extra_callbacks: Sequence[pl.Callback] = (),
    loggers: Sequence[Logger] = (),
    machine: Machine = Machine(),
    progress: bool = True,
) -> None:
    """Fit one stage, from its last checkpoint if the run was interrupted; curves go to ``loggers``.

    Raises:
        RunInterruptedError: a signal; the checkpoint is saved.
        E2FashionError: the loss is not finite, or the machine lacks the accelerator or the number of devices.
    """
    checkpoint = last_checkpoint(run_folder, stage)
    callbacks: list[pl.Callback] = [
        best_model,
        Throughput(),
        *([LearningRateMonitor(logging_interval="step")] if loggers else []),
        ResumeCheckpoint(checkpoint, config.checkpoint_every_steps),
    ]
    callbacks += extra_callbacks
    if progress and draws_bars():
        callbacks.append(StageBar(stage))
    steps = len(data.train_dataloader()) // (machine.devices * machine.nodes)
    trainer = _trainer(
        machine,
        precision=_lightning_precision(config, machine),
        max_epochs=epochs,
        gradient_clip_val=config.gradient_clip,
        enable_progress_bar=progress and draws_bars(),
        callbacks=callbacks,
        log_every_n_steps=max(1, min(LOG_EVERY_STEPS, steps)),
        logger=list(loggers),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        deterministic="warn",
    )
    # A damaged checkpoint is moved aside by the first process; the others may be earlier and must ignore it as well.
    resume = checkpoint if checkpoint.is_file() and damage_of(checkpoint) is None else None
    if resume and trainer.is_global_zero:
        logger.info("stage %s resumes from %s", stage, resume)
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)


@contextmanager
def lost_process_reported() -> Iterator[None]:
    """One error in place of PyTorch's where another process of the run is gone.

    Raises:
        E2FashionError: another process was killed, failed, or lost its connection.
    """
    try:
        yield
    except RuntimeError as error:
        if not (is_distributed() and (isinstance(error, dist.DistError) or "gloo" in str(error))):
            raise
        reason = re.sub(r"^\[[^]]*\]\s*", "", str(error)).split(". ")[0].strip()  # without the file in gloo's code
        raise E2FashionError(
            f"Another process of the run has ended or does not answer ({reason}). Its own "
            "message says why, unless it was killed. Start all processes again with the same command, which goes on "
            "from the last checkpoint."
        ) from error


def _lightning_precision(config: FitConfig, machine: Machine) -> Literal["32-true", "bf16-mixed", "16-mixed"]:
    return LIGHTNING_PRECISION[resolve_precision(config.precision, build_device(machine.accelerator)).value]


def _trainer(machine: Machine, **options: Any) -> pl.Trainer:
    try:
        sharded = machine.strategy == "fsdp"
        return pl.Trainer(
            accelerator=machine.accelerator,
            devices=machine.devices,
            num_nodes=machine.nodes,
            strategy=ShardedStrategy(machine.devices * machine.nodes) if sharded else machine.strategy,
            inference_mode=not sharded,  # its tensors would be those of the next training step
            **options,
        )
    except (MisconfigurationException, RuntimeError, TypeError, ValueError) as error:
        raise E2FashionError(f"{machine} cannot be used here: {error}") from error
