"""Callback that draws a few products of val after an epoch and logs the figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from e2fashion.training.loggers import log_image
from e2fashion.training.module import ContrastiveModule
from e2fashion.types import Batch


@dataclass(frozen=True)
class SeenProducts:
    """The N products embedded by this process in validation.

    ``image_embeds`` and ``text_embeds`` (N, C) are L2-normalized, or tokens (N, P, C) and (N, L, C); equal
    ``text_group`` (N,) mean equal texts.
    """

    product_ids: tuple[str, ...]
    image_embeds: Tensor
    text_embeds: Tensor
    text_group: Tensor


class SampleFigures(pl.Callback):
    """Draws after validation, from its embeddings and without random numbers.

    With several processes the first one draws from its part of val.

    Args:
        draw: draws the PNGs of an epoch (from 1) in a folder and returns them by the name to log them under.
        folder: the folder of the PNGs.
        every: epochs between figures.
    """

    def __init__(self, draw: Callable[[SeenProducts, int, Path], Mapping[str, Path]], folder: Path, every: int) -> None:
        self.draw = draw
        self.folder = folder
        self.every = every
        self._ids: list[str] = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect the ids of the embedded products."""
        self._ids += batch.product_ids

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw and log before the module resets the embeddings."""
        ids, self._ids = tuple(self._ids), []
        epoch = trainer.current_epoch + 1
        if epoch % self.every or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, ContrastiveModule)
        recall: Any = pl_module.retrieval
        seen = SeenProducts(ids, *map(dim_zero_cat, (recall.image_embeds, recall.text_embeds, recall.text_ids)))
        for name, file in self.draw(seen, epoch, self.folder).items():
            for logger in trainer.loggers:
                # The last finished step, at which Lightning logs validation.
                log_image(logger, name, file, trainer.global_step - 1)
