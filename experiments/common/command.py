"""The command line of every experiment: ``python -m experiments.<name> --data <data set>=<catalogue>``."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from e2fashion.data.config import Preparation, build_source
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.published import PublishedRow, load_published
from e2fashion.terminal import prepare_terminal
from e2fashion.types import E2FashionError
from experiments.common.experiment import (
    DATA_SETS,
    PUBLISHED,
    Experiment,
    Material,
    choose_data,
    load_catalogue,
    missing_data,
    parse_data,
)
from experiments.common.runs import RunOptions, merged_records, row_records, run_rows
from experiments.common.tables import RECORDS

OUTPUT = Path("runs/experiments")

#: Of ``--smoke``: two steps of every run show that an experiment fits together, and nothing else.
SMOKE_SOURCE = {"products": 40, "image_size": 32, "views": 1, "seed": 0}
SMOKE_DEPTH = {"paper": 12, "small": 6, "pretrained": 6}
"""Layers of the image towers that the recipes' fusion layers count."""
SMOKE_PREFIX = {"kagl_small": "quickstart", "kagl_pretrained": "quickstart"}
"""Recipes whose entities drawn garments lack, and those that are run instead."""
SMOKE_OVERRIDES = (
    "accelerator=cpu",
    "logging={to: [], figures_every: 0}",
    "model.checkpoint=null",
    "model.scratch={text: {layers: 1, width: 16, heads: 2}, patch_size: 8, projection_dim: 8, tokenizer: word}",
    "image.size=32",
    "loader={batch_size: 16, workers: 0}",
    "train.precision=fp32",
)
"""Towers of the recipe's depth and next to no width; batches of which an epoch has two."""


def main(experiment: Experiment, arguments: Sequence[str] | None = None) -> int:
    """Run an experiment and print the files it wrote; 0 when done, 1 after an error that the message explains."""
    given = _parser(experiment).parse_intermixed_args(arguments)
    prepare_terminal()
    try:
        for file in _run(experiment, given):
            print(file)
    except E2FashionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def run(experiment: Experiment, *arguments: str) -> list[Path]:
    """The files of ``main`` for callers from Python; a mistake is raised."""
    return _run(experiment, _parser(experiment).parse_intermixed_args(arguments))


def _parser(experiment: Experiment) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m experiments.{experiment.name}",
        description=experiment.title,
        epilog="key=value arguments change the configuration of every run, as in `accelerator=cpu`.",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of every run")
    parser.add_argument("--data", action="append", default=[], metavar="NAME=CATALOGUE", help=", ".join(DATA_SETS))
    first = next(iter(experiment.recipes))
    parser.add_argument("--scale", default=first, help=f"{' or '.join(experiment.recipes)} (default: {first})")
    parser.add_argument("--smoke", action="store_true", help="two steps of every run on a few drawn garments")
    parser.add_argument("--seeds", default="0", help="seeds of every row, separated by commas (default: 0)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"default: {OUTPUT}")
    parser.add_argument("--records", type=Path, metavar="FILE", help="write the records there too, as in docs/results")
    parser.add_argument("--view", action="store_true", help="train nothing: draw from the finished runs")
    if experiment.has_runs:
        parser.add_argument(
            "--reuse", type=Path, action="append", default=[], metavar="FOLDER", help="use finished runs below it"
        )
        parser.add_argument(
            "--merge",
            type=Path,
            action="append",
            default=[],
            metavar="FILE",
            help="take rows and seeds from the records of earlier calls, without their runs",
        )
        parser.add_argument("--baseline", metavar="ROW", help="row to compare with (default: the experiment's)")
        parser.add_argument("--jobs", type=int, default=1, help="runs that train in parallel (default: 1)")
        parser.add_argument("--only", default="", metavar="ROW", help="these rows alone, separated by commas")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser


def _run(experiment: Experiment, given: argparse.Namespace) -> list[Path]:
    given.seeds = _seeds(given.seeds)
    if given.scale not in experiment.recipes:
        raise E2FashionError(f"--scale is '{given.scale}'; {experiment.name} has: {', '.join(experiment.recipes)}.")
    if wrong := [argument for argument in given.overrides if "=" not in argument]:
        raise E2FashionError(f"'{wrong[0]}' is neither a flag nor key=value. Help: --help.")
    data = parse_data(given.data)
    raw = {name: data.pop(name) for name in experiment.raw if name in data}
    with tempfile.TemporaryDirectory(prefix="smoke-") if given.smoke else nullcontext() as folder:
        output = given.output
        if folder is not None:
            data = data or {"synthfashion": smoke_catalogue(Path(folder) / "catalogue")}
            output = Path(folder) if output == OUTPUT else output
        measure = _measure_runs if experiment.has_runs else _measure_catalogues
        files = measure(experiment, given, data, raw, output)
        if given.records is not None:
            files.append(_copied_records(files, experiment, given.records))
        if folder is not None:
            print(f"smoke: {experiment.name} ({given.scale}) wrote {len(files)} files")
        return files if output == given.output else []


def _copied_records(files: list[Path], experiment: Experiment, target: Path) -> Path:
    if not (written := [file for file in files if file.name == RECORDS]):
        raise E2FashionError(f"{experiment.name} keeps no records: leave out --records {target}.")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(written[0], target)
    return target


def _measure_catalogues(
    experiment: Experiment, given: argparse.Namespace, data: dict[str, Path], raw: dict[str, Path], output: Path
) -> list[Path]:
    if not data:
        raise E2FashionError(missing_data(experiment.name, list(experiment.recipes[given.scale]), given.scale))
    catalogues = {name: load_catalogue(name, folder) for name, folder in data.items()}
    published, folder = published_rows(experiment, ""), output / experiment.name
    return experiment.view(Material(experiment, folder, (), published, catalogues, raw=raw, smoke=given.smoke))


def _measure_runs(
    experiment: Experiment, given: argparse.Namespace, data: dict[str, Path], raw: dict[str, Path], output: Path
) -> list[Path]:
    recipes, overrides, note = experiment.recipes[given.scale], list(given.overrides), ""
    if given.smoke:
        name = next(iter(data))
        prefix = recipes.get(name, next(iter(recipes.values())))
        prefix = SMOKE_PREFIX.get(prefix, prefix)
        overrides = [*smoke_overrides(prefix, given.scale), *overrides]
        note = " Two steps on drawn garments: the numbers mean nothing."
    else:
        name = choose_data(experiment.name, list(recipes), data, given.scale)
        prefix = recipes[name]
    catalogue = load_catalogue(name, data[name])
    only = [row.strip() for row in given.only.split(",") if row.strip()]
    merged = merged_records(given.merge, catalogue, experiment.splits, only)
    experiment = replace(experiment, baseline=given.baseline or experiment.baseline)
    options = RunOptions(
        seeds=given.seeds,
        overrides=overrides,
        train=not given.view,
        progress=not (given.quiet or given.smoke),
        jobs=given.jobs,
        reuse=given.reuse,
        only=only,
        recorded={(record.model, record.seed) for record in merged},
    )
    folders, problems = run_rows(experiment, prefix, catalogue, output, options)
    if given.baseline and given.baseline not in folders:
        raise E2FashionError(f"--baseline is '{given.baseline}'; rows with runs here: {', '.join(folders) or 'none'}.")
    caption = (
        f"{DATA_SETS[name].title} (fingerprint {catalogue.fingerprint[:12]}), scale `{given.scale}`, seeds "
        f"{', '.join(map(str, given.seeds))}. The epoch was chosen on val.{note}\n"
    )
    for reason in dict.fromkeys(problems.values()):
        rows = ", ".join(f"`{title}`" for title in problems if problems[title] == reason)
        caption += f"\nNot in the table: {rows}: {reason}\n"
    return experiment.view(
        Material(
            experiment,
            output / experiment.name / name,
            [*row_records(folders, catalogue, experiment.splits), *merged],
            published_rows(experiment, name),
            {name: catalogue},
            folders,
            raw,
            caption,
            given.smoke,
            given.scale,
            merged,
        )
    )


def published_rows(experiment: Experiment, data: str) -> list[PublishedRow]:
    """The published rows of an experiment's table on a data set."""
    table = experiment.other_tables.get(data, experiment.table)
    return [row for row in load_published(PUBLISHED) if table in row.tables]


def smoke_overrides(prefix: str, scale: str) -> list[str]:
    """Overrides that make a recipe's runs tiny; rows still change what they compare."""
    stages = ("new_parameters", "everything") if prefix in ("fashiongen", "amazon") else ("main",)
    epochs = [f"train.stages.{stage}.epochs=1" for stage in stages]
    vision = f"model.scratch.vision={{layers: {SMOKE_DEPTH[scale]}, width: 16, heads: 2}}"
    return [*SMOKE_OVERRIDES, vision, *epochs]


def smoke_catalogue(folder: Path) -> Path:
    """Forty garments of 32 px: 24 to train."""
    source = build_source("synthetic", SMOKE_SOURCE)
    return prepare_catalogue(source, folder, Preparation(val_fraction=0.2, test_fraction=0.2), progress=False).path


def _seeds(given: str) -> list[int]:
    parts = [part.strip() for part in given.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise E2FashionError(f"--seeds is '{given}'; give different whole numbers, as in --seeds 0,1,2.")
    return [int(part) for part in parts]
