"""Encoded image bytes to RGB pixels: libjpeg-turbo directly where it can (extra ``fast``), Pillow for all else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from e2fashion.data.image_files import ImageError
from e2fashion.data.images import PILLOW_MAX_PIXELS, not_an_image, read_image, read_stored
from e2fashion.types import E2FashionError

_JPEG_START = b"\xff\xd8\xff"
HAS_SIMPLEJPEG = find_spec("simplejpeg") is not None


#: An image in memory (an array is uint8 RGB (H, W, 3), a tensor uint8 RGB (3, H, W)), or the file of one.
ImageSource: TypeAlias = Image.Image | Path | str | np.ndarray | Tensor


def read_pixels(image: ImageSource) -> Tensor:
    """An image as uint8 (3, H, W): the very pixels that a catalogue would hold of it.

    Raises:
        E2FashionError: an array or tensor of another type or shape, or as :func:`~e2fashion.data.images.read_image`.
    """
    if isinstance(image, np.ndarray | Tensor):
        return _checked_pixels(image)
    return _as_tensor(np.array(read_image(image)))


def listed_images(images: ImageSource | Iterable[ImageSource]) -> list[ImageSource]:
    """One image or several as a list; an array or tensor of four dimensions is several.

    Raises:
        E2FashionError: it is neither.
    """
    if isinstance(images, Image.Image | Path | str):
        return [images]
    if isinstance(images, np.ndarray | Tensor) and images.ndim != 4:
        return [_checked_pixels(images)]
    if isinstance(images, bytes) or not isinstance(images, Iterable):
        raise not_an_image(images)
    return list(images)


def read_squares(
    images: Sequence[ImageSource],
    transform: Callable[[Tensor], Tensor],
    skipped: dict[int, str] | None = None,
    first: int = 0,
) -> list[Tensor]:
    """``transform`` of the pixels of every image, or of the readable ones.

    What is wrong with an image that cannot be read joins ``skipped`` by its position, counted from ``first``.

    Raises:
        E2FashionError: an image cannot be read, and there is no ``skipped``.
    """
    squares = []
    for position, image in enumerate(images, start=first):
        try:
            squares.append(transform(read_pixels(image)))
        except E2FashionError as error:
            if skipped is None:
                raise
            skipped[position] = str(error)
    return squares


def decode_image(data: bytes) -> Tensor:
    """Decode the bytes that a catalogue holds, a JPEG or PNG, or whatever else is read as an image.

    Three-channel and gray JPEGs go through simplejpeg when it is installed: pixel-identical to Pillow and about
    three times as fast; their EXIF orientation is 1 in a catalogue and ignored here. All else is read as
    :func:`~e2fashion.data.images.read_image` does, bounded by Pillow alone: the catalogue may have been written with
    another ``max_pixels``.

    Returns:
        uint8 tensor (3, H, W), a view of (H, W, 3) memory.

    Raises:
        ImageError: the bytes are not an image, or a truncated one.
    """
    pixels = _decode_with_simplejpeg(data) if HAS_SIMPLEJPEG and data.startswith(_JPEG_START) else None
    if pixels is None:
        pixels = decode_with_pillow(data)
    return _as_tensor(pixels)


def _checked_pixels(image: np.ndarray | Tensor) -> Tensor:
    """The pixels of an array (H, W, 3) or a tensor (3, H, W), uint8."""
    colors = image.shape[-1:] if isinstance(image, np.ndarray) else image.shape[:1]
    if str(image.dtype).removeprefix("torch.") != "uint8" or image.ndim != 3 or tuple(colors) != (3,):
        raise not_an_image(image)
    # A copy: torch takes no negative strides, as of BGR turned into RGB, and warns of memory that is read-only.
    return _as_tensor(np.array(image, order="C")) if isinstance(image, np.ndarray) else image.cpu()


def _as_tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _decode_with_simplejpeg(data: bytes) -> np.ndarray | None:
    """The (H, W, 3) pixels, or None where Pillow must decide: other color spaces, damaged or unusual files."""
    import simplejpeg

    try:
        height, width, color_space, _ = simplejpeg.decode_jpeg_header(data)
        if color_space not in ("YCbCr", "Gray") or height * width > PILLOW_MAX_PIXELS:
            return None
        return simplejpeg.decode_jpeg(data, colorspace="RGB")
    except (ValueError, MemoryError, RuntimeError):
        return None


def decode_with_pillow(data: bytes) -> np.ndarray:
    """Pixels uint8 (H, W, 3) of an encoded image."""
    try:
        return np.array(read_stored(data))
    except ImageError as error:
        remedy = "replace the file, and prepare the catalogue again (on_error=skip leaves such rows out)"
        raise ImageError(error.reason, error.value, remedy) from error
