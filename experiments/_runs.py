"""Runs of an experiment: each row and seed trained once, found again by its identity, read into records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from e2fashion.ablation.run import train_run
from e2fashion.ablation.state import finished_runs, trained
from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.records import MODEL, RunIdentity, read_records
from e2fashion.run_folder import RunFolder
from e2fashion.training.build import resolve_arithmetic
from e2fashion.training.config import RunConfig, run_identity
from e2fashion.types import E2FashionError, ResultRecord
from experiments._experiment import RUN_CONFIGS, Experiment, Recipe, Row

EVALUATED = "val,test"  # the epoch is chosen on val; test is read once, when every run is done


def row_config(row: Row, recipe: Recipe, catalogue: Path, seed: int, overrides: Sequence[str]) -> RunConfig:
    """The resolved configuration of one row; ``overrides`` come before the row's own, which make the row."""
    file = RUN_CONFIGS / f"{recipe.prefix}_{row.system}.yaml"
    words = [f"data={catalogue}", *recipe.overrides, *overrides, *row.overrides, f"seed={seed}"]
    words += [f"evaluate_splits={EVALUATED}"]
    config = load_config(RunConfig, file, words)
    if row.trained:
        return resolve_arithmetic(config)[0]
    untrained = [f"train.stages.{name}.epochs=0" for name, stage in config.train.stages.items() if stage is not None]
    return resolve_arithmetic(load_config(RunConfig, file, [*words, *untrained]))[0]


def row_folder(config: RunConfig, catalogue: Catalogue, pool: Path) -> RunFolder:
    """Where a run lies: experiments that need the same run share it."""
    return RunFolder(pool / f"{config.name}-{run_identity(config, catalogue.fingerprint)}")


def run_rows(
    experiment: Experiment,
    recipe: Recipe,
    catalogue: Catalogue,
    pool: Path,
    seeds: Sequence[int],
    overrides: Sequence[str] = (),
    train: bool = True,
    progress: bool = True,
    reuse: Iterable[Path] = (),
) -> dict[str, list[RunFolder]]:
    """The finished run folders of every row, one per seed; what is neither there nor below ``reuse`` is trained.

    Raises:
        E2FashionError: with ``train`` False, a run that is not there; a folder of ``reuse`` that does not exist.
    """
    elsewhere = finished_runs(reuse)
    planned: list[tuple[str, RunConfig]] = []
    for row in experiment.rows:
        for seed in seeds:
            config = row_config(row, recipe, catalogue.path, seed, overrides)
            folder = row_folder(config, catalogue, pool)
            if not trained(folder):
                folder = elsewhere.get(run_identity(config, catalogue.fingerprint), folder)
            name = load_config(RunConfig, folder.config).name if folder.config.is_file() else config.name
            planned.append(
                (row.title, replace(config, name=name, output=str(folder.path), protocols=experiment.protocols))
            )
    # Test is read when every run is finished.
    for splits in ("val", EVALUATED) if train else ():
        for _, config in planned:
            train_run(replace(config, evaluate_splits=splits), progress)
    folders: dict[str, list[RunFolder]] = {}
    for title, config in planned:
        folder = RunFolder(Path(config.output))
        if not folder.results.is_file():
            raise E2FashionError(
                f"{experiment.name}: row '{title}', seed {config.seed} has no records at {folder.results}. Train it: "
                "the same command without --view."
            )
        folders.setdefault(title, []).append(folder)
    return folders


def row_records(folders: dict[str, list[RunFolder]], catalogue: Catalogue, splits: Sequence[str]) -> list[ResultRecord]:
    """The records of every row on ``splits``, with the row's title as ``model``, and one with its parameters."""
    records: list[ResultRecord] = []
    for title, runs in folders.items():
        for folder in runs:
            made = folder.read_record()
            text = load_config(RunConfig, folder.config).text.template
            measured = [
                replace(record, model=title)
                for record in read_records(folder.results)
                # What `evaluate` measured in another way stands in the same file.
                if (record.run, record.data_fingerprint) == (made["identity"], catalogue.fingerprint)
                and record.split in splits
                and record.text in ("", text)
                and record.extra.get("precision", "fp32") == "fp32"
            ]
            records += measured
            records.append(
                MODEL.record(
                    RunIdentity(made["identity"], made.get("commit") or "", made["seed"]).context(
                        title, "", catalogue.fingerprint
                    ),
                    "parameters",
                    made["parameters"],
                )
            )
    return records
