"""Where curves go: CSV always; TensorBoard, W&B and MLflow where asked for. A resumed run goes on with its own.

Every logger gets the same names, but for MLflow's rule on characters: see :func:`mlflow_name`.
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
from e2fashion.disk import open_text
from e2fashion.options import LoggingConfig
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

#: Loggers beside CSV, and the extra of this package that installs each.
EXTRAS = {"tensorboard": "logging", "wandb": "wandb", "mlflow": "mlflow"}
#: What W&B calls the project and MLflow the experiment unless their own variables say otherwise.
PROJECT = "e2fashion"
MLFLOW_SERVER = "MLFLOW_TRACKING_URI"


@dataclass(frozen=True)
class LogSettings:
    """Names of :data:`EXTRAS`, whether servers may be reached, and the run's ``title`` and ``values`` shown there."""

    to: Sequence[str] = ()
    online: bool = False
    title: str = "run"
    values: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, logging: LoggingConfig, title: str, config: Any) -> LogSettings:
        """Those of a configuration, which W&B and MLflow show with its dotted keys."""
        return cls(tuple(logging.to), logging.online, title, flat(asdict(config)))


def check_loggers(to: Sequence[str], online: bool) -> None:
    """Refuse before training what would fail in it.

    Raises:
        E2FashionError: a logger's package is not installed, or MLflow is to be online and nothing names its server.
    """
    for name in to:
        found = find_spec(name)
        # A folder of that name (W&B writes one into where it runs) is found too, as a package without a file.
        if found is None or found.origin is None:
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
    """Optimizer steps that were done when a Lightning checkpoint was saved; 0 where there is none."""
    if not checkpoint.is_file():
        return 0
    step: int = torch.load(checkpoint, weights_only=True, mmap=True)["global_step"]
    return step


@contextmanager
def open_loggers(
    settings: LogSettings, folder: Path, stage: str, known: Mapping[str, str] | None = None, step: int = 0
) -> Iterator[list[Logger]]:
    """The loggers of one stage, closed behind it; what was logged from ``step`` on is logged again.

    ``known`` are the ids that an earlier part of the stage had, by logger, see :func:`ids_of`. For the first of several
    processes that train together; :func:`quiet_loggers` for the others.
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
        for own in loggers:
            if isinstance(own, WandbLogger):
                own.experiment.finish(exit_code=failed)
            if isinstance(own, MLFlowLogger):  # Lightning made its store that of the whole process
                import mlflow

                mlflow.set_tracking_uri(before)  # type: ignore[arg-type]


def quiet_loggers(folder: Path, stage: str) -> list[Logger]:
    """What the other processes of a run have: a logger that Lightning asks for its place, and that writes nothing."""
    return [CSVLogger(folder, name="csv", version=stage)]


def ids_of(loggers: Sequence[Logger]) -> dict[str, str]:
    """By which ids W&B and MLflow know a stage: what a resumed run goes on with."""
    kinds = {WandbLogger: "wandb", MLFlowLogger: "mlflow"}
    return {name: str(own.version) for own in loggers for kind, name in kinds.items() if isinstance(own, kind)}


def log_image(target: Logger, name: str, file: Path, step: int) -> None:
    """Log a PNG with a logger that takes pictures: all but CSV, beside which the file itself lies."""
    if isinstance(target, WandbLogger):
        target.log_image(name, [str(file)], step)
    elif isinstance(target, TensorBoardLogger):
        from tensorboard.compat.proto.summary_pb2 import Summary

        # As it is: `add_image` would compress the pixels a second time, which takes as long as drawing them.
        with Image.open(file) as picture:
            width, height = picture.size
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=file.read_bytes())
        target.experiment.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)
    elif isinstance(target, MLFlowLogger):
        with Image.open(file) as picture:
            target.experiment.log_image(target.run_id, picture.convert("RGB"), key=name, step=step)


def mlflow_name(name: str) -> str:
    """A metric's name as MLflow takes it, which refuses ``@``: ``R@1`` becomes ``R_at_1``."""
    return name.replace("@", "_at_")


class RenamingMLFlowLogger(MLFlowLogger):
    """Lightning's, that spells ``@`` out: Lightning's own would drop it."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """As Lightning's, under :func:`mlflow_name`."""
        super().log_metrics({mlflow_name(name): value for name, value in metrics.items()}, step)


class WholeCsvWriter(ExperimentWriter):
    """Lightning's, whose file is whole at any moment: Lightning's own empties it, and appends.

    Args:
        log_dir: the folder of ``metrics.csv``.
        rows: what was logged before.
    """

    def __init__(self, log_dir: str, rows: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(log_dir)
        self._rows: list[Mapping[str, Any]] = list(rows)

    def save(self) -> None:
        """Write all rows, those from before too."""
        if not self.metrics:
            return
        self._rows += self.metrics
        self.metrics = []
        with open_text(Path(self.metrics_file_path)) as stream:
            writer = csv.DictWriter(stream, sorted({key for row in self._rows for key in row}))
            writer.writeheader()
            writer.writerows(self._rows)

    def _check_log_dir_exists(self) -> None:
        """Lightning's warns that it deletes the former file, and does."""


def _csv(folder: Path, stage: str, step: int) -> CSVLogger:
    """One file for the stage, whose rows before ``step`` are kept."""
    rows: list[dict[str, Any]] = []
    if (file := folder / "csv" / stage / "metrics.csv").is_file():
        with file.open(newline="", encoding="utf-8") as lines:
            rows = [row for row in csv.DictReader(lines) if row["step"] and int(row["step"]) < step]
    made = CSVLogger(folder, name="csv", version=stage)
    made._experiment = WholeCsvWriter(made.log_dir, rows)
    return made


def _wandb(settings: LogSettings, folder: Path, stage: str, known: str | None) -> WandbLogger:
    if not settings.online:  # even in its offline mode W&B would report how it is used
        os.environ["WANDB_ERROR_REPORTING"] = "false"
    from wandb import Settings

    folder.mkdir(parents=True, exist_ok=True)  # W&B writes to the temporary folder otherwise
    made = WandbLogger(
        name=f"{settings.title}/{stage}",
        group=settings.title,
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        id=known or uuid4().hex[:8],
        save_dir=folder,
        # Not Lightning's `offline`, which would set a variable for the whole process.
        mode=None if settings.online else "offline",
        # The terminal is the progress bar's, and what is said there is in log.txt.
        settings=Settings(console="off", silent=not settings.online),
    )
    made.log_hyperparams(dict(settings.values))
    if not settings.online:
        logger.info("W&B is offline; to upload: wandb sync %s", folder / "wandb" / f"offline-run-*-{made.version}")
    return made


def _mlflow(settings: LogSettings, folder: Path, stage: str, known: str | None) -> MLFlowLogger:
    store = os.environ.get(MLFLOW_SERVER, "")
    if not settings.online:
        # Files are the only store of mlflow-skinny. MLflow 3 asks for a word of consent to them, and sends statistics
        # of its use unless told not to.
        os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        store = (folder / "mlflow").absolute().as_uri()
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    if known:
        try:
            MlflowClient(store).update_run(known, status="RUNNING")
        except MlflowException as error:
            logger.warning("MLflow has no run %s at %s any more (%s): a new one begins", known, store, error)
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
