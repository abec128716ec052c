"""Runs of an experiment: those of its rows or of an ablation file, each trained once, and their records."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from e2fashion.ablation.plan import PlannedRun, load_ablation
from e2fashion.ablation.state import find_runs
from e2fashion.ablation.sweep import train_runs
from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.measuring import identity_of
from e2fashion.records import MODEL, latest_records, read_records
from e2fashion.run_folder import RunFolder
from e2fashion.tasks.retrieval.rankings import RETRIEVAL_DIFFERENCE
from e2fashion.training.build import resolve_arithmetic
from e2fashion.training.config import RunConfig
from e2fashion.training.identity import run_identity
from e2fashion.types import E2FashionError, ResultRecord, Split
from experiments.common.experiment import ABLATIONS, UNTRAINED, Experiment, run_config

EVALUATED: tuple[Split, ...] = ("val", "test")
"""The epoch is chosen on val; test is evaluated once, when every run is done."""


@dataclass(frozen=True)
class RunOptions:
    """How the runs of an experiment are made; ``train`` False only looks for finished ones.

    Rows and seeds that are ``recorded`` need no run.
    """

    seeds: Sequence[int]
    overrides: Sequence[str] = ()
    train: bool = True
    progress: bool = True
    jobs: int = 1
    reuse: Sequence[Path] = ()
    only: Sequence[str] = ()
    recorded: Container[tuple[str, int]] = ()


def run_rows(
    experiment: Experiment, prefix: str, catalogue: Catalogue, output: Path, options: RunOptions
) -> tuple[dict[str, list[RunFolder]], dict[str, str]]:
    """The finished run folders of every row, one per seed, and why a row is not among them.

    Finished runs below ``output``, also those of other experiments, and below the folders to reuse are recognized by
    their identity. Test is evaluated when every run is finished.

    Raises:
        E2FashionError: a row that cannot be built; no row that finished; without training, a run that is missing.
    """
    pool = output / "runs"
    planned, problems = _planned(experiment, prefix, catalogue, pool, options)
    shared = [*(folder for folder in (output / "ablations",) if folder.is_dir()), *options.reuse]
    find = partial(find_runs, data_fingerprint=catalogue.fingerprint, pool=pool, reuse=shared)
    if options.train:
        pool.mkdir(parents=True, exist_ok=True)
        train = partial(
            train_runs, catalogue=catalogue, folder=pool, reuse=shared, jobs=options.jobs, progress=options.progress
        )
        on_val = [replace(run, config=replace(run.config, evaluate_splits=["val"])) for run in planned]
        train(on_val)
        done = {item.run.name for item in find(on_val) if item.state == "done"}
        train([run for run in planned if run.name in done])
    folders: dict[str, list[RunFolder]] = {}
    for item in find(planned):
        title, seed = item.run.row, item.run.seed
        if item.state == "done":
            folders.setdefault(title, []).append(item.folder)
        elif not options.train:
            raise E2FashionError(
                f"{experiment.name}: row '{title}', seed {seed} has no records at {item.folder.results}. Train it: the "
                "same command without --view."
            )
        else:
            problems[title] = f"seed {seed}: {item.error or item.state}"
    if not folders and planned:
        raise E2FashionError(f"{experiment.name}: no row is finished; {problems}")
    return {title: finished for title, finished in folders.items() if title not in problems}, problems


def _planned(
    experiment: Experiment, prefix: str, catalogue: Catalogue, pool: Path, options: RunOptions
) -> tuple[list[PlannedRun], dict[str, str]]:
    """The runs of all selected rows, and why others are left out."""
    overrides = [f"data={catalogue.path}", f"protocols={','.join(experiment.protocols)}", *options.overrides]
    if experiment.rows:
        if unknown := [title for title in options.only if title not in experiment.rows]:
            raise E2FashionError(f"{experiment.name} has no row '{unknown[0]}'. Rows: {', '.join(experiment.rows)}.")
        chosen = [
            PlannedRun(title, seed, system_config(prefix, system, [*overrides, f"seed={seed}"]), "")
            for title, system in experiment.rows.items()
            for seed in options.seeds
            if not options.only or title in options.only
        ]
        rows, left_out = list(experiment.rows), {}
    else:
        overrides += [f"base={run_config(prefix, experiment.base)}", f"split={','.join(EVALUATED)}"]
        overrides += [f"seeds=[{','.join(map(str, options.seeds))}]"]
        ablation = load_ablation(ABLATIONS / f"{experiment.ablation}.yaml", overrides)
        chosen = list(ablation.chosen(options.only))
        rows, left_out = list(ablation.changes), dict(ablation.left_out)
    planned = {run.row for run in chosen}
    left_out |= {row: "left out by --only" for row in rows if row not in planned}
    missing = [run for run in chosen if (run.row, run.seed) not in options.recorded]
    return [_in_pool(run, catalogue, pool) for run in missing], left_out


def merged_records(
    files: Sequence[Path], catalogue: Catalogue, splits: Sequence[str], only: Sequence[str]
) -> list[ResultRecord]:
    """Records of earlier calls on this catalogue and these splits, of the rows or runs (``soft/seed1``) in ``only``.

    Pooled differences are left out: they need the runs.

    Raises:
        E2FashionError: a file that does not exist or holds no such record.
    """
    merged: list[ResultRecord] = []
    for file in files:
        records = [
            record
            for record in read_records(file)
            if record.data_fingerprint == catalogue.fingerprint
            and record.split in (*splits, "")
            and record.task != RETRIEVAL_DIFFERENCE.task
            and (not only or {record.model, f"{record.model}/seed{record.seed}"} & set(only))
        ]
        if not records:
            raise E2FashionError(
                f"--merge names {file}, which holds no record of the rows {', '.join(only) or 'of this experiment'} on "
                f"{', '.join(splits)} of {catalogue.path} (fingerprint {catalogue.fingerprint[:12]}): name the records "
                "of an earlier call on the same catalogue."
            )
        merged += records
    return latest_records(merged)


def system_config(prefix: str, system: str, overrides: Sequence[str]) -> RunConfig:
    """The resolved configuration of a system; of an untrained system without epochs."""
    file = run_config(prefix, system)
    overrides = [*overrides, f"evaluate_splits={','.join(EVALUATED)}"]
    config = load_config(RunConfig, file, overrides)
    if system in UNTRAINED:
        stages = [name for name, stage in config.train.stages.items() if stage is not None]
        config = load_config(RunConfig, file, [*overrides, *(f"train.stages.{name}.epochs=0" for name in stages)])
    return resolve_arithmetic(config)[0]


def _in_pool(run: PlannedRun, catalogue: Catalogue, pool: Path) -> PlannedRun:
    """The run in the folder that all experiments with the same run share."""
    identity = run_identity(run.config, catalogue.fingerprint)
    config = replace(run.config, output=str(pool / f"{run.config.name}-{identity}"))
    return replace(run, config=config, identity=identity)


def row_records(folders: dict[str, list[RunFolder]], catalogue: Catalogue, splits: Iterable[str]) -> list[ResultRecord]:
    """The records of every row on ``splits``, with the row's title as ``model``, and one with its parameters."""
    records: list[ResultRecord] = []
    for title, runs in folders.items():
        for folder in runs:
            made = folder.read_record()
            text = load_config(RunConfig, folder.config).text.template
            records += [
                replace(record, model=title)
                for record in read_records(folder.results)
                # The same file holds what `evaluate` measured with other settings.
                if (record.run, record.data_fingerprint) == (made["identity"], catalogue.fingerprint)
                and record.split in splits
                and record.text in ("", text)
                and record.extra.get("precision", "fp32") == "fp32"
            ]
            context = identity_of(made).context(title, "", catalogue.fingerprint)
            records.append(MODEL.record(context, "parameters", made["parameters"]))
    return records
