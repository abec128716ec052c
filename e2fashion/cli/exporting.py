"""``export``: an encoder for others' code."""

from __future__ import annotations

from e2fashion.cli.words import Verb, Words, one_place


def _export(words: Words) -> int:
    from e2fashion import runner
    from e2fashion.config import load_config
    from e2fashion.schema import ExportConfig

    place = one_place(words, "model: a run folder, a model folder, or the hub name of a CLIP")
    print(runner.export(load_config(ExportConfig, None, [f"model={place}", *words.overrides])))
    return 0


VERBS: dict[str, Verb] = {
    "export": Verb(
        "export <model> format=onnx output=<folder>",
        "write an encoder as ONNX or for sentence-transformers, and compare it with itself",
        _export,
        "ExportConfig",
    ),
}
