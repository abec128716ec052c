"""A run's folder: where each thing lies in it, and the record of what made it."""

from __future__ import annotations

import logging
import os
import platform
import resource
import subprocess
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2fashion.disk import DamagedError, locked, read_json, seal, write_json
from e2fashion.types import E2FashionError

if TYPE_CHECKING:
    import torch

RECORDED_PACKAGES = ("torch", "transformers", "pytorch-lightning", "torchmetrics", "datasets", "tokenizers", "Pillow")
REMEDY = "Restore the file, or remove the run's folder and train again."


@dataclass(frozen=True)
class RunFolder:
    """``config.yaml``, ``record.json``, ``log.txt``, ``checkpoints/``, ``model/``, ``results.jsonl``, ``report.md``."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def record(self) -> Path:
        """Commit, versions, device, fingerprint, time and memory."""
        return self.path / "record.json"

    @property
    def checkpoints(self) -> Path:
        """Lightning's checkpoints, for resuming only."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The best model on val, as a Hugging Face folder."""
        return self.path / "model"

    @property
    def results(self) -> Path:
        """Result records, one JSON object a line."""
        return self.path / "results.jsonl"

    @property
    def rankings(self) -> Path:
        """The rank of every query under protocol ``full``, one file a split and catalogue."""
        return self.path / "rankings"

    @property
    def figures(self) -> Path:
        """Figures of the report."""
        return self.path / "figures"

    @property
    def report(self) -> Path:
        """Tables and figures to read."""
        return self.path / "report.md"

    @property
    def log(self) -> Path:
        """What was logged."""
        return self.path / "log.txt"

    def read_record(self) -> dict[str, Any]:
        """The record, empty before the run began.

        Raises:
            DamagedError: it cannot be read, or is not what was written.
        """
        if not os.path.lexists(self.record):  # what is there and no file is damage
            return {}
        content = read_json(self.record, REMEDY)
        stages = content.get("stages", {})
        if not isinstance(stages, dict) or not all(isinstance(stage, dict) for stage in stages.values()):
            raise DamagedError(f"{self.record} is damaged: its 'stages' is {str(stages)[:80]}. {REMEDY}")
        return content

    def update_record(self, **values: Any) -> None:
        """Add values to the record, which is whole at any moment."""
        write_json(self.record, seal(self.read_record() | values), sort_keys=True)

    def locked(self) -> AbstractContextManager[None]:
        """Be the only process that writes the folder; see :func:`e2fashion.disk.locked`."""
        return locked(self.path)

    def open(self, identity: str, data_fingerprint: str, device: torch.device, differences: str = "") -> None:
        """Make the folder, or check that the run that lies there is the same one.

        A run that ended before its first checkpoint, by a mistake in its configuration say, makes room for another.
        ``differences`` says in words what the run that lies there has otherwise, for the message.

        Raises:
            E2FashionError: another run lies in the folder.
        """
        found = self.read_record().get("identity")
        if found not in (None, identity):
            if any(place.exists() for place in (self.checkpoints, self.model, self.results)):
                raise E2FashionError(
                    f"'{self.path}' holds another run (identity {found}, this one is {identity}): "
                    f"{differences or 'the catalogue is another one'}. Choose another folder with output=<folder>, or "
                    "remove the old one."
                )
            self.record.unlink()
        self.path.mkdir(parents=True, exist_ok=True)
        commit = git_commit()
        earlier = self.read_record().get("commit")
        if earlier and commit and earlier.removesuffix("-dirty") != commit.removesuffix("-dirty"):
            logging.getLogger(__name__).warning("this run began with commit %s, the code is now %s", earlier, commit)
        self.update_record(
            identity=identity,
            data_fingerprint=data_fingerprint,
            commit=earlier or commit,
            command=" ".join(sys.argv[1:]),
            **environment(device),
        )

    def log_to_file(self) -> logging.Handler:
        """Append this package's log lines to ``log.txt``; the caller removes the handler when done."""
        handler = logging.FileHandler(self.log, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        package = logging.getLogger("e2fashion")
        package.addHandler(handler)
        package.setLevel(logging.INFO)
        return handler


def git_commit() -> str:
    """The commit that this code was checked out from, marked ``-dirty`` when changed; empty outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


def environment(device: torch.device | None = None) -> dict[str, Any]:
    """Versions and threads of this process, and the name of ``device`` (None: the GPU if there is one)."""
    import torch

    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    versions = {"python": platform.python_version()}
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
    """Largest resident memory of this process so far, in MB (10^6 bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts in bytes, Linux in KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
