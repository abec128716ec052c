"""Loggers of a training; no key here counts in a run's identity."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class LoggingConfig:
    """Loggers of a training."""

    to: list[Literal["tensorboard", "wandb", "mlflow"]] = field(default_factory=lambda: ["tensorboard"])
    """``tensorboard``, ``wandb``, ``mlflow``; ``[]``: none."""
    online: bool = False
    """Whether W&B and MLflow may reach the servers that their environment variables name; false: everything stays in
    the folder."""


@dataclass
class RunLoggingConfig(LoggingConfig):
    """Loggers of a run, and its sample figures."""

    figures_every: int = 1
    """Epochs between sample figures of val; 0: none."""
