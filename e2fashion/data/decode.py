"""Encoded image bytes to RGB pixels: libjpeg-turbo directly where it can (extra ``fast``), Pillow for all else."""

from __future__ import annotations

import io
from importlib.util import find_spec

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from e2fashion.data.pictures import as_rgb
from e2fashion.types import E2FashionError

_JPEG_START = b"\xff\xd8\xff"
_HAS_SIMPLEJPEG = find_spec("simplejpeg") is not None


def decode_image(data: bytes) -> Tensor:
    """Decode a JPEG, PNG or whatever else Pillow reads.

    Three-channel and grey JPEGs go through simplejpeg when it is installed: pixel-identical to Pillow and about
    three times as fast. All else becomes RGB as :func:`~e2fashion.data.pictures.as_rgb` says.

    Returns:
        uint8 tensor (3, H, W), a view of (H, W, 3) memory.

    Raises:
        E2FashionError: the bytes are no picture, or a truncated one.
    """
    pixels = _decode_with_simplejpeg(data) if _HAS_SIMPLEJPEG and data.startswith(_JPEG_START) else None
    if pixels is None:
        pixels = _decode_with_pillow(data)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _decode_with_simplejpeg(data: bytes) -> np.ndarray | None:
    """The (H, W, 3) pixels, or None where Pillow must decide: other colour spaces, damaged or unusual files."""
    import simplejpeg

    try:
        *_, colour_space, _ = simplejpeg.decode_jpeg_header(data)
        if colour_space not in ("YCbCr", "Gray"):
            return None
        return simplejpeg.decode_jpeg(data, colorspace="RGB")
    except ValueError:
        return None


def _decode_with_pillow(data: bytes) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return np.array(as_rgb(picture))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise E2FashionError(
            f"A picture of {len(data)} bytes (first ones: {data[:8]!r}) cannot be decoded: {error} "
            "Replace the file, or prepare the catalogue with on_error=skip."
        ) from error
