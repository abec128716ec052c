"""Training what an ablation still lacks, one run after the other or side by side; a failed one stops no other."""

from __future__ import annotations

import logging
import shlex
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from e2fashion.ablation.parallel import train_side_by_side
from e2fashion.ablation.plan import Ablation, PlannedRun, load_ablation
from e2fashion.ablation.report import RowResult, list_runs, write_report
from e2fashion.ablation.run import train_run
from e2fashion.ablation.state import (
    ERROR_FILE,
    FoundRun,
    find_runs,
    planned_config,
    records_of_run,
    seconds_left,
    seconds_per_epoch,
)
from e2fashion.data.catalogue import Catalogue
from e2fashion.disk import FolderLockedError, lock_holder, locked, write_text
from e2fashion.lifetime import signal_of
from e2fashion.training.callbacks import RunInterruptedError
from e2fashion.training.checks import check_run
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)


def run_ablation(
    file: str | Path,
    overrides: Sequence[str] = (),
    *,
    only: Sequence[str] = (),
    jobs: int = 1,
    progress: bool = True,
) -> list[RowResult]:
    """Train and evaluate every run of an ablation that is not finished yet, and write its report.

    Args:
        file: an ablation file, as in ``configs/ablation``.
        overrides: ``key=value`` words: ``data=<catalogue>`` (required), ``base=``, ``seeds=``, ``split=``,
            ``output=``, ``reuse=`` and the other keys of :class:`AblationConfig`; every other key
            changes the base, and so all rows (``train.stages.main.epochs=1``).
        only: rows (``soft``) or single runs (``soft/seed1``) to train; the report shows all that are finished.
        jobs: processes that train side by side and share the threads.
        progress: show bars.

    Returns:
        One result per row, in the order of the file. A failed run stands in ``errors`` and stops no other.

    Raises:
        E2FashionError: a mistake in the file, found before anything is trained.
        FolderLockedError: another process runs this ablation, or some of its runs.
        RunInterruptedError: Ctrl-C. Calling again goes on; a finished run is never repeated.
    """
    catalogue, ablation = _load(file, overrides)
    if jobs < 1:
        raise E2FashionError(f"--jobs is {jobs}; give a number from 1.")
    chosen = ablation.chosen(only)
    _check(chosen, catalogue)
    # Those who spread the rows of one sweep with `only` share its folder; a run's own folder has a lock of its own.
    with locked(ablation.folder, shared=bool(only)):
        return _run_alone(ablation, catalogue, chosen, [str(file), *overrides], only, jobs, progress)


def _run_alone(
    ablation: Ablation,
    catalogue: Catalogue,
    chosen: Sequence[PlannedRun],
    words: Sequence[str],
    only: Sequence[str],
    jobs: int,
    progress: bool,
) -> list[RowResult]:
    busy: list[str] = []
    left = [item for item in find_runs(ablation, chosen, catalogue.fingerprint) if item.state != "done"]
    try:
        if jobs > 1 or any(item.run.config.processes > 1 for item in left):
            for item, error in train_side_by_side(left, jobs, ablation.folder):
                _keep_error(item, error, busy)
                _report(ablation, catalogue)
        else:
            for item in left:
                logger.info("%s (%s)", item.run.name, item.state)
                _keep_error(item, _train(item, progress), busy)
                _report(ablation, catalogue)
    except (KeyboardInterrupt, SystemExit, RunInterruptedError) as stop:
        command = ["e2fashion", "ablate", *words, *(["--only", ",".join(only)] if only else [])]
        command += ["--jobs", str(jobs)] if jobs > 1 else []
        raise RunInterruptedError(
            f"interrupted; finished runs are kept. Go on with: {shlex.join(command)}", signal_of(stop)
        ) from stop
    results = _report(ablation, catalogue)
    if busy:
        raise FolderLockedError(
            f"{len(busy)} runs are being written by other processes ({'; '.join(busy)}): repeat the command when these "
            "have ended. All others are done."
        )
    return results


def ablate(
    file: Path,
    overrides: Sequence[str] = (),
    *,
    only: Sequence[str] = (),
    jobs: int = 1,
    dry_run: bool = False,
    progress: bool = True,
) -> tuple[str, bool]:
    """What the command does: the text to show, and whether every run that was asked for is finished."""
    if dry_run:
        catalogue, ablation = _load(file, overrides)
        everything = find_runs(ablation, ablation.runs, catalogue.fingerprint)
        _check(ablation.chosen(only), catalogue)
        names = {run.name for run in ablation.chosen(only)}
        rates = seconds_per_epoch(everything)
        chosen = [(item, seconds_left(item, rates)) for item in everything if item.run.name in names]
        return list_runs(ablation, chosen), True
    results = run_ablation(file, overrides, only=only, jobs=jobs, progress=progress)
    _, ablation = _load(file, overrides)
    asked = {(run.row, run.seed) for run in ablation.chosen(only)}
    failed = any((result.name, seed) in asked for result in results for seed in result.errors)
    return (ablation.folder / "report.md").read_text(encoding="utf-8"), not failed


def _load(file: str | Path, overrides: Sequence[str]) -> tuple[Catalogue, Ablation]:
    ablation = load_ablation(file, overrides)
    catalogue = Catalogue.load(ablation.data)
    return catalogue, ablation.on(catalogue.fingerprint)


def _check(runs: Sequence[PlannedRun], catalogue: Catalogue) -> None:
    for row, config in {run.row: run.config for run in runs}.items():
        if config.nodes != 1:
            raise E2FashionError(
                f"row '{row}': nodes is {config.nodes}, but its run would have to train on one machine: leave it out, "
                "and spread the rows with --only."
            )
        try:
            check_run(config, catalogue)
        except E2FashionError as error:
            raise E2FashionError(f"row '{row}': {error}") from error


def _train(item: FoundRun, progress: bool) -> str:
    """Train and evaluate one run here; why it failed, empty where it did not."""
    try:
        train_run(planned_config(item), progress)
    except RunInterruptedError:
        raise
    except E2FashionError as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
    return ""


def _keep_error(item: FoundRun, error: str, busy: list[str]) -> None:
    file = item.folder.path / ERROR_FILE
    if error and (holder := lock_holder(item.folder.path)) is not None:  # no failure: it is trained elsewhere
        busy.append(f"{item.run.name} by {holder}")
        return
    if not error:
        file.unlink(missing_ok=True)
        return
    logger.error("%s failed: %s", item.run.name, error.splitlines()[0])
    write_text(file, error + "\n")


def _report(ablation: Ablation, catalogue: Catalogue) -> list[RowResult]:
    """Results of all rows as they lie there now, and the report of them."""
    found = find_runs(ablation, ablation.runs, catalogue.fingerprint)
    results = []
    for row, changes in ablation.changes.items():
        result = RowResult(row, dict(changes))
        for item in (item for item in found if item.run.row == row):
            if item.state == "failed":
                result.errors[item.run.seed] = item.error
            if item.state != "done":
                continue
            result.folders[item.run.seed] = item.folder.path
            records = records_of_run(item, catalogue.fingerprint)
            result.records.extend(replace(record, model=row) for record in records)
            record = item.folder.read_record()
            result = replace(result, added_parameters=record.get("added_parameters"), patches=record.get("patches"))
        results.append(result)
    write_report(ablation, results, catalogue.fingerprint)
    return results
