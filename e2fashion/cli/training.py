"""``train``, ``compare`` and ``ablate``: what makes models."""

from __future__ import annotations

from pathlib import Path

from e2fashion.cli.words import OWN_FLAGS, Verb, Words, one_place, show
from e2fashion.types import E2FashionError


def _train(words: Words) -> int:
    from e2fashion import runner
    from e2fashion.schema import RunConfig
    from e2fashion.training.run_configs import config_of_place

    place = Path(one_place(words, "configuration file, or the folder of a run to go on with"))
    config_of_place(RunConfig, place, words.overrides)  # so that a mistake is reported before PyTorch is imported
    show(runner.train(place, words.overrides, progress=not words.quiet))
    return 0


def _compare(words: Words) -> int:
    from e2fashion import runner
    from e2fashion.training.run_configs import load_comparison

    if not words.places:
        raise E2FashionError("Give the configuration files to compare, the baseline first.")
    files = [Path(place) for place in words.places]
    load_comparison(files, words.overrides)  # as above
    show(runner.compare(files, words.overrides, progress=not words.quiet))
    return 0


def _ablate(words: Words) -> int:
    from e2fashion import ablation

    file = Path(one_place(words, "ablation file"))
    ablation.load_ablation(file, words.overrides)  # as above
    text, finished = ablation.ablate(
        file,
        words.overrides,
        only=words.only,
        jobs=words.jobs,
        dry_run=words.dry_run,
        progress=not words.quiet,
    )
    show(text)
    return 0 if finished else 1


VERBS: dict[str, Verb] = {
    "train": Verb(
        "train <config.yaml | run folder> data=<catalogue>",
        "train one run, or go on with one that was interrupted",
        _train,
        "RunConfig",
    ),
    "compare": Verb(
        "compare <baseline.yaml> <config.yaml> ... data=<catalogue> output=<folder>",
        "train several runs on one catalogue and write one report",
        _compare,
        "CompareConfig",
        passed="RunConfig",
    ),
    "ablate": Verb(
        "ablate <ablation.yaml> data=<catalogue> [--dry-run] [--only ROW] [--jobs N]",
        "train what an ablation lacks, every row with every seed, and write its report",
        _ablate,
        "AblationConfig",
        OWN_FLAGS,
        passed="RunConfig",
    ),
}
