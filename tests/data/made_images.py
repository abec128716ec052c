"""Images made for the tests of decoding and transforming."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from PIL import Image


def photograph(height: int, width: int, seed: int = 0) -> Image.Image:
    """Smooth blotches with sharp edges, as a photograph has."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 6 + 2, width // 6 + 2, 3), dtype=np.uint8)
    pixels = np.array(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))
    pixels[height // 3 : height // 2, width // 4 : width // 2] = (255, 0, 10)
    return Image.fromarray(pixels)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels_of(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)
