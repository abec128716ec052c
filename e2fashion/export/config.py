"""Every key of exports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from omegaconf import MISSING


@dataclass
class ExportConfig:
    """An encoder for other software, compared with the original on a few images and texts."""

    model: str = MISSING
    """Run folder, model folder, or hub name of a CLIP."""
    output: str = MISSING
    """The folder to write."""
    format: Literal["onnx", "sentence_transformers"] = "onnx"
    """``onnx``: both towers; ``sentence_transformers``: a folder of that library."""
    opset: int = 18
    """Version of ONNX's operators. Source: torch."""
    tolerance: float = 1e-4
    """Largest difference of a component to the encoder's that counts as rounding; a larger one is an error."""
    overwrite: bool = False
    """Replace an export that is already in ``output``."""
