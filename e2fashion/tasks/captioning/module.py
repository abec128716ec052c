"""The LightningModule that teaches a decoder to tell texts from their embeddings: no picture is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset

from e2fashion.data.loader import ResumableLoader
from e2fashion.data.sampler import EpochSampler
from e2fashion.tasks.captioning.config import CaptionFitConfig
from e2fashion.training.config import OptimizerConfig
from e2fashion.training.optimizers import build_optimizer
from e2fashion.training.schedules import linear_with_warmup
from e2fashion.types import E2FashionError

SCORE = "score"
"""What chooses the epoch: minus the loss on val, of which more is better."""


class CaptionModule(pl.LightningModule):
    """Cross-entropy of captions; ``decoder`` maps a batch to its loss and reads ``training``.

    All randomness of a step comes from (seed, step), so that a resumed run repeats what an uninterrupted one does.
    """

    def __init__(self, decoder: nn.Module, config: CaptionFitConfig, seed: int) -> None:
        super().__init__()
        self.decoder = decoder
        self.config = config
        self.seed = seed
        self._losses: list[tuple[float, int]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """One loss.

        Raises:
            E2FashionError: it is not finite.
        """
        torch.manual_seed(self.seed * 1_000_003 + self.global_step)
        loss: Tensor = self.decoder(batch)
        if not torch.isfinite(loss):
            raise E2FashionError(
                f"The loss became {float(loss)} at step {self.global_step}: lower train.learning_rate, or set "
                "train.gradient_clip=1.0."
            )
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch))
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Collect the loss of val's texts, without noise, smoothing and dropout."""
        self._losses.append((float(self.decoder(batch)), int(batch.targets.sum())))

    def on_validation_epoch_end(self) -> None:
        """The mean over all val tokens chooses the epoch."""
        tokens = sum(number for _, number in self._losses)
        loss = sum(value * number for value, number in self._losses) / tokens
        self._losses = []
        self.log("val/loss", loss, prog_bar=True)
        self.log(SCORE, -loss, logger=False)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW with a linear decay behind a warm-up (DeCap, CapDec)."""
        adamw = OptimizerConfig(weight_decay=self.config.weight_decay)
        optimizer = build_optimizer(self.decoder, adamw, self.config.learning_rate)
        data: pl.LightningDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        steps = len(data.train_dataloader()) * (self.trainer.max_epochs or 0)
        schedule = LambdaLR(optimizer, linear_with_warmup(self.config.warmup_steps, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Numbers(Dataset[int]):
    """Items by number; the sampler also says the epoch, which plays no part here."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, place: tuple[int, int]) -> int:
        return place[0]


@dataclass(frozen=True)
class CaptionItems:
    """Captions to train on: how many, and what makes a batch of some of their numbers."""

    items: Sized
    collate: Callable[[Sequence[int]], Any]


class CaptionData(pl.LightningDataModule):
    """Loaders over texts that are embedded already; the order of an epoch comes from (seed, epoch)."""

    def __init__(self, train: CaptionItems, val: CaptionItems, batch_size: int, seed: int) -> None:
        super().__init__()
        self.train, self.val = train, val
        self.batch_size, self.seed = batch_size, seed

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled; a last smaller batch is dropped."""
        return self._loader(self.train, shuffle=True)

    def val_dataloader(self) -> ResumableLoader:
        """In order."""
        return self._loader(self.val, shuffle=False)

    def _loader(self, of: CaptionItems, shuffle: bool) -> ResumableLoader:
        sampler = EpochSampler(len(of.items), self.batch_size, seed=self.seed, shuffle=shuffle, drop_last=shuffle)
        done = self._batches_done if shuffle else None
        items: Any = _Numbers(len(of.items))
        collate: Any = of.collate  # the loader hands on what it is given, whatever a batch is
        return ResumableLoader(items, sampler, collate, batches_done=done)

    def _batches_done(self) -> int:
        """Batches of the current epoch that are finished; not 0 only when a run resumes."""
        if self.trainer is None or not self.trainer.training:
            return 0
        return self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
