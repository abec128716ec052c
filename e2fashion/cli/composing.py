"""``compose``: text-guided image retrieval."""

from __future__ import annotations

from pathlib import Path

from e2fashion.cli.words import Verb, Words, show
from e2fashion.types import E2FashionError


def _compose(words: Words) -> int:
    from e2fashion import runner
    from e2fashion.config import load_config
    from e2fashion.schema import ComposeConfig

    files = [Path(place) for place in words.places if place.endswith((".yaml", ".yml"))]
    models = [place for place in words.places if not place.endswith((".yaml", ".yml"))]
    if not models or len(files) > 1:
        raise E2FashionError(
            "Give at least one model (a run folder, a model folder, or the hub name of a CLIP; the first is what the "
            "others are compared with) and at most one configuration file: e2fashion compose <model> data=<catalogue>."
        )
    named = [f"model={','.join(models)}", *words.overrides]
    config = load_config(ComposeConfig, files[0] if files else None, named)
    show(runner.compose(config, progress=not words.quiet))
    return 0


VERBS: dict[str, Verb] = {
    "compose": Verb(
        "compose [config.yaml] <model> ... data=<catalogue | FashionIQ's folder> task=other_colour arms=image,text,sum",
        "search by a picture and what shall be different from it, with one encoder or several",
        _compose,
        "ComposeConfig",
        page="composed.md",
        argument="model",
    ),
}
