"""Runs of an experiment: the rows that it lists or an ablation file names, each finished once, read into records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from e2fashion.ablation.plan import PlannedRun, load_ablation
from e2fashion.ablation.state import find_runs
from e2fashion.ablation.sweep import train_runs
from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.records import MODEL, RunIdentity, read_records
from e2fashion.run_folder import RunFolder
from e2fashion.training.build import resolve_arithmetic
from e2fashion.training.config import RunConfig, run_identity
from e2fashion.types import E2FashionError, ResultRecord, Split
from experiments._experiment import ROOT, RUN_CONFIGS, Experiment, Recipe, Row

CONFIGS = ROOT / "configs" / "ablation"
EVALUATED: tuple[Split, ...] = ("val", "test")
"""The epoch is chosen on val; test is read once, when every run is done."""


@dataclass(frozen=True)
class Steering:
    """How the runs of an experiment are made; ``train`` False only looks for finished ones."""

    seeds: Sequence[int]
    overrides: Sequence[str] = ()
    train: bool = True
    progress: bool = True
    jobs: int = 1
    reuse: Sequence[Path] = ()
    only: Sequence[str] = ()


def run_rows(
    experiment: Experiment, recipe: Recipe, catalogue: Catalogue, output: Path, steering: Steering
) -> tuple[dict[str, list[RunFolder]], dict[str, str]]:
    """The finished run folders of every row, one per seed, and why a row is not among them.

    Finished runs below ``output``, also those of other experiments, and below the folders to reuse are found by their
    identity. Test is read when every run is finished.

    Raises:
        E2FashionError: a row that cannot be built; no row that finished; without training, a run that is not there.
    """
    pool = output / "runs"
    planned, problems = _planned(experiment, recipe, catalogue, pool, steering)
    shared = [*(place for place in (output / "ablations",) if place.is_dir()), *steering.reuse]
    if steering.train:
        pool.mkdir(parents=True, exist_ok=True)
        train = partial(
            train_runs, catalogue=catalogue, folder=pool, reuse=shared, jobs=steering.jobs, progress=steering.progress
        )
        done = {item.run.name for item in train([_evaluated(run, "val") for run in planned]) if item.state == "done"}
        train([run for run in planned if run.name in done])
    found = find_runs(planned, catalogue.fingerprint, [*([pool] if pool.is_dir() else []), *shared])
    folders: dict[str, list[RunFolder]] = {}
    for item in found:
        title, seed = item.run.row, item.run.seed
        if item.state == "done":
            folders.setdefault(title, []).append(item.folder)
        elif not steering.train:
            raise E2FashionError(
                f"{experiment.name}: row '{title}', seed {seed} has no records at {item.folder.results}. Train it: the "
                "same command without --view."
            )
        else:
            problems[title] = f"seed {seed}: {item.error or item.state}"
    if not folders:
        raise E2FashionError(f"{experiment.name}: no row is finished; {problems}")
    return {title: found for title, found in folders.items() if title not in problems}, problems


def _planned(
    experiment: Experiment, recipe: Recipe, catalogue: Catalogue, pool: Path, steering: Steering
) -> tuple[list[PlannedRun], dict[str, str]]:
    """The runs of all rows that are wanted, and why others are left out."""
    words = [
        f"data={catalogue.path}",
        f"protocols={','.join(experiment.protocols)}",
        *recipe.overrides,
        *steering.overrides,
    ]
    if not experiment.ablation:
        titles = [row.title for row in experiment.rows]
        if unknown := [title for title in steering.only if title not in titles]:
            raise E2FashionError(f"{experiment.name} has no row '{unknown[0]}'. Rows: {', '.join(titles)}.")
        runs = [
            PlannedRun(row.title, seed, row_config(row, recipe, [*words, f"seed={seed}"]), "")
            for row in experiment.rows
            for seed in steering.seeds
            if not steering.only or row.title in steering.only
        ]
        left_out = [title for title in titles if steering.only and title not in steering.only]
        return [_placed(run, catalogue, pool) for run in runs], dict.fromkeys(left_out, "left out by --only")
    words += [f"base={RUN_CONFIGS / f'{recipe.prefix}_e2.yaml'}", f"split={','.join(EVALUATED)}"]
    words += [f"seeds=[{','.join(map(str, steering.seeds))}]"]
    ablation = load_ablation(CONFIGS / f"{experiment.ablation}.yaml", words)
    chosen = ablation.chosen(steering.only)
    rows = {run.row for run in chosen}
    problems = dict(ablation.left_out)
    problems |= {run.row: "left out by --only" for run in ablation.runs if run.row not in rows}
    return [_placed(run, catalogue, pool) for run in chosen], problems


def row_config(row: Row, recipe: Recipe, words: Sequence[str]) -> RunConfig:
    """The resolved configuration of one row; ``words`` come before the row's overrides, which make the row."""
    file = RUN_CONFIGS / f"{recipe.prefix}_{row.system}.yaml"
    words = [*words, *row.overrides, f"evaluate_splits={','.join(EVALUATED)}"]
    config = load_config(RunConfig, file, words)
    if not row.trained:
        stages = [name for name, stage in config.train.stages.items() if stage is not None]
        config = load_config(RunConfig, file, [*words, *(f"train.stages.{name}.epochs=0" for name in stages)])
    return resolve_arithmetic(config)[0]


def _placed(run: PlannedRun, catalogue: Catalogue, pool: Path) -> PlannedRun:
    """The run in the folder that all experiments which need the same one share."""
    identity = run_identity(run.config, catalogue.fingerprint)
    config = replace(run.config, output=str(pool / f"{run.config.name}-{identity}"))
    return replace(run, config=config, identity=identity)


def _evaluated(run: PlannedRun, split: Split) -> PlannedRun:
    return replace(run, config=replace(run.config, evaluate_splits=[split]))


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
                # What `evaluate` measured in another way stands in the same file.
                if (record.run, record.data_fingerprint) == (made["identity"], catalogue.fingerprint)
                and record.split in splits
                and record.text in ("", text)
                and record.extra.get("precision", "fp32") == "fp32"
            ]
            identity = RunIdentity(made["identity"], made.get("commit") or "", made["seed"])
            context = identity.context(title, "", catalogue.fingerprint)
            records.append(MODEL.record(context, "parameters", made["parameters"]))
    return records
