"""Figures of a few products of val after an epoch, into the run folder and to every logger that takes pictures."""

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
    """The N products that this process embedded in validation.

    ``image_embeds`` and ``text_embeds`` (N, C) are L2-normalized, or tokens (N, P, C) and (N, L, C); equal
    ``text_group`` (N,) mean equal texts.
    """

    product_ids: tuple[str, ...]
    image_embeds: Tensor
    text_embeds: Tensor
    text_group: Tensor


class SampleFigures(pl.Callback):
    """Draw behind validation; nothing is embedded again, no random number is drawn.

    Processes that train together share val out: the first one shows its own part.

    Args:
        draw: makes the PNGs of an epoch (from 1) in a folder, and gives them by the name under which they are logged.
        folder: where they lie.
        every: so many epochs apart.
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
        """Remember which products were embedded, in their order."""
        self._ids += batch.product_ids

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw and log, before the module ranks and forgets the embeddings."""
        ids, self._ids = tuple(self._ids), []
        epoch = trainer.current_epoch + 1
        if epoch % self.every or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, ContrastiveModule)
        recall: Any = pl_module.retrieval
        seen = SeenProducts(ids, *map(dim_zero_cat, (recall.image_embeds, recall.text_embeds, recall.text_ids)))
        for name, file in self.draw(seen, epoch, self.folder).items():
            for logger in trainer.loggers:
                # Where Lightning logs what validation measured: at the step that was done last.
                log_image(logger, name, file, trainer.global_step - 1)
