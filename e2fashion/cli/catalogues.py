"""``data prepare``, ``data describe`` and ``data check``."""

from __future__ import annotations

from pathlib import Path

from e2fashion.cli.words import Verb, Words, one_place, show
from e2fashion.types import E2FashionError

UNFIT = 3
"""Exit code of ``data check`` when findings are at least as grave as ``fail_on``; errors stay 1."""


def _data_prepare(words: Words) -> int:
    from e2fashion import runner
    from e2fashion.config import load_prepare_config
    from e2fashion.data.sources import SOURCES
    from e2fashion.training.run_configs import source_options

    if not 1 <= len(words.places) <= 2:
        raise E2FashionError(
            "Say what to prepare: `e2fashion data prepare <source> [config.yaml] path=<where it lies> "
            "output=<catalogue>`, or a configuration file that names its source."
        )
    file = next((Path(place) for place in words.places if place.endswith((".yaml", ".yml"))), None)
    named = [f"source={place}" for place in words.places if not place.endswith((".yaml", ".yml"))]
    config, options = load_prepare_config(file, [*named, *words.overrides], SOURCES)
    source_options(config.source, options)  # so that a mistake is reported before PyTorch is imported
    show(runner.prepare(config, options, progress=not words.quiet))
    return 0


def _data_describe(words: Words) -> int:
    from e2fashion import runner
    from e2fashion.config import load_config
    from e2fashion.schema import DescribeConfig

    place = one_place(words, "catalogue folder")
    show(runner.describe(load_config(DescribeConfig, None, [f"catalogue={place}", *words.overrides])))
    return 0


def _data_check(words: Words) -> int:
    from e2fashion import runner
    from e2fashion.config import load_config
    from e2fashion.schema import CheckConfig

    files = [place for place in words.places if place.endswith((".yaml", ".yml"))]
    named = [f"data={place}" for place in words.places if place not in files]
    if len(files) > 1 or len(named) > 1:
        raise E2FashionError(f"Give one catalogue and at most one configuration file; got {', '.join(words.places)}.")
    config = load_config(CheckConfig, files[0] if files else None, [*named, *words.overrides])
    text, fit = runner.check(config, progress=not words.quiet)
    show(text)
    return 0 if fit else UNFIT


VERBS: dict[str, Verb] = {
    "data prepare": Verb(
        "data prepare <source> [config.yaml] path=... output=<catalogue> [on_error=skip]",
        "turn a source (kagl, fashiongen, fashion_iq, folder, hub, labelled, synthetic ...) into a catalogue",
        _data_prepare,
        "PrepareConfig",
        page="data.md",
        argument="source",
    ),
    "data describe": Verb(
        "data describe <catalogue> [tokenizer=<model>] [template=...]",
        "count what a catalogue holds",
        _data_describe,
        "DescribeConfig",
        page="data.md",
        argument="catalogue",
    ),
    "data check": Verb(
        "data check [config.yaml] <catalogue> [fail_on=look|leak|broken|never]",
        "say whether a catalogue is fit: duplicates, leaks, damage, spellings, skew, long texts (exit code 3 if not)",
        _data_check,
        "CheckConfig",
        page="data_check.md",
        argument="data",
    ),
}
