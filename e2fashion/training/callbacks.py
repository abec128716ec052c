"""Callbacks of a fit: the best model as a Hugging Face folder, a clean stop on Ctrl-C, throughput, progress bar."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from e2fashion.disk import atomic_file, atomic_folder
from e2fashion.lifetime import Terminated
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

#: The key of :class:`BestModel` among a checkpoint's callbacks.
BEST_MODEL = "BestModel"


class RunInterruptedError(E2FashionError):
    """A run was stopped by the signal ``number`` after saving a checkpoint to resume from."""

    def __init__(self, message: str = "", number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = number

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """As in a shell: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.number


class BestModel(pl.Callback):
    """Keep the model of the best epoch as a folder that :meth:`from_pretrained` loads.

    Args:
        folder: replaced atomically whenever the monitored value increases.
        save: writes the model, its processor and its card to a folder.
        monitor: a logged value, higher is better.
        best: the best value of the stage before.
    """

    def __init__(self, folder: Path, save: Callable[[Path], None], monitor: str, best: float = float("-inf")) -> None:
        self.folder = folder
        self.save = save
        self.monitor = monitor
        self.best = best
        self.best_epoch = -1

    @property
    def state_key(self) -> str:
        """Key of :meth:`state_dict` in a checkpoint."""
        return BEST_MODEL

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace the folder if the model is better; only the first process writes."""
        if trainer.sanity_checking or self.monitor not in trainer.callback_metrics:
            return
        value = float(trainer.callback_metrics[self.monitor])
        if trainer.is_global_zero:
            logger.info("epoch %d: %s %.2f", trainer.current_epoch + 1, self.monitor, value)
        if value <= self.best:
            return
        self.best, self.best_epoch = value, trainer.current_epoch
        if not trainer.is_global_zero:
            return
        with atomic_folder(self.folder) as fresh:
            self.save(fresh)

    def state_dict(self) -> dict[str, Any]:
        """The best value and its epoch, for a resumed run."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best value and its epoch."""
        self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]


class ResumeCheckpoint(pl.Callback):
    """Keep one checkpoint to resume from, and turn Ctrl-C (or SIGTERM) into a stop between two batches.

    Saved every ``every_steps`` optimizer steps, at the end of every epoch (after validation) and on a signal. A
    second Ctrl-C stops at once and loses the steps since the last save. All processes of a run stop after the same
    batch, whichever of them received the signal.
    """

    def __init__(self, checkpoint: Path, every_steps: int) -> None:
        self.checkpoint = checkpoint
        self.every_steps = every_steps
        self.requested = 0
        self._previous: dict[int, Any] = {}
        self._process = os.getpid()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Install the signal handlers (only possible in the main thread)."""
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._request)
            except ValueError:
                logger.info("not in the main thread: an interrupt will not save a checkpoint")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save after ``every_steps`` steps or a signal; an epoch's last batch is saved after its validation."""
        self._agree(trainer)
        if trainer.is_last_batch:
            return
        if self.requested or trainer.global_step % self.every_steps == 0:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save after validation, so that a resumed run begins with the next epoch."""
        self._agree(trainer)
        self._save(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Restore the signal handlers."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _agree(self, trainer: pl.Trainer) -> None:
        if trainer.world_size > 1:
            requested = trainer.strategy.reduce_boolean_decision(bool(self.requested), all=False)
            self.requested = self.requested or (signal.SIGINT if requested else 0)

    def _save(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero:
            with atomic_file(self.checkpoint) as partial:
                trainer.save_checkpoint(partial, weights_only=False)
        else:  # takes part without writing
            trainer.save_checkpoint(self.checkpoint, weights_only=False)
        if self.requested:
            raise RunInterruptedError(str(self.checkpoint), self.requested)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a loader process, which the terminal signals as well
        if self.requested:
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
        self.requested = number
        logger.warning("stopping after this batch ...")


class Throughput(pl.Callback):
    """Log images per second over each training epoch, without validation."""

    def __init__(self) -> None:
        self._start = 0.0
        self._images = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._start, self._images = time.perf_counter(), 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch; log the rate at the last one of an epoch."""
        self._images += len(batch) * trainer.world_size
        if trainer.is_last_batch:
            rate = self._images / (time.perf_counter() - self._start)
            pl_module.log("train/images_per_second", rate, rank_zero_only=True)


class StageBar(TQDMProgressBar):
    """Lightning's progress bar with the stage, the epoch, and the estimated remaining time of the stage.

    The estimate is based on the steps of this process, validation included.
    """

    def __init__(self, stage: str) -> None:
        super().__init__(refresh_rate=5, leave=True)
        self.stage = stage
        self._start, self._first_step = 0.0, 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        super().on_train_start(trainer, pl_module)
        self._start, self._first_step = time.perf_counter(), trainer.global_step

    def on_train_epoch_start(self, trainer: pl.Trainer, *arguments: Any) -> None:
        """Name the epoch, counting from one."""
        super().on_train_epoch_start(trainer, *arguments)
        self.train_progress_bar.set_description(f"{self.stage}: epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The text after the bar: logged values and remaining time."""
        items = super().get_metrics(trainer, pl_module)
        items.pop("v_num", None)
        done = trainer.global_step - self._first_step
        if done > 0 and trainer.max_epochs:
            left = int(trainer.num_training_batches) * trainer.max_epochs - trainer.global_step
            items["left"] = tqdm.format_interval((time.perf_counter() - self._start) / done * max(left, 0))
        return items
