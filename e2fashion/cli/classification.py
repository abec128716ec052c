"""``classify``, ``tags fit``, ``tags predict`` and ``explain``: names and tags of pictures, and why."""

from __future__ import annotations

from pathlib import Path

from e2fashion.cli.words import Verb, Words, one_place, show
from e2fashion.types import E2FashionError

MODEL = "model: a run folder, a model folder, or the hub name of a CLIP"


def _classify(words: Words) -> int:
    from e2fashion import runner
    from e2fashion.config import load_config
    from e2fashion.schema import ClassifyConfig

    files = [place for place in words.places if place.endswith((".yaml", ".yml"))]
    models = [place for place in words.places if place not in files]
    if len(models) != 1 or len(files) > 1:
        raise E2FashionError(
            f"Give one {MODEL}, and at most one configuration file; got {', '.join(words.places) or 'nothing'}."
        )
    file = Path(files[0]) if files else None
    config = load_config(ClassifyConfig, file, [f"model={models[0]}", *words.overrides])
    show(runner.classify(config, progress=not words.quiet))
    return 0


def _tags_fit(words: Words) -> int:
    from e2fashion import runner
    from e2fashion.config import load_config
    from e2fashion.schema import TagsFitConfig

    config = load_config(TagsFitConfig, None, [f"model={one_place(words, MODEL)}", *words.overrides])
    show(runner.tags_fit(config, progress=not words.quiet))
    return 0


def _tags_predict(words: Words) -> int:
    from e2fashion import runner
    from e2fashion.config import load_config
    from e2fashion.schema import TagsPredictConfig

    if len(words.places) < 2:
        raise E2FashionError(f"Give one {MODEL}, then one picture or more; got {', '.join(words.places) or 'nothing'}.")
    model, *pictures = words.places
    show(runner.tags_predict(load_config(TagsPredictConfig, None, [f"model={model}", *words.overrides]), pictures))
    return 0


def _explain(words: Words) -> int:
    from e2fashion import runner
    from e2fashion.config import load_config
    from e2fashion.schema import ExplainConfig

    if not 1 <= len(words.places) <= 2:
        raise E2FashionError(f"Give one {MODEL}, and at most one picture; got {', '.join(words.places) or 'nothing'}.")
    if any(word.partition("=")[0] == "text" and not word.partition("=")[2].strip() for word in words.overrides):
        raise E2FashionError("a text is empty: say what is to be found, as in text='a red logo', or leave text out.")
    places = [f"{key}={place}" for key, place in zip(("model", "image"), words.places, strict=False)]
    show(runner.explain(load_config(ExplainConfig, None, [*places, *words.overrides])))
    return 0


VERBS: dict[str, Verb] = {
    "classify": Verb(
        "classify <model> [config.yaml] data=<catalogue> column=<tag> features=global split=test",
        "name products without training on the names: accuracy, F1, confusion figure",
        _classify,
        "ClassifyConfig",
        page="classification.md",
        argument="model",
    ),
    "tags fit": Verb(
        "tags fit <model> data=<catalogue> [columns=brand,season] [accuracy=0.9]",
        "choose on val when a model answers with a tag, and measure it on test",
        _tags_fit,
        "TagsFitConfig",
        page="classification.md",
        argument="model",
    ),
    "tags predict": Verb(
        "tags predict <model> <picture> ... [threshold=0]",
        "predict the tags of pictures, or say that the model is not sure",
        _tags_predict,
        "TagsPredictConfig",
        page="classification.md",
        argument="model",
    ),
    "explain": Verb(
        "explain <model> [<picture>] [text=...] [data=<catalogue> product_id=...]",
        "draw where a model looks in a picture: stripe occlusion, selection maps, attention",
        _explain,
        "ExplainConfig",
        page="explaining.md",
        argument="model",
    ),
}
