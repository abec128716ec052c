"""``caption train``, ``caption run`` and ``caption evaluate``."""

from __future__ import annotations

from pathlib import Path

from e2fashion.cli.words import Verb, Words, one_place, show
from e2fashion.types import E2FashionError


def _train(words: Words) -> int:
    from e2fashion import runner
    from e2fashion.schema import CaptionTrainConfig
    from e2fashion.training.run_configs import config_of_place

    place = Path(one_place(words, "configuration file, or the folder of a decoder to go on with"))
    config_of_place(CaptionTrainConfig, place, words.overrides)  # a mistake is reported before PyTorch is imported
    show(runner.caption_train(place, words.overrides, progress=not words.quiet))
    return 0


def _run(words: Words) -> int:
    from e2fashion import runner
    from e2fashion.config import load_config
    from e2fashion.schema import CaptionRunConfig

    if len(words.places) < 2:
        raise E2FashionError("Give a decoder's folder, then pictures or folders of pictures.")
    decoder, *pictures = words.places
    config = load_config(CaptionRunConfig, None, [f"decoder={decoder}", *words.overrides])
    show(runner.caption_run(config, [Path(picture) for picture in pictures], progress=not words.quiet))
    return 0


def _evaluate(words: Words) -> int:
    from e2fashion import runner
    from e2fashion.config import load_config
    from e2fashion.schema import CaptionEvaluateConfig

    place = one_place(words, "folder of a trained decoder")
    config = load_config(CaptionEvaluateConfig, None, [f"decoder={place}", *words.overrides])
    show(runner.caption_evaluate(config, progress=not words.quiet))
    return 0


VERBS: dict[str, Verb] = {
    "caption train": Verb(
        "caption train <config.yaml | decoder folder> encoder=<model> data=<catalogue>",
        "teach a caption decoder from texts alone (DeCap, CapDec), or go on with one",
        _train,
        "CaptionTrainConfig",
        page="captioning.md",
    ),
    "caption run": Verb(
        "caption run <decoder folder> <picture or folder> ... [reading=project] [output=<file.csv>]",
        "tell pictures with a trained decoder",
        _run,
        "CaptionRunConfig",
        page="captioning.md",
        argument="decoder",
    ),
    "caption evaluate": Verb(
        "caption evaluate <decoder folder> data=<catalogue> split=test reading=direct,nearest,project",
        "measure captions of a split: BLEU, METEOR, ROUGE-L, CIDEr-D beside baselines",
        _evaluate,
        "CaptionEvaluateConfig",
        page="captioning.md",
        argument="decoder",
    ),
}
