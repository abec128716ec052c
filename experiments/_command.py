"""The command line that every experiment has: ``python -m experiments.<name> --data <data set>=<catalogue>``."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from e2fashion.published import PublishedRow, load_published
from e2fashion.terminal import prepare_terminal
from e2fashion.types import E2FashionError
from experiments._data import DATA_SETS, choose_data, load_catalogue, missing_data, parse_data
from experiments._experiment import PUBLISHED, Experiment, Material, Recipe
from experiments._runs import Steering, row_records, run_rows
from experiments._smoke import smoke_catalogue, smoke_overrides
from experiments._tables import RECORDS


def main(experiment: Experiment, arguments: Sequence[str] | None = None) -> int:
    """Run an experiment and name the files it wrote; 0 when done, 1 after an error that the message explains."""
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
        epilog="key=value words change the configuration of every run, as in `accelerator=cpu`.",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of every run")
    parser.add_argument("--data", action="append", default=[], metavar="NAME=CATALOGUE", help=", ".join(DATA_SETS))
    first = next(iter(experiment.recipes))
    parser.add_argument("--scale", default=first, help=f"{' or '.join(experiment.recipes)} (default: {first})")
    parser.add_argument("--smoke", action="store_true", help="two steps of every run on a few drawn garments")
    parser.add_argument("--seeds", default="0", help="seeds of every row, separated by commas (default: 0)")
    parser.add_argument("--output", type=Path, default=Path("runs/experiments"), help="default: runs/experiments")
    parser.add_argument("--records", type=Path, metavar="FILE", help="keep the records there too, as docs/results has")
    parser.add_argument("--view", action="store_true", help="train nothing: draw from the runs that are there")
    if experiment.rows or experiment.ablation:
        parser.add_argument(
            "--reuse", type=Path, action="append", default=[], metavar="FOLDER", help="take finished runs below it"
        )
        parser.add_argument("--jobs", type=int, default=1, help="runs that train side by side (default: 1)")
        parser.add_argument("--only", default="", metavar="ROW", help="these rows alone, separated by commas")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser


def _run(experiment: Experiment, given: argparse.Namespace) -> list[Path]:
    seeds, recipes = _seeds(given.seeds), _recipes(experiment, given.scale)
    if wrong := [word for word in given.overrides if "=" not in word]:
        raise E2FashionError(f"'{wrong[0]}' is neither a flag nor key=value. Help: --help.")
    places = parse_data(given.data)
    raw = {name: places.pop(name) for name in experiment.raw if name in places}
    if given.smoke:
        with tempfile.TemporaryDirectory(prefix="smoke-") as folder:
            if not places:
                places = {"synthfashion": smoke_catalogue(Path(folder) / "catalogue")}
            output = Path(folder) if given.output == Path("runs/experiments") else given.output
            made = _measure(experiment, given, recipes, places, raw, output, seeds)
            files = _kept(made, experiment, given.records)
            print(f"smoke: {experiment.name} ({given.scale}) wrote {len(files)} files")
            return [file for file in files if output == given.output]
    made = _measure(experiment, given, recipes, places, raw, given.output, seeds)
    return _kept(made, experiment, given.records)


def _kept(files: list[Path], experiment: Experiment, records: Path | None) -> list[Path]:
    """The files, with a copy of the view's records at ``records``."""
    if records is None:
        return files
    if not (made := [file for file in files if file.name == RECORDS]):
        raise E2FashionError(f"{experiment.name} keeps no records: leave out --records {records}.")
    records.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(made[0], records)
    return [*files, records]


def _measure(
    experiment: Experiment,
    given: argparse.Namespace,
    recipes: dict[str, Recipe],
    places: dict[str, Path],
    raw: dict[str, Path],
    output: Path,
    seeds: list[int],
) -> list[Path]:
    if not (experiment.rows or experiment.ablation):
        if not places:
            raise E2FashionError(missing_data(experiment.name, list(recipes), given.scale))
        catalogues = {name: load_catalogue(name, place) for name, place in places.items()}
        published = published_rows(experiment, "")
        place = output / experiment.name
        return experiment.view(Material(experiment, place, (), published, catalogues, smoke=given.smoke))
    if given.smoke:
        name = next(iter(places))
        recipe = recipes.get(name) or next(iter(recipes.values()))
        recipe = Recipe(recipe.drawn) if recipe.drawn else recipe
        overrides = smoke_overrides(recipe, given.scale)
    else:
        name = choose_data(experiment.name, list(recipes), places, given.scale)
        recipe, overrides = recipes[name], []
    catalogue = load_catalogue(name, places[name])
    words, progress = [*overrides, *given.overrides], not (given.quiet or given.smoke)
    only = [row.strip() for row in given.only.split(",") if row.strip()]
    steering = Steering(seeds, words, not given.view, progress, given.jobs, given.reuse, only)
    folders, problems = run_rows(experiment, recipe, catalogue, output, steering)
    said = " Two steps on drawn garments: the numbers mean nothing." if given.smoke else ""
    caption = (
        f"{DATA_SETS[name].title} (fingerprint {catalogue.fingerprint[:12]}), scale `{given.scale}`, seeds "
        f"{', '.join(map(str, seeds))}. The epoch was chosen on val.{said}\n"
    )
    caption += "".join(f"\nRow `{title}` is not in the table: {reason}\n" for title, reason in problems.items())
    records = row_records(folders, catalogue, experiment.splits)
    smoke = given.smoke, given.scale
    place, published = output / experiment.name / name, published_rows(experiment, name)
    return experiment.view(
        Material(experiment, place, records, published, {name: catalogue}, folders, raw, caption, *smoke)
    )


def published_rows(experiment: Experiment, data: str) -> list[PublishedRow]:
    """The published rows of an experiment's table on a data set."""
    table = experiment.other_tables.get(data, experiment.table)
    return [row for row in load_published(PUBLISHED) if table in row.tables]


def _seeds(words: str) -> list[int]:
    parts = [part.strip() for part in words.split(",") if part.strip()]
    if not parts or not all(part.isdigit() for part in parts) or len(set(parts)) < len(parts):
        raise E2FashionError(f"--seeds is '{words}'; give different whole numbers, as in --seeds 0,1,2.")
    return [int(part) for part in parts]


def _recipes(experiment: Experiment, scale: str) -> dict[str, Recipe]:
    if scale not in experiment.recipes:
        raise E2FashionError(f"--scale is '{scale}'; {experiment.name} has: {', '.join(experiment.recipes)}.")
    return dict(experiment.recipes[scale])
