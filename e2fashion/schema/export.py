"""Every key of exports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from omegaconf import MISSING


@dataclass
class ExportConfig:
    """An encoder for others' code: ``format`` says whose, ``output`` is the folder.

    The export is compared with the encoder on a few pictures and texts; a component that differs by more than
    ``tolerance`` is an error. ``opset`` belongs to ONNX.
    """

    model: str = MISSING
    output: str = MISSING
    format: Literal["onnx", "sentence_transformers"] = "onnx"
    opset: int = 18
    tolerance: float = 1e-4
    overwrite: bool = False
