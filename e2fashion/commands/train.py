"""``train``, ``compare`` and ``ablate``."""

from __future__ import annotations

import shlex
from pathlib import Path

from e2fashion.ablation.config import AblationConfig, CompareConfig, load_comparison
from e2fashion.ablation.plan import Ablation, load_ablation
from e2fashion.commands.registry import SOME_FLAGS, Arguments, Command, Commands, load_run, single_argument
from e2fashion.training.config import RunConfig
from e2fashion.types import E2FashionError

COMMANDS = Commands()


@COMMANDS.add(
    "train",
    "<config.yaml | run folder> data=<catalogue>",
    "train one run, or resume an interrupted one",
    RunConfig,
    load=load_run,
)
def train(config: RunConfig, arguments: Arguments) -> str:
    """Train a run and show its records."""
    from e2fashion.ablation.run import train as train_run
    from e2fashion.records import read_records
    from e2fashion.report import write_tables
    from e2fashion.training.fit import is_first_process

    folder = train_run(config, arguments.progress)
    if not is_first_process():
        return ""
    records = read_records(folder.results) if folder.results.is_file() else []  # nothing was to be measured
    tables = write_tables(records, folder.report)
    return f"{folder.path}: best model in {folder.model}\n\n{tables}"


def _load_comparison(command: Command, arguments: Arguments) -> tuple[CompareConfig, list[RunConfig]]:
    """The configuration of the comparison, and that of each run."""
    if not arguments.positional:
        raise E2FashionError(
            f"Give the configuration files to compare, the baseline first. Usage: e2fashion {command.usage}"
        )
    return load_comparison([Path(file) for file in arguments.positional], arguments.overrides)


@COMMANDS.add(
    "compare",
    "<baseline.yaml> <config.yaml> ... data=<catalogue> output=<folder>",
    "train several runs on one catalogue and write one report",
    CompareConfig,
    load=_load_comparison,
    passed=RunConfig,
)
def compare(config: tuple[CompareConfig, list[RunConfig]], arguments: Arguments) -> str:
    """Train what is missing and show the report."""
    from e2fashion.ablation.run import compare as train_and_compare
    from e2fashion.run_folder import RunFolder
    from e2fashion.training.callbacks import RunInterruptedError

    try:
        records = train_and_compare(*config, progress=arguments.progress)
    except RunInterruptedError as interruption:
        command = shlex.join(["e2fashion", "compare", *arguments.positional, *arguments.overrides])
        raise RunInterruptedError(f"interrupted. Resume with: {command}", interruption.number) from interruption
    return RunFolder(Path(config[0].output)).report.read_text(encoding="utf-8") if records else ""


def _load_ablation(command: Command, arguments: Arguments) -> Ablation:
    """The rows and runs of an ablation file, each checked."""
    return load_ablation(single_argument(command, arguments, "ablation file"), arguments.overrides)


@COMMANDS.add(
    "ablate",
    "<ablation.yaml> data=<catalogue> [--dry-run] [--only ROW] [--jobs N]",
    "train the missing runs of an ablation, every row with every seed, and write its report",
    AblationConfig,
    load=_load_ablation,
    flags=SOME_FLAGS,
    passed=RunConfig,
)
def ablate(config: Ablation, arguments: Arguments) -> tuple[str, int]:
    """Train what is missing and show the report; exit code 1 if a run failed."""
    from e2fashion.ablation.sweep import describe_ablation, run_ablation

    if arguments.dry_run:
        return describe_ablation(config, only=arguments.only), 0
    results = run_ablation(config, only=arguments.only, jobs=arguments.jobs, progress=arguments.progress)
    chosen = {(run.row, run.seed) for run in config.chosen(arguments.only)}
    failed = any((result.name, seed) in chosen for result in results for seed in result.errors)
    return (config.folder / "report.md").read_text(encoding="utf-8"), int(failed)
