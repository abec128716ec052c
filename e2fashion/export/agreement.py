"""Compare an export with its encoder on a few images and texts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image
from torch import Tensor

from e2fashion.encoder import Encoder
from e2fashion.types import E2FashionError

SAMPLE_TEXTS = ("a navy wool coat", "dress", "a long text " * 40)
"""One that fits, a short one, and one that is cut."""


def sample_images(encoder: Encoder) -> list[Image.Image]:
    """Three random images of the encoder's size, which no way of making a square changes."""
    size = encoder.transform.size
    pixels = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
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
