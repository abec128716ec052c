"""``evaluate``, ``probe`` and ``report``: what measures models and shows what was measured."""

from __future__ import annotations

from pathlib import Path

from e2fashion.cli.words import Verb, Words, one_place, show


def _evaluate(words: Words) -> int:
    from e2fashion import runner
    from e2fashion.config import load_config
    from e2fashion.schema import EvaluateConfig

    place = one_place(words, "model: a run folder, a model folder, or the hub name of a CLIP")
    config = load_config(EvaluateConfig, None, [f"model={place}", *words.overrides])
    show(runner.evaluate(config, progress=not words.quiet))
    return 0


def _probe(words: Words) -> int:
    from e2fashion import runner
    from e2fashion.config import load_config
    from e2fashion.schema import ProbeConfig

    place = one_place(words, "model: a run folder, a model folder, or the hub name of a CLIP")
    config = load_config(ProbeConfig, None, [f"model={place}", *words.overrides])
    show(runner.probe(config, progress=not words.quiet))
    return 0


def _report(words: Words) -> int:
    from e2fashion import runner
    from e2fashion.config import load_config
    from e2fashion.schema import ReportConfig

    config = load_config(ReportConfig, None, words.overrides)
    show(runner.report(config, [Path(place) for place in words.places]))
    return 0


VERBS: dict[str, Verb] = {
    "evaluate": Verb(
        "evaluate <model> data=<catalogue> protocol=full split=val",
        "measure retrieval with a run, a model folder or any CLIP checkpoint",
        _evaluate,
        "EvaluateConfig",
        argument="model",
    ),
    "probe": Verb(
        "probe <model> data=<catalogue> entity=brand,season features=global split=test",
        "fit linear probes: how well image features tell the values of an entity apart",
        _probe,
        "ProbeConfig",
        page="probing.md",
        argument="model",
    ),
    "report": Verb(
        "report <run folder or results.jsonl> ... output=<file.md>",
        "make a table from records that are there",
        _report,
        "ReportConfig",
    ),
}
