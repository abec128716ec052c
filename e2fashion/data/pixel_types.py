"""Pixels of every type that Pillow decodes to 8-bit RGB, upright and on white.

- Transparency is composited on white, the EXIF orientation is applied, and of several frames the first counts.
- CMYK, YCbCr, CIELAB, HSV, palettes, greyscale and black-and-white become RGB as Pillow converts them; embedded color
  profiles are ignored. Colors of 16 bits keep their high byte.
- Greyscale of more than 8 bits does not say where its white is. No value above 255: these are 8-bit values in a larger
  type, and stay. Values above 4,095: 16 bits, divided by 257. In between they may be 10- or 12-bit values or a nearly
  black 16-bit image, so they are refused; so are negative values, more than 16 bits, and floating point.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin

from e2fashion.data.image_files import ImageError

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
    """Greyscale of more than 8 bits, where the scale is known, on white."""
    levels: NDArray[np.integer] = np.asarray(image)
    low, high = int(levels.min()), int(levels.max())
    if low < 0 or high > SIXTEEN_BITS:
        value = f"grey levels from {low} to {high}, beyond 16 bits"
        raise ImageError("unsupported image", value, "save it as 8-bit PNG")
    if EIGHT_BITS < high <= TWELVE_BITS:
        value = f"grey levels up to {high:,}, which may be a 12-bit image or a nearly black 16-bit one"
        raise ImageError("unsupported image", value, "save it as 8-bit PNG, or scale its levels to 65,535")
    grey = np.empty(levels.shape, dtype=np.uint8)
    transparent = image.info.get("transparency")
    for rows in _strips(image):
        strip = levels[rows].astype(np.uint32)
        grey[rows] = strip if high <= EIGHT_BITS else (strip + 128) // 257
        if isinstance(transparent, int):
            grey[rows][strip == transparent] = 255
    return Image.fromarray(grey)


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
