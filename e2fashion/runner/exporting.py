"""``export``: an encoder in a format of others' code, compared with itself."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from e2fashion.disk import atomic_folder, clear_leftovers, recover
from e2fashion.disk.outputs import check_ours, check_room, is_damaged
from e2fashion.encoder import Encoder
from e2fashion.export.agreement import FACTS_FILE, read_facts
from e2fashion.export.config import ExportConfig
from e2fashion.export.onnx import export_onnx
from e2fashion.export.sentence_transformers import export_sentence_transformers
from e2fashion.measuring import load_named_encoder


def export(config: ExportConfig) -> str:
    """Write the export, or find the same one there; says where it lies and how far it is from the encoder."""
    encoder, folder = load_named_encoder(config.model), Path(config.output)
    recover(folder)
    facts = read_facts(folder)
    same = (facts.get("fingerprint"), facts.get("format")) == (encoder.fingerprint, config.format)
    if config.format == "onnx":
        same = same and facts.get("opset") == config.opset
    held = f"the export of '{facts['model']}' as {facts['format']}" if facts else None
    if not same:
        check_room(folder, held, "export", config.overwrite)
    if not same or config.overwrite or is_damaged(folder, facts):
        with atomic_folder(folder, partial(check_ours, facts_file=FACTS_FILE)) as fresh:
            _write(encoder, fresh, config)
        facts = read_facts(folder)
    else:
        clear_leftovers(folder)
    about = f", opset {facts['opset']}" if config.format == "onnx" else ""
    return (
        f"{folder}: '{facts['model']}' as {config.format}{about}, pictures of {facts['image_size']} px, texts of up to "
        f"{facts['context_length']} tokens; largest difference to the encoder {facts['largest_difference']:.2g}"
    )


def _write(encoder: Encoder, folder: Path, config: ExportConfig) -> None:
    if config.format == "onnx":
        export_onnx(encoder, folder, config.opset, config.tolerance)
    else:
        export_sentence_transformers(encoder, folder, config.tolerance)
