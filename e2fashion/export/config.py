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
    """The folder to write; of ``format=hub`` the repository, ``<user>/<name>``."""
    format: Literal["onnx", "sentence_transformers", "hub"] = "onnx"
    """``onnx``: both towers; ``sentence_transformers``: a folder of that library; ``hub``: the model folder is uploaded
    to the Hugging Face hub."""
    private: bool = True
    """Whether a repository that is made on the hub is private."""
    opset: int = 18
    """Version of ONNX's operators. Source: torch."""
    tolerance: float = 1e-4
    """Largest difference of a component to the encoder's that counts as rounding; a larger one is an error."""
    overwrite: bool = False
    """Replace an export that is already in ``output``."""
