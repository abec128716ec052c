"""One picture: is it whole, how large is it, and which bytes does the catalogue keep of it.

What training meets later are plain 8-bit RGB or greyscale JPEG and PNG files: those keep their bytes, everything
else is decoded here and stored as an RGB PNG (lossless).
"""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

PILLOW_MAX_PIXELS = 178_956_970
"""Pillow refuses to open larger pictures whatever its caller allows."""

_EXIF_ORIENTATION = 0x0112
_JPEG_FORMATS = ("JPEG", "MPO")  # MPO: what some phones write; its first frame is an ordinary JPEG
_PNG_BIT_DEPTH = 24  # position of the bit depth in a PNG's first chunk


class PictureError(ValueError):
    """A picture that cannot be used: ``reason`` (kind of damage), ``value`` (what was found), ``remedy``."""

    def __init__(self, reason: str, value: str, remedy: str) -> None:
        super().__init__(f"{reason}: {value}")
        self.reason, self.value, self.remedy = reason, value, remedy


@dataclass(frozen=True)
class Picture:
    """The bytes to store and the SHA-256 of size and RGB pixels, by which identical pictures are known."""

    data: bytes
    pixels_sha256: bytes


def check_picture(data: bytes, max_pixels: int) -> Picture:
    """Decode ``data`` to the last pixel and return what the catalogue stores.

    The size is read from the header and compared with ``max_pixels`` before anything is decoded. Transparency is
    composited on white, the EXIF orientation is applied, 16-bit values are scaled to 8 bits, CMYK and palettes
    become RGB (embedded colour profiles are ignored), and of several frames the first counts.

    Raises:
        PictureError: if the picture is empty, unreadable, truncated, larger than ``max_pixels`` or of a pixel
            type that has no defined brightness scale.
    """
    if not data:
        raise PictureError("zero-byte image", "0 bytes", "fetch the file again")
    image = _open(data, max_pixels)
    try:
        image.load()
        plain = _is_plain(image, data)
        pixels = image.convert("RGB") if plain else as_rgb(image)
    except PictureError:
        raise
    except Exception as error:  # the decoders of damaged files raise nearly anything: all of it means "damaged"
        reason = "truncated image" if "truncated" in str(error) else "unreadable image"
        raise PictureError(reason, f"{len(data):,} bytes, {error}", "fetch the file again") from error
    size = struct.pack("<II", *pixels.size)
    digest = hashlib.sha256(size + pixels.tobytes()).digest()
    return Picture(data if plain else encode_png(pixels), digest)


def encode_png(image: Image.Image) -> bytes:
    """The picture as PNG; level 1 takes half the time of the default and a tenth more space."""
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _open(data: bytes, max_pixels: int) -> Image.Image:
    """Read the header only."""
    remedy = f"shrink the picture, or raise max_pixels (at most {PILLOW_MAX_PIXELS:,})"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # max_pixels decides, below
            image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise PictureError("oversized image", f"{error} (max_pixels={max_pixels:,})", remedy) from error
    except UnidentifiedImageError as error:
        value = f"{len(data):,} bytes that begin with {data[:16]!r}"
        raise PictureError("unreadable image", value, "replace it by a JPEG or PNG file") from error
    except Exception as error:  # a damaged header, see above
        value = f"{len(data):,} bytes, {error}"
        raise PictureError("unreadable image", value, "fetch the file again") from error
    width, height = image.size
    if width * height > max_pixels:
        value = f"{width:,} x {height:,} pixels, more than max_pixels={max_pixels:,}"
        raise PictureError("oversized image", value, remedy)
    return image


def _is_plain(image: Image.Image, data: bytes) -> bool:
    if image.mode not in ("RGB", "L") or "transparency" in image.info:
        return False
    if image.getexif().get(_EXIF_ORIENTATION, 1) != 1:
        return False
    if image.format == "PNG":
        return data[_PNG_BIT_DEPTH] == 8
    return image.format in _JPEG_FORMATS


def as_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode as 8-bit RGB, upright and on white, as :func:`check_picture` says.

    Raises:
        PictureError: its pixel type has no defined brightness scale.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _scale_16_bit(image).convert("RGB")
    if image.mode == "F":
        raise PictureError(
            "unsupported image", "floating-point pixels, whose white is not defined", "save it as 8-bit PNG"
        )
    if image.mode.lower() in ("rgba", "la", "pa") or "transparency" in image.info:
        opaque = image.convert("RGBA")
        white = Image.new("RGBA", opaque.size, "white")
        return Image.alpha_composite(white, opaque).convert("RGB")
    return image.convert("RGB")


def _scale_16_bit(image: Image.Image) -> Image.Image:
    """Grey levels 0..65535 to 0..255; Pillow's own conversion would clip them at 255."""
    levels = np.asarray(image, dtype=np.int64)
    if levels.min() < 0 or levels.max() > 65_535:
        value = f"grey levels from {levels.min()} to {levels.max()}, beyond 16 bits"
        raise PictureError("unsupported image", value, "save it as 8-bit PNG")
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8))
