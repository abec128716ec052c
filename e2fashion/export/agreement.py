"""Does an exported encoder compute what the encoder does? The largest difference, and the file that keeps it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from e2fashion.disk import list_files, read_json, seal, write_json
from e2fashion.encoder import Encoder
from e2fashion.types import E2FashionError

TOLERANCE = 1e-4
"""Largest difference between components of unit vectors that counts as rounding (fp32 graphs differ by about 1e-6)."""

FACTS_FILE = "export.json"

SAMPLE_TEXTS = ("a navy wool coat", "dress", "a long text " * 40)
"""One that fits, a short one, and one that is cut."""


def sample_pictures(encoder: Encoder, count: int = 3) -> list[Image.Image]:
    """Random pictures of the encoder's own size, which no way of making a square changes."""
    size = encoder.transform.size
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return [Image.fromarray(picture) for picture in pixels]


def check_agreement(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float, exported: str
) -> float:
    """The largest difference between two sets of embeddings.

    Raises:
        E2FashionError: it is above ``tolerance``; the message names the output.
    """
    largest = 0.0
    for name, values in expected.items():
        difference = float((found[name].cpu().float() - values.cpu().float()).abs().max())
        if not difference <= tolerance:
            raise E2FashionError(
                f"{exported}: '{name}' differ from the encoder's by up to {difference:.2g}, more than {tolerance:.2g}: "
                "do not use this export, and report it with the versions of torch, transformers and the library"
            )
        largest = max(largest, difference)
    return largest


def write_facts(encoder: Encoder, folder: Path, kind: str, difference: float, **more: Any) -> None:
    """``export.json``: what was exported, what its input has to be, and how far it is from the encoder."""
    facts = {
        "format": kind,
        "model": encoder.name,
        "fingerprint": encoder.fingerprint,
        "image_size": encoder.transform.size,
        "resize": encoder.transform.resize,
        "context_length": encoder.context_length,
        "dimension": encoder.dimension,
        "entities": [entity.name for entity in encoder.entities],
        "text_template": encoder.template.template,
        "largest_difference": difference,
        "torch": str(torch.__version__),
        **more,
    }
    write_json(folder / FACTS_FILE, seal(facts | {"files": list_files(folder)}))


def read_facts(folder: Path) -> dict[str, Any]:
    """What :func:`write_facts` wrote; empty where there is nothing.

    Raises:
        DamagedError: the file is damaged.
    """
    file = folder / FACTS_FILE
    return read_json(file, "Remove the folder, or choose another output.") if os.path.lexists(file) else {}
