"""Loggers: CSV always; TensorBoard, W&B and MLflow on request. A resumed run continues its logs.

All loggers get the same metric names, except for MLflow's restriction on characters, see :func:`mlflow_name`.
"""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter

from e2fashion.config import flat
from e2fashion.disk import DamagedError, open_text, reading
from e2fashion.options import LoggingConfig
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

#: Loggers besides CSV, and the extra of this package that installs each.
EXTRAS = {"tensorboard": "logging", "wandb": "wandb", "mlflow": "mlflow"}
#: Default name of the W&B project and the MLflow experiment; their environment variables override it.
PROJECT = "e2fashion"
MLFLOW_SERVER = "MLFLOW_TRACKING_URI"


@dataclass(frozen=True)
class LogSettings:
    """Names in :data:`EXTRAS`, whether servers may be used, and the run's ``title`` and ``values`` to log."""

    to: Sequence[str] = ()
    online: bool = False
    title: str = "run"
    values: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, logging: LoggingConfig, title: str, config: Any) -> LogSettings:
        """The settings of a configuration, whose dotted keys are logged to W&B and MLflow."""
        return cls(tuple(logging.to), logging.online, title, flat(asdict(config)))


def check_loggers(to: Sequence[str], online: bool) -> None:
    """Check the loggers before training.

    Raises:
        E2FashionError: a logger's package is not installed, or MLflow is online without a server address.
    """
    for name in to:
        spec = find_spec(name)
        # A folder of that name (W&B creates one in the working folder) is found too, as a package without a file.
        if spec is None or spec.origin is None:
            rest = [other for other in to if other != name]
            raise E2FashionError(
                f"logging.to names {name}, which is not installed. Install it: pip install "
                f"'e2fashion[{EXTRAS[name]}]', or train with logging.to=[{','.join(rest)}] (CSV is always written)."
            )
    if online and "mlflow" in to and not os.environ.get(MLFLOW_SERVER):
        raise E2FashionError(
            f"logging.online is true, but {MLFLOW_SERVER} names no MLflow server. Set it to the server's address, or "
            "keep the logs in the run folder with logging.online=false."
        )


def resumed_step(checkpoint: Path) -> int:
    """Optimizer steps of a Lightning checkpoint; 0 if it does not exist."""
    if not checkpoint.is_file():
        return 0
    step: int = torch.load(checkpoint, weights_only=True, mmap=True)["global_step"]
    return step


@contextmanager
def open_loggers(
    settings: LogSettings, folder: Path, stage: str, known: Mapping[str, str] | None = None, step: int = 0
) -> Iterator[list[Logger]]:
    """The loggers of one stage, closed at the end; values from ``step`` on are logged again.

    ``known`` are the ids of an interrupted stage by logger, see :func:`ids_of`. For the first process of a run;
    :func:`quiet_loggers` for the others.
    """
    known = known or {}
    before = os.environ.get(MLFLOW_SERVER)
    loggers: list[Logger] = [_csv(folder, stage, step)]
    if "tensorboard" in settings.to:
        loggers.append(TensorBoardLogger(folder, name="tensorboard", version=stage, purge_step=step))
    if "wandb" in settings.to:
        loggers.append(_wandb(settings, folder, stage, known.get("wandb")))
    if "mlflow" in settings.to:
        loggers.append(_mlflow(settings, folder, stage, known.get("mlflow")))
    failed = 1
    try:
        yield loggers
        failed = 0
    finally:
        for target in loggers:
            if isinstance(target, WandbLogger):
                target.experiment.finish(exit_code=failed)
            if isinstance(target, MLFlowLogger):  # Lightning has set its store for the whole process
                import mlflow

                mlflow.set_tracking_uri(before)  # type: ignore[arg-type]


def quiet_loggers(folder: Path, stage: str) -> list[Logger]:
    """The loggers of the further processes of a run: one that writes nothing, since Lightning needs its folder."""
    return [CSVLogger(folder, name="csv", version=stage)]


def ids_of(loggers: Sequence[Logger]) -> dict[str, str]:
    """The ids of a stage in W&B and MLflow, for resuming."""
    kinds = {WandbLogger: "wandb", MLFlowLogger: "mlflow"}
    return {name: str(item.version) for item in loggers for kind, name in kinds.items() if isinstance(item, kind)}


def log_image(target: Logger, name: str, file: Path, step: int) -> None:
    """Log a PNG with a logger that takes images: all but CSV."""
    if isinstance(target, WandbLogger):
        target.log_image(name, [str(file)], step)
    elif isinstance(target, TensorBoardLogger):
        from tensorboard.compat.proto.summary_pb2 import Summary

        # The file itself: `add_image` would compress the pixels again, which takes as long as drawing them.
        with Image.open(file) as opened:
            width, height = opened.size
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=file.read_bytes())
        target.experiment.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)
    elif isinstance(target, MLFlowLogger):
        with Image.open(file) as opened:
            target.experiment.log_image(target.run_id, opened.convert("RGB"), key=name, step=step)


def mlflow_name(name: str) -> str:
    """A metric's name for MLflow, which refuses ``@``: ``R@1`` becomes ``R_at_1``."""
    return name.replace("@", "_at_")


class RenamingMLFlowLogger(MLFlowLogger):
    """Lightning's logger, which would drop ``@``, with :func:`mlflow_name`."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """As Lightning's, under :func:`mlflow_name`."""
        super().log_metrics({mlflow_name(name): value for name, value in metrics.items()}, step)


class WholeCsvWriter(ExperimentWriter):
    """Lightning's writer, which truncates the file and appends, with atomic writes.

    Args:
        log_dir: the folder of ``metrics.csv``.
        rows: the rows logged before.
    """

    def __init__(self, log_dir: str, rows: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(log_dir)
        self._rows: list[Mapping[str, Any]] = list(rows)

    def save(self) -> None:
        """Write all rows, including the earlier ones."""
        if not self.metrics:
            return
        self._rows += self.metrics
        self.metrics = []
        with open_text(Path(self.metrics_file_path)) as stream:
            writer = csv.DictWriter(stream, sorted({key for row in self._rows for key in row}))
            writer.writeheader()
            writer.writerows(self._rows)

    def _check_log_dir_exists(self) -> None:
        """Keep the former file, which Lightning would delete with a warning."""


def _csv(folder: Path, stage: str, step: int) -> CSVLogger:
    """One file per stage, whose rows before ``step`` are kept."""
    rows: list[dict[str, Any]] = []
    if (file := folder / "csv" / stage / "metrics.csv").is_file():
        try:
            with reading(file, "It begins anew."), file.open(newline="", encoding="utf-8") as lines:
                rows = [row for row in csv.DictReader(lines) if row["step"] and int(row["step"]) < step]
                if any(None in row for row in rows):
                    raise ValueError("a row has more cells than the header")
        except DamagedError as damage:
            logger.warning("%s", damage)
            rows = []
    made = CSVLogger(folder, name="csv", version=stage)
    made._experiment = WholeCsvWriter(made.log_dir, rows)
    return made


def _wandb(settings: LogSettings, folder: Path, stage: str, known: str | None) -> WandbLogger:
    if not settings.online:  # W&B sends usage reports even in offline mode
        os.environ["WANDB_ERROR_REPORTING"] = "false"
    from wandb import Settings

    folder.mkdir(parents=True, exist_ok=True)  # else W&B writes to the temporary folder
    made = WandbLogger(
        name=f"{settings.title}/{stage}",
        group=settings.title,
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        id=known or uuid4().hex[:8],
        save_dir=folder,
        # Not Lightning's `offline`, which sets a variable for the whole process.
        mode=None if settings.online else "offline",
        # The terminal is for the progress bar; messages are in log.txt.
        settings=Settings(console="off", silent=not settings.online),
    )
    made.log_hyperparams(dict(settings.values))
    if not settings.online:
        logger.info("W&B is offline; to upload: wandb sync %s", folder / "wandb" / f"offline-run-*-{made.version}")
    return made


def _mlflow(settings: LogSettings, folder: Path, stage: str, known: str | None) -> MLFlowLogger:
    store = os.environ.get(MLFLOW_SERVER, "")
    if not settings.online:
        # Files are the only store of mlflow-skinny; MLflow 3 requires explicit consent to them. Telemetry is on by
        # default.
        os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        store = (folder / "mlflow").absolute().as_uri()
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    if known:
        try:
            MlflowClient(store).update_run(known, status="RUNNING")
        except MlflowException as error:
            logger.warning("MLflow run %s no longer exists at %s (%s): starting a new one", known, store, error)
            known = None
    made = RenamingMLFlowLogger(
        experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT),
        run_name=f"{settings.title}/{stage}",
        tracking_uri=store,
        run_id=known,
    )
    if not known:  # MLflow keeps the parameters that a run began with
        made.log_hyperparams(dict(settings.values))
    return made
