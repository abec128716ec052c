"""The state of planned runs: finished, begun or missing, and estimates of the remaining time."""

from __future__ import annotations

import statistics
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from e2fashion.ablation.plan import PlannedRun
from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.disk import DamagedError
from e2fashion.encoder import Encoder
from e2fashion.evaluation import measure
from e2fashion.measuring import identity_of
from e2fashion.records import append_records, interrupted_measurements, read_records
from e2fashion.run_folder import RunFolder
from e2fashion.tasks.localization.measure import SELECTION
from e2fashion.tasks.retrieval.config import EvaluateConfig
from e2fashion.tasks.retrieval.measure import CANDIDATES
from e2fashion.tasks.retrieval.protocols import COMPARED
from e2fashion.tasks.retrieval.rankings import has_rankings, rankings_file
from e2fashion.training.config import RunConfig
from e2fashion.types import E2FashionError, ResultRecord, Split

TOKENS: Literal["tokens"] = "tokens"
"""The scorer that every run is measured with, where its catalogue has regions."""
#: The error of a failed run, in its folder until it succeeds.
ERROR_FILE = "error.txt"

State = Literal["done", "to evaluate", "partly", "failed", "missing"]


@dataclass(frozen=True)
class FoundRun:
    """A planned run and its state; ``folder`` may be that of another run with the same identity."""

    run: PlannedRun
    folder: RunFolder
    state: State
    seconds: float = 0.0
    error: str = ""


def find_runs(
    runs: Sequence[PlannedRun], data_fingerprint: str, pool: Path, reuse: Iterable[Path] = ()
) -> list[FoundRun]:
    """Find each run in its folder, else a finished one of the same identity anywhere below ``pool`` or ``reuse``.

    Raises:
        E2FashionError: a run's folder holds another run; a folder of ``reuse`` does not exist.
    """
    folders = [*([pool] if pool.is_dir() else []), *reuse]
    elsewhere = finished_runs(folders, {run.identity for run in runs})
    states = []
    for run in runs:
        folder = RunFolder(run.folder)
        identity = folder.read_record().get("identity", run.identity)
        if run.identity in elsewhere and not (identity == run.identity and trained(folder)):
            folder = elsewhere[run.identity]
        elif identity != run.identity and any(
            path.exists() for path in (folder.checkpoints, folder.model, folder.results)
        ):
            raise E2FashionError(
                f"'{folder.path}' holds another run (identity {identity}, this one is {run.identity}): the row, its "
                "base or the data have changed. Choose another folder with output=<folder>, or remove the old one."
            )
        states.append(_found(run, folder, data_fingerprint))
    return states


def finished_runs(folders: Iterable[Path], identities: Container[str] | None = None) -> dict[str, RunFolder]:
    """All finished runs below ``folders``, by identity; ``identities`` are those that are looked for.

    Raises:
        E2FashionError: a folder that does not exist.
    """
    finished: dict[str, RunFolder] = {}
    for file in sorted(_records_below(folders)):
        folder = RunFolder(file.parent)
        identity = folder.read_record().get("identity", "")
        if (identities is None or identity in identities) and identity not in finished and trained(folder):
            finished[identity] = folder
    return finished


def trained(folder: RunFolder) -> bool:
    """Whether every stage of a run is done and its model exists."""
    stages = folder.read_record().get("stages")
    # Folders of other verbs, such as caption decoders, have no stages and another configuration.
    if stages is None or not folder.model.is_dir() or not folder.config.is_file():
        return False
    wanted = load_config(RunConfig, folder.config).train.stages
    return all(stages.get(name, {}).get("done") for name, stage in wanted.items() if stage is not None)


def planned_config(item: FoundRun) -> RunConfig:
    """The configuration of a planned run; a reused one keeps its name and folder, and is only evaluated."""
    if item.folder.path == item.run.folder:
        return item.run.config
    name = load_config(RunConfig, item.folder.config).name
    return replace(item.run.config, name=name, output=str(item.folder.path))


def seconds_per_epoch(runs: Sequence[FoundRun]) -> dict[str, float]:
    """Measured seconds per epoch by row, and their median under ``""``; empty if no run is finished."""
    measured: dict[str, list[float]] = {}
    for item in runs:
        if item.state in ("done", "to evaluate") and (epochs := _epochs(item.run.config)) and item.seconds:
            measured.setdefault(item.run.row, []).append(item.seconds / epochs)
    rates = {row: statistics.median(values) for row, values in measured.items()}
    return rates | {"": statistics.median(rates.values())} if rates else {}


def seconds_left(item: FoundRun, rates: Mapping[str, float]) -> float | None:
    """Estimated remaining seconds of a run; None without any measurement."""
    if item.state in ("done", "to evaluate"):
        return 0.0
    rate = rates.get(item.run.row, rates.get(""))
    return None if rate is None else max(rate * _epochs(item.run.config) - item.seconds, 0.0)


def _found(run: PlannedRun, folder: RunFolder, data_fingerprint: str) -> FoundRun:
    record = folder.read_record()
    stages: dict[str, Any] = record.get("stages", {})
    seconds = sum(stage.get("seconds", 0.0) for stage in stages.values())
    error_file = folder.path / ERROR_FILE
    error = ""
    if error_file.is_file():
        error = error_file.read_text(encoding="utf-8", errors="replace").partition("\n")[0] or f"see {error_file}"
    state: State = "failed" if error else "partly" if stages or folder.checkpoints.is_dir() else "missing"
    if trained(folder):
        try:
            folder.check_finished()
            item = FoundRun(run, folder, "done", seconds)
            state = "done" if _measured(item, data_fingerprint) else "to evaluate"
        except DamagedError as damage:
            state, error = "failed", str(damage)
    return FoundRun(run, folder, state, seconds, error if state == "failed" else "")


def _measured(item: FoundRun, data_fingerprint: str) -> bool:
    config = planned_config(item)
    missing = [
        protocol
        for split in config.evaluate_splits
        for protocol in unmeasured(item.folder, config, data_fingerprint, split)
    ]
    return not set(missing) - {TOKENS}  # which does not exist without known regions


def _records_below(folders: Iterable[Path]) -> list[Path]:
    for folder in folders:
        if not folder.is_dir():
            raise E2FashionError(f"reuse names '{folder}', which is not a folder: give folders with finished runs.")
    return [file for folder in folders for file in folder.rglob("record.json")]


def _epochs(config: RunConfig) -> int:
    return sum(stage.epochs for stage in config.train.stages.values() if stage is not None)


def stored_records(
    folder: RunFolder, config: RunConfig, data_fingerprint: str, splits: Sequence[str]
) -> list[ResultRecord]:
    """The records of a run's protocols and of its selection on ``splits``, with its training preprocessing.

    Records that ``evaluate`` measured with other settings are in the same file and are left out.
    """
    if not folder.results.is_file():
        return []
    of_model = (folder.read_record().get("identity", ""), config.name, data_fingerprint)
    usual: dict[str, Any] = {"image_size": config.image.size, "resize": config.image.resize, "precision": "fp32"}
    usual |= {"candidate_seed": 0, "queries_per_draw": None, "draws": 1, "fill": "report"}
    text, protocols, selection = config.text.template, config.protocols, (SELECTION.task, TOKENS)
    return [
        record
        for record in read_records(folder.results)
        if (record.run, record.model, record.data_fingerprint) == of_model
        and record.split in splits
        and ((record.text == text and record.protocol in protocols) or (record.task, record.protocol) == selection)
        and all(record.extra.get(name, value) == value for name, value in usual.items())
    ]


def unmeasured(folder: RunFolder, config: RunConfig, data_fingerprint: str, split: str) -> list[str]:
    """The run's protocols whose records of ``split`` are missing or damaged in ``results.jsonl``.

    ``full`` and ``full_regions`` also need their rankings; ``tokens`` is the measurement of the selection tokens.
    """
    measured = {record.protocol for record in stored_records(folder, config, data_fingerprint, [split])}
    if folder.results.is_file():
        measured -= {protocol for other, protocol in interrupted_measurements(folder.results) if other == split}
    measured -= {
        protocol
        for protocol in measured & set(COMPARED)
        if not has_rankings(rankings_file(folder.rankings, protocol, split, data_fingerprint))
    }
    return [protocol for protocol in config.protocols if protocol not in measured] + (
        [] if TOKENS in measured else [TOKENS]
    )


def results_of(
    folder: RunFolder,
    encoder: Encoder,
    catalogue: Catalogue,
    config: RunConfig,
    splits: Sequence[Split],
    progress: bool,
) -> list[ResultRecord]:
    """The records of the run's protocols and selection; missing ones are measured first."""
    for split in splits:
        if not (missing := unmeasured(folder, config, catalogue.fingerprint, split)):
            continue
        settings = EvaluateConfig(
            protocol=[protocol for protocol in missing if protocol != TOKENS],
            split=[split],
            selection=[TOKENS] if TOKENS in missing else [],
            batch_size=config.loader.evaluation_batch_size,
            workers=config.loader.workers,
            accelerator=config.accelerator,
        )
        made_by, lists = identity_of(folder.read_record()), folder.path / CANDIDATES
        records = measure(encoder, catalogue, settings, made_by, lists, folder.rankings, progress)
        append_records(folder.results, records, drop_damaged=True)
    return stored_records(folder, config, catalogue.fingerprint, splits)
