"""Train the missing ones of several runs, sequentially or in parallel; a failure does not stop the others."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from e2fashion.ablation.plan import Ablation, PlannedRun
from e2fashion.ablation.report import RowResult, list_runs, write_report
from e2fashion.ablation.run import train
from e2fashion.ablation.state import (
    ERROR_FILE,
    FoundRun,
    find_runs,
    planned_config,
    seconds_left,
    seconds_per_epoch,
    stored_records,
)
from e2fashion.config import save_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.disk import FolderLockedError, lock_holder, locked, write_text
from e2fashion.lifetime import PARENT, signal_of
from e2fashion.training.callbacks import RunInterruptedError
from e2fashion.training.checks import check_run
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)


def train_runs(
    runs: Sequence[PlannedRun],
    catalogue: Catalogue,
    folder: Path,
    reuse: Iterable[Path] = (),
    *,
    jobs: int = 1,
    progress: bool = True,
    after_each: Callable[[], object] = lambda: None,
) -> None:
    """Train and evaluate each run that is not finished.

    A failed run has the reason in its folder and does not stop the others.

    Args:
        runs: the runs to finish.
        catalogue: the training data.
        folder: has reusable finished runs, and gets the logs of ``jobs``.
        reuse: more folders with reusable finished runs.
        jobs: parallel processes, which share the threads.
        progress: show bars.
        after_each: called when a run has ended and others are left.

    Raises:
        FolderLockedError: another process trains some of the runs; all others are done.
        RunInterruptedError: Ctrl-C. A further call resumes; finished runs are not repeated.
    """
    left = [item for item in find_runs(runs, catalogue.fingerprint, folder, reuse) if item.state != "done"]
    busy: list[str] = []
    together = jobs > 1 or any(item.run.config.processes > 1 for item in left)
    ended = train_in_parallel(left, jobs, folder) if together else _train_in_turn(left, progress)
    for number, (item, error) in enumerate(ended, start=1):
        _keep_error(item, error, busy)
        if number < len(left):
            after_each()
    if busy:
        raise FolderLockedError(
            f"{len(busy)} runs are being written by other processes ({'; '.join(busy)}): repeat the command when they "
            "have ended. All others are done."
        )


def run_ablation(
    ablation: Ablation, *, only: Sequence[str] = (), jobs: int = 1, progress: bool = True
) -> list[RowResult]:
    """Train and evaluate every run of an ablation that is not finished yet, and write its report.

    Args:
        ablation: from :func:`~e2fashion.ablation.plan.load_ablation`.
        only: rows (``soft``) or single runs (``soft/seed1``) to train; the report has all finished ones.
        jobs: parallel processes, which share the threads.
        progress: show bars.

    Returns:
        One result per row, in the order of the file; failed runs are in ``errors``.

    Raises:
        E2FashionError: rows or data that do not fit, before anything is trained.
        FolderLockedError: another process runs this ablation, or some of its runs.
        RunInterruptedError: Ctrl-C. A further call resumes; finished runs are not repeated.
    """
    catalogue = Catalogue.load(ablation.data)
    ablation = ablation.on(catalogue.fingerprint)
    chosen = _checked(ablation, catalogue, only)
    # Processes that share the rows of one ablation with `only` share its folder; each run's folder has another lock.
    with locked(ablation.folder, shared=bool(only)):
        try:
            train_runs(
                chosen,
                catalogue,
                ablation.folder,
                ablation.reuse,
                jobs=jobs,
                progress=progress,
                after_each=lambda: _report(ablation, catalogue),
            )
        except (KeyboardInterrupt, SystemExit, RunInterruptedError) as stop:
            command = ["e2fashion", "ablate", *ablation.arguments, *(["--only", ",".join(only)] if only else [])]
            command += ["--jobs", str(jobs)] if jobs > 1 else []
            raise RunInterruptedError(
                f"interrupted; finished runs are kept. Resume with: {shlex.join(command)}", signal_of(stop)
            ) from stop
        return _report(ablation, catalogue)


def describe_ablation(ablation: Ablation, *, only: Sequence[str] = ()) -> str:
    """List the runs of an ablation with their changes, states and estimated times.

    Raises:
        E2FashionError: rows or data that do not fit.
    """
    catalogue = Catalogue.load(ablation.data)
    ablation = ablation.on(catalogue.fingerprint)
    everything = find_runs(ablation.runs, catalogue.fingerprint, ablation.folder, ablation.reuse)
    names = {run.name for run in _checked(ablation, catalogue, only)}
    rates = seconds_per_epoch(everything)
    chosen = [(item, seconds_left(item, rates)) for item in everything if item.run.name in names]
    return list_runs(ablation, chosen)


def _checked(ablation: Ablation, catalogue: Catalogue, only: Sequence[str]) -> tuple[PlannedRun, ...]:
    """The chosen runs, checked against the catalogue and for one machine."""
    chosen = ablation.chosen(only)
    for row, config in {run.row: run.config for run in chosen}.items():
        if config.nodes != 1:
            raise E2FashionError(
                f"row '{row}': nodes is {config.nodes}, but an ablation trains on one machine: leave it out, and "
                "distribute the rows with --only."
            )
        try:
            check_run(config, catalogue)
        except E2FashionError as error:
            raise E2FashionError(f"row '{row}': {error}") from error
    return chosen


def _train_in_turn(left: Iterable[FoundRun], progress: bool) -> Iterator[tuple[FoundRun, str]]:
    """Train and evaluate runs in this process; each with the reason if it failed, else an empty text."""
    for item in left:
        logger.info("%s (%s)", item.run.name, item.state)
        yield item, _train(item, progress)


def _train(item: FoundRun, progress: bool) -> str:
    try:
        train(planned_config(item), progress)
    except RunInterruptedError:
        raise
    except E2FashionError as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
    return ""


def _keep_error(item: FoundRun, error: str, busy: list[str]) -> None:
    file = item.folder.path / ERROR_FILE
    if error and (holder := lock_holder(item.folder.path)) is not None:  # trained by another process
        busy.append(f"{item.run.name} by {holder}")
        return
    if not error:
        file.unlink(missing_ok=True)
        return
    logger.error("%s failed: %s", item.run.name, error.splitlines()[0])
    write_text(file, error + "\n")


def _report(ablation: Ablation, catalogue: Catalogue) -> list[RowResult]:
    """Write the report of all rows so far; returns their results."""
    runs = find_runs(ablation.runs, catalogue.fingerprint, ablation.folder, ablation.reuse)
    results = []
    for row, changes in ablation.changes.items():
        result = RowResult(row, dict(changes))
        for item in (item for item in runs if item.run.row == row):
            if item.state == "failed":
                result.errors[item.run.seed] = item.error
            if item.state != "done":
                continue
            result.folders[item.run.seed] = item.folder.path
            config = planned_config(item)
            records = stored_records(item.folder, config, catalogue.fingerprint, config.evaluate_splits)
            result.records.extend(replace(record, model=row) for record in records)
            record = item.folder.read_record()
            result = replace(result, added_parameters=record.get("added_parameters"), patches=record.get("patches"))
        results.append(result)
    write_report(ablation, results, catalogue.fingerprint)
    return results


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
