"""One stage of training as one Lightning fit, with its record and checkpoints, that can be interrupted and resumed."""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from e2fashion.arithmetic import (
    Choice,
    Precision,
    build_device,
    log_arithmetic,
    resolve_precision,
    with_recorded_reasons,
)
from e2fashion.config import save_config
from e2fashion.disk import DamagedError, check_checksums, reason_of, remove_folder
from e2fashion.losses.gather import is_distributed
from e2fashion.options import FitConfig
from e2fashion.run_folder import RunFolder
from e2fashion.terminal import draws_bars
from e2fashion.training.callbacks import (
    BEST_MODEL,
    BestModel,
    ResumeCheckpoint,
    RunInterruptedError,
    StageBar,
    Throughput,
)
from e2fashion.training.loggers import LogSettings, ids_of, open_loggers, quiet_loggers, resumed_step
from e2fashion.training.sharding import ShardedStrategy
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

LIGHTNING_PRECISION: dict[Precision, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "fp32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}

LOG_EVERY_STEPS = 10
#: Keys of a Lightning checkpoint that resuming needs.
NEEDED = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "epoch", "global_step")


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
    precision = resolve_precision(config.precision, build_device(machine.accelerator))
    trainer = _trainer(
        machine,
        precision=LIGHTNING_PRECISION[precision.value],
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


def is_first_process() -> bool:
    """Whether this process is the one of a run that writes."""
    return cast(Any, rank_zero_only).rank == 0


@contextmanager
def recorded_run(folder: RunFolder, config: Any, arithmetic: Mapping[str, Choice], verb: str) -> Iterator[None]:
    """Record an opened run and log to its file during the block.

    The files that the record of a finished run lists are checked first, see :meth:`RunFolder.check_finished`.
    ``verb`` is the command that resumes the run.

    Raises:
        E2FashionError: a damaged file of the model; errors of the block are added to the log.
    """
    save_config(config, folder.config)
    arithmetic = with_recorded_reasons(arithmetic, folder.read_record().get("arithmetic", {}))
    folder.update_record(arithmetic={name: str(choice) for name, choice in arithmetic.items()})
    with folder.log_to_file() as append_error:
        try:
            folder.check_finished()
            log_arithmetic(arithmetic)
            yield
        except E2FashionError as error:
            if isinstance(error, RunInterruptedError):
                error = RunInterruptedError(f"interrupted. Resume with: e2fashion {verb} {folder.path}", error.number)
            append_error(error)
            raise error


@contextmanager
def recorded_loggers(settings: LogSettings, folder: RunFolder, stage: str) -> Iterator[list[Logger]]:
    """The loggers of one stage; their ids are kept in the record for resuming."""
    logs = folder.path / "logs"
    if not is_first_process():
        yield quiet_loggers(logs, stage)
        return
    known = folder.read_record().get("loggers", {})
    step = resumed_step(last_checkpoint(folder.path, stage))
    with open_loggers(settings, logs, stage, known.get(stage), step) as loggers:
        if ids := ids_of(loggers):
            folder.update_record(loggers=known | {stage: ids})
        yield loggers


def restart_if_damaged(folder: RunFolder, stage: str, best: Path) -> None:
    """Move a damaged checkpoint or best model aside, with a note in log and record; the stage then restarts.

    This costs time but changes no result, since the steps are repeated exactly.
    """
    if not is_first_process() or (damaged := set_aside_damaged(folder.path, stage, best)) is None:
        return
    path, damage = damaged
    logger.warning("%s is damaged (%s): stage %s begins again from its start", path, damage, stage)
    known = folder.read_record().get("damaged_checkpoints", [])
    folder.update_record(
        damaged_checkpoints=[*known, {"stage": stage, "damage": damage, "went_on_from": "the stage's start"}]
    )


def last_checkpoint(run_folder: Path, stage: str) -> Path:
    """The checkpoint file that a stage resumes from."""
    return run_folder / "checkpoints" / stage / "last.ckpt"


def damage_of(checkpoint: Path) -> str | None:
    """Why a checkpoint cannot be resumed from; None if it is intact.

    Every byte is compared with the checksums in the file, which PyTorch writes but does not verify: a flipped bit in a
    weight would go unnoticed.
    """
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            if (part := archive.testzip()) is not None:
                return f"the checksum of its part '{part}' does not match"
        content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # zipfile, pickle and PyTorch raise many types
        return reason_of(error)
    if not isinstance(content, dict):
        return f"it is a {type(content).__name__}"
    missing = [key for key in NEEDED if key not in content]
    return f"it lacks {', '.join(missing)}" if missing else None


def damage_of_best(model: Path, checkpoint: Path) -> str | None:
    """Why the best model so far cannot be kept; None if it is intact or none has been saved yet.

    Models of earlier versions have no checksums and pass.
    """
    if not model.is_dir():
        callbacks = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["callbacks"]
        made = callbacks.get(BEST_MODEL, {}).get("best_epoch", -1) >= 0
        return "it is missing" if made else None
    try:
        check_checksums(model, "", again=True)
    except DamagedError as damage:
        return str(damage).strip()
    return None


def set_aside_damaged(run_folder: Path, stage: str, best: Path) -> tuple[Path, str] | None:
    """Restart a stage whose checkpoint or best model is damaged; returns the damaged path and the reason.

    The checkpoint is kept under another name until the stage is done. The best model is removed, since the same steps
    make it again bit for bit; it is removed first, so that a kill in between leaves the damage detectable.
    """
    checkpoint = last_checkpoint(run_folder, stage)
    if not checkpoint.is_file():
        return None
    damaged = None
    if reason := damage_of(checkpoint):
        damaged = checkpoint, reason
    elif reason := damage_of_best(best, checkpoint):
        damaged = best, reason
    if damaged is not None:
        remove_folder(best)
        checkpoint.replace(_aside(checkpoint))
    return damaged


def remove_checkpoints(run_folder: Path, stage: str) -> None:
    """Remove the checkpoints of a finished stage."""
    checkpoint = last_checkpoint(run_folder, stage)
    for file in (checkpoint, _aside(checkpoint)):
        file.unlink(missing_ok=True)


def _aside(checkpoint: Path) -> Path:
    return checkpoint.with_name(f"{checkpoint.name}.damaged")
