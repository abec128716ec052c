"""``export`` and ``convert``: an encoder for others' code, a checkpoint in another layout."""

from __future__ import annotations

from e2fashion.cli.words import Verb, Words, one_place, show


def _export(words: Words) -> int:
    from e2fashion import runner
    from e2fashion.config import load_config
    from e2fashion.schema import ExportConfig

    place = one_place(words, "model: a run folder, a model folder, or the hub name of a CLIP")
    show(runner.export(load_config(ExportConfig, None, [f"model={place}", *words.overrides])))
    return 0


def _convert(words: Words) -> int:
    from pathlib import Path

    from e2fashion import runner
    from e2fashion.config import load_config
    from e2fashion.schema import ConvertConfig

    files = [place for place in words.places if place.endswith((".yaml", ".yml"))]
    others = [f"checkpoint={place}" for place in words.places if place not in files]
    if len(files) > 1 or len(others) > 1:
        one_place(words, "checkpoint: a state dict's file, or a model")
    show(runner.convert(load_config(ConvertConfig, Path(files[0]) if files else None, [*others, *words.overrides])))
    return 0


VERBS: dict[str, Verb] = {
    "export": Verb(
        "export <model> format=onnx output=<folder>",
        "write an encoder as ONNX or for sentence-transformers, and compare it with itself",
        _export,
        "ExportConfig",
        page="plugins.md",
        argument="model",
    ),
    "convert": Verb(
        "convert [config.yaml] [checkpoint] source=openai|open_clip|e2_official tokenizer=<folder> output=<folder>",
        "turn others' state dicts into a model folder, or with target= a model folder into theirs",
        _convert,
        "ConvertConfig",
        page="checkpoints.md",
        argument="checkpoint",
    ),
}
