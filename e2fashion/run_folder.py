"""The files of a run folder, and the record of how the run was made."""

from __future__ import annotations

import logging
import os
import platform
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2fashion.disk import DamagedError, check_files, list_files, locked, read_json, seal, write_json
from e2fashion.types import E2FashionError

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

RECORDED_PACKAGES = ("transformers", "pytorch-lightning", "torchmetrics", "datasets", "tokenizers", "Pillow")
#: Files of a finished run that do not change; cards may be edited.
_LISTED = re.compile(r"(model/|checkpoints/[^/]+/best/|logs/csv/)(?!README\.md)")
REMEDY = "Restore the file, or remove the run's folder and train again."


@dataclass(frozen=True)
class RunFolder:
    """``config.yaml``, ``record.json``, ``log.txt``, ``checkpoints/``, ``model/``, ``results.jsonl``, ``report.md``."""

    path: Path

    @property
    def config(self) -> Path:
        """Resolved configuration."""
        return self.path / "config.yaml"

    @property
    def record(self) -> Path:
        """Commit, versions, device, fingerprint, duration and memory."""
        return self.path / "record.json"

    @property
    def checkpoints(self) -> Path:
        """Lightning's checkpoints, for resuming only."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """Best model on val, as a Hugging Face folder."""
        return self.path / "model"

    @property
    def results(self) -> Path:
        """Result records, one JSON object per line."""
        return self.path / "results.jsonl"

    @property
    def rankings(self) -> Path:
        """The rank of every query under protocol ``full``, one file per split and catalogue."""
        return self.path / "rankings"

    @property
    def figures(self) -> Path:
        """Figures of the report."""
        return self.path / "figures"

    @property
    def report(self) -> Path:
        """Report with tables and figures."""
        return self.path / "report.md"

    @property
    def log(self) -> Path:
        """Log file."""
        return self.path / "log.txt"

    def read_record(self) -> dict[str, Any]:
        """The record; empty before the run has begun.

        Raises:
            DamagedError: it cannot be read, or was changed.
        """
        if not os.path.lexists(self.record):  # anything there but a file is damage
            return {}
        content = read_json(self.record, REMEDY)
        stages = content.get("stages", {})
        if not isinstance(stages, dict) or not all(isinstance(stage, dict) for stage in stages.values()):
            raise DamagedError(f"{self.record} is damaged: its 'stages' is {str(stages)[:80]}. {REMEDY}")
        return content

    def update_record(self, **values: Any) -> None:
        """Add values to the record atomically."""
        write_json(self.record, seal(self.read_record() | values), sort_keys=True)

    def list_finished(self) -> None:
        """Add the files of a finished run to the record, unless they are there, for :meth:`check_finished`.

        These are the model, the best models of the stages, and the CSV logs. Who replaces the model clears ``files``
        first.
        """
        if not self.read_record().get("files"):
            self.update_record(files=list_files(self.path, lambda name: _LISTED.match(name) is not None))

    def check_model(self) -> None:
        """Compare the model of a finished run with the record.

        Raises:
            DamagedError: a file is missing or damaged.
        """
        listed = self.read_record().get("files", {})
        check_files(self.path, {name: facts for name, facts in listed.items() if name.startswith("model/")}, REMEDY)

    def check_finished(self) -> None:
        """Compare all listed files with the record; a warning for those from which nothing is computed.

        Raises:
            DamagedError: a file of the model is missing or damaged.
        """
        self.check_model()
        for name, facts in self.read_record().get("files", {}).items():
            if name.startswith("model/"):
                continue  # compared above
            try:
                check_files(self.path, {name: facts}, "No result depends on it.")
            except DamagedError as damage:
                logger.warning("%s", damage)

    def locked(self) -> AbstractContextManager[None]:
        """Lock the folder for writing, see :func:`e2fashion.disk.locked`."""
        return locked(self.path)

    def open(self, identity: str, data_fingerprint: str, device: torch.device, differences: str = "") -> None:
        """Create the folder, or check that it holds the same run.

        A run that ended before its first checkpoint, for example by an invalid configuration, is replaced.
        ``differences`` describes, for the message, how the existing run differs.

        Raises:
            E2FashionError: the folder holds another run.
        """
        existing = self.read_record().get("identity")
        if existing not in (None, identity):
            if any(path.exists() for path in (self.checkpoints, self.model, self.results)):
                raise E2FashionError(
                    f"'{self.path}' holds another run (identity {existing}, this one is {identity}): "
                    f"{differences or 'the catalogue differs'}. Choose another folder with output=<folder>, or "
                    "remove the old one."
                )
            self.record.unlink()
        self.path.mkdir(parents=True, exist_ok=True)
        commit = git_commit()
        earlier = self.read_record().get("commit")
        if earlier and commit and earlier.removesuffix("-dirty") != commit.removesuffix("-dirty"):
            logger.warning("this run began with commit %s, the code is now %s", earlier, commit)
        self.update_record(
            identity=identity,
            data_fingerprint=data_fingerprint,
            commit=earlier or commit,
            command=" ".join(sys.argv[1:]),
            **environment(device),
        )

    @contextmanager
    def log_to_file(self) -> Iterator[Callable[[E2FashionError], None]]:
        """Append this package's log lines to ``log.txt``.

        Yields a function that appends an error to the file only: the caller prints it.
        """
        handler = logging.FileHandler(self.log, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        package = logging.getLogger("e2fashion")
        package.addHandler(handler)
        package.setLevel(logging.INFO)

        def append(error: E2FashionError) -> None:
            handler.handle(package.makeRecord(package.name, logging.ERROR, "", 0, str(error), (), None))

        try:
            yield append
        finally:
            package.removeHandler(handler)
            handler.close()


def git_commit() -> str:
    """The commit of this code, marked ``-dirty`` if it has changes; empty outside a checkout."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=Path(__file__).resolve().parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return described.stdout.strip() if described.returncode == 0 else ""


def environment(device: torch.device | None = None) -> dict[str, Any]:
    """Package versions, threads, and the name of ``device`` (None: the GPU if there is one)."""
    import torch

    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # PyTorch names its build (+cpu, +cu130), which the metadata of its package may lack.
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    name = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} {device.type.upper()}"
    )
    return {"versions": versions, "device": name, "threads": torch.get_num_threads(), "cpu_count": os.cpu_count()}


def peak_memory_mb() -> float:
    """Peak resident memory of this process in MB (10^6 bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts in bytes, Linux in KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
