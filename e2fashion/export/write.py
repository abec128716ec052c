"""Write an encoder in a format of other software, or find the same export; and is it the same encoder?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from e2fashion.disk.outputs import write_output
from e2fashion.encoder import Encoder
from e2fashion.export.config import ExportConfig
from e2fashion.measuring import load_named_encoder
from e2fashion.types import E2FashionError

FACTS_FILE = "export.json"
SAMPLE_TEXTS = ("a navy wool coat", "dress", "a long text " * 40)
"""One that fits, a short one, and one that is cut."""


def export(config: ExportConfig) -> dict[str, Any]:
    """Write the export with its ``export.json``, or find the same one; returns what that file says.

    Raises:
        E2FashionError: the folder holds something else, a library is missing, the encoder compares tokens, or the
            export computes something else than the encoder.
    """
    encoder = load_named_encoder(config.model)
    wanted: dict[str, Any] = {"format": config.format, "fingerprint": encoder.fingerprint}
    if config.format == "onnx":
        wanted["opset"] = config.opset

    def write(folder: Path) -> dict[str, Any]:
        if config.format == "onnx":
            from e2fashion.export.onnx import export_onnx

            difference = export_onnx(encoder, folder, config.opset, config.tolerance)
        else:
            from e2fashion.export.sentence_transformers import export_sentence_transformers

            difference = export_sentence_transformers(encoder, folder, config.tolerance)
        return wanted | _facts(encoder, difference)

    return write_output(Path(config.output), FACTS_FILE, wanted, write, _held_as, config.overwrite)


def _facts(encoder: Encoder, difference: float) -> dict[str, Any]:
    """What was exported, what its input has to be, and how far it is from the encoder."""
    return {
        "model": encoder.name,
        "image_size": encoder.transform.size,
        "resize": encoder.transform.resize,
        "context_length": encoder.context_length,
        "dimension": encoder.dimension,
        "entities": [entity.name for entity in encoder.entities],
        "text_template": encoder.template.template,
        "largest_difference": difference,
        "torch": str(torch.__version__),
    }


def _held_as(facts: Mapping[str, Any]) -> str:
    return f"the export of '{facts['model']}' as {facts['format']}"


def sample_images(encoder: Encoder, count: int = 3) -> list[Image.Image]:
    """Random images of the encoder's size, which no way of making a square changes."""
    size = encoder.transform.size
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return [Image.fromarray(image) for image in pixels]


def check_agreement(
    computed: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float, exported: str
) -> float:
    """The largest difference between two sets of embeddings.

    Raises:
        E2FashionError: it is above ``tolerance``; the message names the output.
    """
    largest = 0.0
    for name, values in expected.items():
        difference = float((computed[name].cpu().float() - values.cpu().float()).abs().max())
        if not difference <= tolerance:
            raise E2FashionError(
                f"{exported}: '{name}' differ from the encoder's by up to {difference:.2g}, more than {tolerance:.2g}: "
                "do not use this export, and report it with the versions of torch, transformers and the library"
            )
        largest = max(largest, difference)
    return largest
