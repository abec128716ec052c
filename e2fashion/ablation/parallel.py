"""Train several runs in parallel, one process each, with an equal share of the threads."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from e2fashion.ablation.state import FoundRun, planned_config
from e2fashion.config import save_config
from e2fashion.lifetime import PARENT

logger = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds for an interrupted process to finish its batch and save."""


def train_in_parallel(items: Sequence[FoundRun], jobs: int, folder: Path) -> Iterator[tuple[FoundRun, str]]:
    """Yield each run when its process ends, with the reason if it failed (else empty).

    The output of a process goes to ``<folder>/processes/<row>_seed<k>.log``; its configuration is the ``.yaml`` of the
    same name. On an interrupt all processes get SIGTERM, so that they save.
    """
    waiting = list(items)
    running: dict[subprocess.Popen[bytes], tuple[FoundRun, Path]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                item = waiting.pop(0)
                process, log = start_process(item, jobs, folder / "processes")
                running[process] = (item, log)
                logger.info("%s started, see %s", item.run.name, log)
            ended = [process for process in running if process.poll() is not None]
            for process in ended:
                item, log = running.pop(process)
                logger.info("%s ended", item.run.name)
                yield item, _reason(process.returncode, log)
            if not ended:
                time.sleep(0.2)
    finally:
        _stop(list(running))


def start_process(item: FoundRun, jobs: int, folder: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """A process that trains one run with its share of the threads, and its log."""
    folder.mkdir(parents=True, exist_ok=True)
    name = item.run.name.replace("/", "_")
    config, log = folder / f"{name}.yaml", folder / f"{name}.log"
    planned = planned_config(item)
    threads = max((planned.threads or torch.get_num_threads()) // jobs, 1)
    save_config(replace(planned, threads=threads), config)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), PARENT: str(os.getpid())}
    command = [sys.executable, "-m", "e2fashion", "train", str(config), "--quiet"]
    with log.open("wb") as stream:
        # In a new session, so that Ctrl-C reaches this process alone, which then terminates each of them once.
        process = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    return process, log


def _reason(code: int, log: Path) -> str:
    if code == 0:
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    killed = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return errors[-1] if errors else f"its process ended ({killed}): {lines[-1] if lines else 'no output'} (see {log})"


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.send_signal(signal.SIGTERM)
    try:
        for process in processes:
            process.wait(PATIENCE)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        for process in processes:
            process.kill()
            process.wait()
