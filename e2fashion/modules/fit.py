"""One stage of training as one Lightning fit that can stop and go on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import LearningRateMonitor, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from e2fashion.modules.callbacks import BestModel, ResumeCheckpoint, Throughput

logger = logging.getLogger(__name__)

Precision = Literal["fp32", "bf16", "fp16"]
LIGHTNING_PRECISION: dict[Precision, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "fp32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}


@dataclass(frozen=True)
class FitSettings:
    """How a stage is fitted, apart from the optimiser: length, arithmetic, machine, checkpoints."""

    epochs: int
    precision: Precision = "fp32"
    accelerator: str = "auto"
    devices: int = 1
    gradient_clip: float | None = None
    checkpoint_every_steps: int = 200
    progress: bool = True


def fit_stage(
    module: pl.LightningModule,
    data: pl.LightningDataModule,
    settings: FitSettings,
    run_folder: Path,
    stage: str,
    best_model: BestModel,
    extra_callbacks: Sequence[pl.Callback] = (),
) -> None:
    """Fit one stage, from its last checkpoint if the run was interrupted.

    Raises:
        RunInterruptedError: the user asked to stop; the checkpoint is saved.
        E2FashionError: the loss is no longer finite.
    """
    checkpoint = run_folder / "checkpoints" / stage / "last.ckpt"
    callbacks: list[pl.Callback] = [
        best_model,
        Throughput(),
        LearningRateMonitor(logging_interval="step"),
        ResumeCheckpoint(checkpoint, settings.checkpoint_every_steps),
    ]
    callbacks += extra_callbacks
    if settings.progress:
        callbacks.append(TQDMProgressBar(refresh_rate=5, leave=True))
    trainer = pl.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        precision=LIGHTNING_PRECISION[settings.precision],
        max_epochs=settings.epochs,
        gradient_clip_val=settings.gradient_clip,
        callbacks=callbacks,
        logger=_loggers(run_folder / "logs", stage),
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=settings.progress,
        deterministic="warn",
    )
    resume = checkpoint if checkpoint.is_file() else None
    if resume:
        logger.info("stage %s goes on from %s", stage, resume)
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)


def _loggers(folder: Path, stage: str) -> list[Logger]:
    """CSV always, TensorBoard where it is installed (extra ``logging``)."""
    loggers: list[Logger] = [CSVLogger(folder, name="csv", version=stage, flush_logs_every_n_steps=10)]
    if find_spec("tensorboard") is None:
        logger.warning("tensorboard is not installed: logging to CSV only. Install e2fashion[logging] for both.")
    else:
        loggers.append(TensorBoardLogger(folder, name="tensorboard", version=stage))
    return loggers
