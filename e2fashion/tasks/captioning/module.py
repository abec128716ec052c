"""The LightningModule that trains a decoder to reconstruct texts from their embeddings, and its data: no images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset

from e2fashion.data.loader import EpochSampler, ResumableLoader
from e2fashion.tasks.captioning.config import CaptionFitConfig
from e2fashion.tasks.captioning.memory import SupportMemory
from e2fashion.tasks.captioning.tokens import CaptionBatch, CaptionTokens
from e2fashion.training.config import OptimizerConfig
from e2fashion.training.optimization import build_optimizer, linear_with_warmup
from e2fashion.types import E2FashionError

SCORE = "score"
"""Chooses the epoch: minus the loss on val."""


class CaptionModule(pl.LightningModule):
    """Cross-entropy of captions; ``decoder`` maps a batch to its loss and reads ``training``.

    All randomness of a step comes from (seed, step), so that a resumed run equals an uninterrupted one.
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
        """Collect the loss on texts of val, without noise, smoothing and dropout."""
        self._losses.append((float(self.decoder(batch)), int(batch.targets.sum())))

    def on_validation_epoch_end(self) -> None:
        """The mean over all val tokens chooses the epoch."""
        tokens = sum(number for _, number in self._losses)
        loss = sum(value * number for value, number in self._losses) / tokens
        self._losses = []
        self.log("val/loss", loss, prog_bar=True)
        self.log(SCORE, -loss, logger=False)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW with a linear decay after a warm-up (DeCap, CapDec)."""
        adamw = OptimizerConfig(weight_decay=self.config.weight_decay)
        optimizer = build_optimizer(self.decoder, adamw, self.config.learning_rate)
        data: pl.LightningDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        steps = len(data.train_dataloader()) * (self.trainer.max_epochs or 0)
        schedule = LambdaLR(optimizer, linear_with_warmup(self.config.warmup_steps, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@dataclass(frozen=True)
class TrainingExample:
    """A row of the memory, and the prompt before its caption; empty: none."""

    row: int
    prompt: str = ""


class TrainingExamples(Dataset[int]):
    """Examples by number, and batches of them: a memory's embeddings with its captions, tokenized once."""

    def __init__(self, memory: SupportMemory, examples: Sequence[TrainingExample], tokens: CaptionTokens) -> None:
        if not examples:
            raise E2FashionError("There are no captions to train on: every product's is empty.")
        self.memory = memory
        self.tokens = tokens
        self.rows = [example.row for example in examples]
        self._captions = tokens.captions(memory.captions)
        prompts = list(dict.fromkeys(example.prompt for example in examples))
        ids = dict(zip(prompts, tokens.prompts(prompts), strict=True))
        self._prompts = [ids[example.prompt] for example in examples]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: tuple[int, int]) -> int:
        """The number, of a number and an epoch."""
        return item[0]

    def batch(self, numbers: Sequence[int]) -> CaptionBatch:
        """The examples of these numbers."""
        rows = [self.rows[number] for number in numbers]
        captions = [self._captions[row] for row in rows]
        return self.tokens.batch(self.memory.embeds[rows], captions, [self._prompts[number] for number in numbers])

    def mean_embed(self) -> Tensor:
        """The mean of the examples' embeddings, each as often as it occurs: (C,)."""
        embeds = self.memory.embeds
        counts = torch.bincount(torch.tensor(self.rows), minlength=len(embeds)).to(embeds.dtype)
        return counts @ embeds / counts.sum()


class CaptionData(pl.LightningDataModule):
    """Loaders over texts that are embedded already; the order of an epoch comes from (seed, epoch)."""

    def __init__(self, train: TrainingExamples, val: TrainingExamples, batch_size: int, seed: int) -> None:
        super().__init__()
        self.train, self.val = train, val
        self.batch_size, self.seed = batch_size, seed

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled; a last smaller batch is dropped."""
        return self._loader(self.train, shuffle=True)

    def val_dataloader(self) -> ResumableLoader:
        """In order."""
        return self._loader(self.val, shuffle=False)

    def _loader(self, examples: TrainingExamples, shuffle: bool) -> ResumableLoader:
        sampler = EpochSampler(len(examples), self.batch_size, seed=self.seed, shuffle=shuffle, drop_last=shuffle)
        done = self._batches_done if shuffle else None
        items: Any = examples  # of another type than the loader's, as its batches are
        return ResumableLoader(items, sampler, items.batch, batches_done=done)

    def _batches_done(self) -> int:
        """Batches of the current epoch that are finished; not 0 only when a run resumes."""
        if self.trainer is None or not self.trainer.training:
            return 0
        return self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
