"""``export`` and ``convert``: an encoder for other software, a checkpoint in another layout."""

from __future__ import annotations

from e2fashion.checkpoints.config import ConvertConfig
from e2fashion.commands.registry import Arguments, Commands
from e2fashion.export.config import ExportConfig

COMMANDS = Commands()


@COMMANDS.add(
    "export",
    "<model> format=onnx output=<folder>",
    "write an encoder as ONNX or for sentence-transformers and compare it with the original, or upload it to the hub",
    ExportConfig,
    positional=("model",),
    page="plugins.md",
)
def export(config: ExportConfig, arguments: Arguments) -> str:
    """Write the folder and state the largest difference from the original."""
    from e2fashion.export.write import export, push

    if config.format == "hub":
        from e2fashion.measuring import load_named_encoder

        pushed = push(load_named_encoder(config.model), config.output, config.private)
        return f"{pushed['repository']}: {', '.join(pushed['files'])} ({pushed['commit']})"
    facts = export(config)
    about = f", opset {facts['opset']}" if config.format == "onnx" else ""
    return (
        f"{config.output}: '{facts['model']}' as {config.format}{about}, images of {facts['image_size']} px, texts of "
        f"up to {facts['context_length']} tokens; largest difference to the encoder {facts['largest_difference']:.2g}"
    )


@COMMANDS.add(
    "convert",
    "[config.yaml] [checkpoint] source=<layout> tokenizer=<folder> output=<folder>",
    "convert other state dicts to a model folder or, with target=, a model folder to another layout",
    ConvertConfig,
    positional=("checkpoint",),
    page="checkpoints.md",
)
def convert(config: ConvertConfig, arguments: Arguments) -> str:
    """Write the folder and list what was read, ignored and lost."""
    from e2fashion.checkpoints.convert import convert

    return "\n".join([f"{config.output}:", *(f"- {note}" for note in convert(config))])
