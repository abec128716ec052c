"""Rows that an ablation file names: the same runs as ``e2fashion ablate``, as rows of an experiment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from e2fashion.ablation import load_ablation, run_ablation
from e2fashion.ablation.state import find_runs
from e2fashion.data.catalogue import Catalogue
from e2fashion.run_folder import RunFolder
from e2fashion.types import E2FashionError
from experiments._experiment import ROOT, RUN_CONFIGS, Experiment, Recipe

CONFIGS = ROOT / "configs" / "ablation"
EVALUATED = "split=val,test"


def run_ablation_rows(
    experiment: Experiment,
    recipe: Recipe,
    catalogue: Catalogue,
    output: Path,
    seeds: Sequence[int],
    overrides: Sequence[str] = (),
    train: bool = True,
    progress: bool = True,
    jobs: int = 1,
    reuse: Iterable[Path] = (),
    only: Sequence[str] = (),
) -> tuple[dict[str, list[RunFolder]], dict[str, str]]:
    """The run folders of every row with all its seeds, and why a row is not among them.

    The base is the recipe's E2; runs that other experiments have trained, or that lie below the folders of ``reuse``,
    are found by their identity. ``jobs`` runs train side by side; test is read when every run is finished.
    Of rows that ``only`` does not name nothing is trained, read or shown.

    Raises:
        E2FashionError: a row that cannot be built, no row that finished, or with ``train`` False a run that is not
            there.
    """
    words = [
        f"data={catalogue.path}",
        f"base={RUN_CONFIGS / f'{recipe.prefix}_e2.yaml'}",
        f"output={output / 'ablations' / experiment.ablation / catalogue.fingerprint[:12]}",
        f"reuse=[{','.join(map(str, (output / 'runs', output / 'ablations', *reuse)))}]",
        f"seeds=[{','.join(map(str, seeds))}]",
        f"protocols={experiment.protocols}",
        *recipe.overrides,
        *overrides,
    ]
    for place in (output / "runs", output / "ablations"):
        place.mkdir(parents=True, exist_ok=True)
    file = CONFIGS / f"{experiment.ablation}.yaml"
    if train:
        results = run_ablation(file, [*words, "split=val"], only=only, jobs=jobs, progress=progress)
        asked = {item.name for item in load_ablation(file, words).chosen(only)}
        done = [f"{result.name}/seed{seed}" for result in results for seed in result.folders]
        if done := [name for name in done if name in asked]:
            run_ablation(file, [*words, EVALUATED], only=done, progress=progress)
    ablation = load_ablation(file, [*words, EVALUATED]).on(catalogue.fingerprint)
    folders: dict[str, list[RunFolder]] = {}
    chosen = ablation.chosen(only)
    rows = {run.row for run in chosen}
    problems = dict(ablation.left_out) | {run.row: "left out by --only" for run in ablation.runs if run.row not in rows}
    for item in find_runs(ablation, chosen, catalogue.fingerprint):
        title, seed = item.run.row, item.run.seed
        if item.state == "done":
            folders.setdefault(title, []).append(item.folder)
        elif not train:
            raise E2FashionError(
                f"{experiment.name}: row '{title}', seed {seed} has no records at {item.folder.results}. Train it: the "
                "same command without --view."
            )
        else:
            problems[title] = f"seed {seed}: {item.error or item.state}"
    if not folders:
        raise E2FashionError(f"{experiment.name}: no row is finished; {problems}")
    return {title: own for title, own in folders.items() if title not in problems}, problems
