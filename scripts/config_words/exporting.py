"""The words of ``docs/configuration.md`` about the keys of exports."""

from __future__ import annotations

from e2fashion.schema import ExportConfig

SECTIONS: tuple[tuple[str, type, str], ...] = (
    ("export", ExportConfig, "`e2fashion export <model> key=value ...` ([plugins.md](plugins.md))."),
)

EXPLAINED: dict[type, dict[str, tuple[str, str]]] = {
    ExportConfig: {
        "model": ("Run folder, model folder, or hub name of a CLIP", "-"),
        "output": ("The folder that is written", "-"),
        "format": ("`onnx`: both towers; `sentence_transformers`: a folder of that library", "ours"),
        "opset": ("Of ONNX: the version of its operators", "torch"),
        "tolerance": ("Largest difference of a component to the encoder's that counts as rounding", "ours"),
        "overwrite": ("`true` replaces an export that lies in the folder", "ours"),
    },
}
