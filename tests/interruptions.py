"""Accidents in the midst of training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from e2fashion.training.fit import fit_stage


def interrupted_by(action: Callable[[], None], at: tuple[str, int]) -> Callable[..., None]:
    """``fit_stage`` with an accident at one step of one stage."""

    class Accident(pl.Callback):
        def __init__(self, stage: str) -> None:
            self.stage = stage

        def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, index: int) -> None:
            if (self.stage, trainer.global_step) == at:
                action()

    def fit(
        module: Any, data: Any, config: Any, epochs: int, folder: Path, stage: str, best: Any, **options: Any
    ) -> None:
        options["extra_callbacks"] = [*options.get("extra_callbacks", ()), Accident(stage)]
        fit_stage(module, data, config, epochs, folder, stage, best, **options)

    return fit
