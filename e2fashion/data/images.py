"""The one way by which images are read: files or bytes, bounded before they are decoded, upright 8-bit RGB on white."""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from e2fashion.data.image_files import (
    COMMON_FORMATS,
    FORMATS,
    HEIC_REMEDY,
    SIGNATURE_BYTES,
    ImageError,
    is_heic,
    open_regular,
)
from e2fashion.types import E2FashionError

EIGHT_BITS, TWELVE_BITS, SIXTEEN_BITS = 255, 4_095, 65_535
#: Pixels that are converted at a time where an intermediate is larger than the result.
STRIP = 1 << 20
#: By what a transparent level of a PNG of fewer bits is multiplied when Pillow makes the pixels 8-bit.
_FEWER_BITS = {"L;2": 85, "L;4": 17, "1": 255}


def as_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as 8-bit RGB, as this module says.

    Raises:
        ImageError: it has no pixels, or its pixel type does not say which value is white.
    """
    if 0 in image.size:
        raise ImageError("empty image", f"{image.width} x {image.height} pixels", "give an image with pixels")
    _scale_transparent_color(image)
    image = ImageOps.exif_transpose(image)
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _eight_bits(image).convert("RGB")
    if image.mode == "F":
        raise ImageError(
            "unsupported image", "floating-point pixels, whose white is not defined", "save it as 8-bit PNG"
        )
    if image.mode == "La":
        image = image.convert("LA")  # Pillow converts it to nothing else
    if image.mode.lower() in ("rgba", "la", "pa") or "transparency" in image.info:
        return _on_white(image)
    return image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", image.size)
    for rows in _strips(image):
        box = (0, rows.start, image.width, rows.stop)
        opaque = image.crop(box).convert("RGBA")
        white = Image.new("RGBA", opaque.size, "white")
        canvas.paste(Image.alpha_composite(white, opaque).convert("RGB"), box)
    return canvas


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grayscale of more than 8 bits, where the scale is known, on white."""
    levels: NDArray[np.integer] = np.asarray(image)
    low, high = int(levels.min()), int(levels.max())
    if low < 0 or high > SIXTEEN_BITS:
        value = f"gray levels from {low} to {high}, beyond 16 bits"
        raise ImageError("unsupported image", value, "save it as 8-bit PNG")
    if EIGHT_BITS < high <= TWELVE_BITS:
        value = f"gray levels up to {high:,}, which may be a 12-bit image or a nearly black 16-bit one"
        raise ImageError("unsupported image", value, "save it as 8-bit PNG, or scale its levels to 65,535")
    gray = np.empty(levels.shape, dtype=np.uint8)
    transparent = image.info.get("transparency")
    for rows in _strips(image):
        strip = levels[rows].astype(np.uint32)
        gray[rows] = strip if high <= EIGHT_BITS else (strip + 128) // 257
        if isinstance(transparent, int):
            gray[rows][strip == transparent] = 255
    return Image.fromarray(gray)


def _scale_transparent_color(image: Image.Image) -> None:
    """Bring the transparent color of a PNG to the 8 bits to which Pillow has brought the pixels."""
    transparent = image.info.get("transparency")
    if transparent is None or not isinstance(image, PngImagePlugin.PngImageFile) or not image.tile:
        return
    raw_mode = image.tile[0].args
    raw_mode = raw_mode[0] if isinstance(raw_mode, tuple) else raw_mode
    if isinstance(transparent, int) and raw_mode in _FEWER_BITS:
        image.info["transparency"] = transparent * _FEWER_BITS[raw_mode]
    elif isinstance(transparent, tuple) and raw_mode == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in transparent)


def _strips(image: Image.Image) -> Iterator[slice]:
    rows = max(1, STRIP // image.width)
    return (slice(top, min(image.height, top + rows)) for top in range(0, image.height, rows))


MAX_PIXELS = 50_000_000
"""Larger images are refused, by their header, unless a catalogue is prepared with another ``max_pixels``."""

PILLOW_MAX_PIXELS = 178_956_970
"""Pillow refuses to open larger images whatever its caller allows."""

MAX_SIDE = 65_535
"""Longest side of an image, which is JPEG's; the weights of a resize grow with it."""

BYTES_PER_PIXEL = 8
"""Of the largest pixel, 16-bit RGBA: a file with more bytes than this times ``max_pixels`` is not read."""

_EXIF_ORIENTATION = 0x0112
_JPEG_FORMATS = ("JPEG", "MPO")  # MPO: what some phones write; its first frame is an ordinary JPEG
_PNG_BIT_DEPTH = 24  # position of the bit depth in a PNG's first chunk


@dataclass(frozen=True)
class StoredImage:
    """The bytes to store and the SHA-256 of size and RGB pixels, by which identical images are known."""

    data: bytes
    pixels_sha256: bytes


def read_image(source: Image.Image | Path | str | bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """An image as 8-bit RGB, upright and on white (:mod:`e2fashion.data.images`), decoded to the last pixel.

    ``source`` is a file, the encoded bytes, or an image of Pillow. The size is read from the header and compared with
    ``max_pixels`` before anything is decoded.

    Raises:
        ImageError: it is missing, no regular file, no image, damaged, too large, or of a pixel type whose brightness
            is not defined. Whatever a decoder raises becomes this error; the message names the file.
        E2FashionError: ``source`` is something else.
    """
    if isinstance(source, Image.Image):
        file = getattr(source, "filename", None) or None
        with _one_error(str(file) if file else None):
            _check_size(source.size, max_pixels)
            return as_rgb(source)
    if isinstance(source, bytes):
        with _one_error(None):
            return as_rgb(_open(io.BytesIO(source), len(source), max_pixels))
    if not isinstance(source, Path | str):
        raise not_an_image(source)
    with open_regular(source, max_pixels * BYTES_PER_PIXEL) as stream, _one_error(str(source)):
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        return as_rgb(_open(stream, size, max_pixels))


def read_stored(data: bytes) -> Image.Image:
    """As :func:`read_image`, of the bytes that a catalogue holds, which was prepared with another ``max_pixels``.

    Raises:
        ImageError: as :func:`read_image`; Pillow's limit bounds the size.
    """
    return read_image(data, PILLOW_MAX_PIXELS)


def check_image(data: bytes, max_pixels: int) -> StoredImage:
    """Decode ``data`` to the last pixel and return what the catalogue stores.

    Raises:
        ImageError: as :func:`read_image`.
    """
    with _one_error(None):
        image = _open(io.BytesIO(data), len(data), max_pixels)
        plain = _is_plain(image, data)
        pixels = image.convert("RGB") if plain else as_rgb(image)
    size = struct.pack("<II", *pixels.size)
    digest = hashlib.sha256(size + pixels.tobytes()).digest()
    return StoredImage(data if plain else encode_png(pixels), digest)


def read_bytes(file: Path, max_pixels: int) -> bytes:
    """The bytes of a file that may be an image of up to ``max_pixels``.

    Raises:
        ImageError: as :func:`~e2fashion.data.image_files.open_regular`.
    """
    with open_regular(file, max_pixels * BYTES_PER_PIXEL) as stream, _one_error(str(file)):
        return stream.read()


def encode_png(image: Image.Image) -> bytes:
    """The image as PNG; level 1 takes half the time of the default and a tenth more space."""
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def encode_jpeg(image: Image.Image, quality: int) -> bytes:
    """The image as JPEG with full color resolution."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, subsampling=0)
    return stream.getvalue()


@contextmanager
def _one_error(file: str | None) -> Iterator[None]:
    """Whatever is raised within becomes an :class:`ImageError` of ``file``: decoders raise anything over damage."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, on sizes and tags: max_pixels and the decoder decide
            yield
    except ImageError as error:
        raise (error if file is None else error.of(file)) from error.__cause__
    except MemoryError as error:
        raise ImageError("oversized image", "it does not fit into memory", "shrink the image", file) from error
    except Exception as error:
        # The decoder's message may hold content of the file; the kind of error is shown instead.
        reason = "truncated image" if "truncated" in str(error).lower() else "unreadable image"
        system = error.strerror if isinstance(error, OSError) and error.errno else None
        value = system or f"its decoder failed ({type(error).__name__})"
        raise ImageError(reason, value, "fetch the file again, or save it as JPEG or PNG", file) from error


def _open(stream: BinaryIO, size: int, max_pixels: int) -> Image.Image:
    """Read the header only."""
    if not size:
        raise ImageError("zero-byte image", "0 bytes", "fetch the file again")
    start = stream.read(SIGNATURE_BYTES)
    stream.seek(0)
    if is_heic(start):
        raise ImageError("unsupported image", f"{size:,} bytes of HEIC", HEIC_REMEDY)
    try:
        image = Image.open(stream, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise _oversized(f"more than {2 * PILLOW_MAX_PIXELS:,} pixels", max_pixels) from error
    except UnidentifiedImageError as error:
        value = f"{size:,} bytes in no known image format ({COMMON_FORMATS})"
        raise ImageError("unreadable image", value, "replace it by a JPEG or PNG file") from error
    _check_size(image.size, max_pixels)
    return image


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise _oversized(f"{width:,} x {height:,} pixels", max_pixels)
    if max(size) > MAX_SIDE:
        value = f"{width:,} x {height:,} pixels, a side longer than {MAX_SIDE:,}"
        raise ImageError("oversized image", value, "cut it")


def _oversized(size: str, max_pixels: int) -> ImageError:
    remedy = f"shrink the image, or prepare a catalogue with a larger max_pixels (at most {PILLOW_MAX_PIXELS:,})"
    return ImageError("oversized image", f"{size}, more than max_pixels={max_pixels:,}", remedy)


def _is_plain(image: Image.Image, data: bytes) -> bool:
    if image.mode not in ("RGB", "L") or "transparency" in image.info:
        return False
    if image.getexif().get(_EXIF_ORIENTATION, 1) != 1:
        return False
    if image.format == "PNG":
        return data[_PNG_BIT_DEPTH] == 8
    return image.format in _JPEG_FORMATS


def not_an_image(value: object) -> E2FashionError:
    """The error of a value that is given where an image is due."""
    shape = getattr(value, "shape", None)
    kind = "" if shape is None else f" of shape {tuple(shape)} and {getattr(value, 'dtype', '')}"
    return E2FashionError(
        f"{type(value).__name__}{kind} is not an image: give a file, a Pillow image, a uint8 array (height, width, 3), "
        "a uint8 tensor (3, height, width), or a list of them."
    )
