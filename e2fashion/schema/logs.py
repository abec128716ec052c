"""Where the curves and pictures of a training go; no key here counts in a run's identity."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class LoggingConfig:
    """Loggers beside ``logs/csv``, which is always written.

    ``online: false`` keeps everything in the folder; true lets W&B and MLflow reach the servers that their own
    environment variables name.
    """

    to: list[Literal["tensorboard", "wandb", "mlflow"]] = field(default_factory=lambda: ["tensorboard"])
    online: bool = False


@dataclass
class RunLoggingConfig(LoggingConfig):
    """The same, and after every how many epochs sample figures are drawn (0: never)."""

    figures_every: int = 1
