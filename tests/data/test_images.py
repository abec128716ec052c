from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from raw_products import encoded, picture

from e2fashion.data.image_files import ImageError
from e2fashion.data.images import check_image

LIMIT = 1_000_000


def decoded(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(check_image(data, LIMIT).data))
    assert (image.format, image.mode) == ("PNG", "RGB")
    return np.asarray(image)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGB"), ("PNG", "L")])
def test_ordinary_pictures_keep_their_bytes(kind: str, mode: str) -> None:
    data = picture(kind=kind, mode=mode)
    assert check_image(data, LIMIT).data == data


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    levels = np.array([[0, 257, 25_700, 65_535]], dtype=np.uint16)
    assert decoded(encoded(Image.fromarray(levels)))[0, :, 0].tolist() == [0, 1, 100, 255]


def test_sixteen_bit_colour_becomes_eight_bit() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    pixel = zlib.compress(b"\x00" + struct.pack(">HHH", 0, 32_896, 65_535))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")
    assert decoded(data)[0, 0].tolist() == [0, 128, 255]


def test_transparent_pixels_become_white() -> None:
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0]]], dtype=np.uint8)
    assert decoded(encoded(Image.fromarray(pixels))).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_palette_with_a_transparent_colour_becomes_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.putpixel((1, 0), 1)
    assert decoded(encoded(image, transparency=1)).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to see it upright
    data = encoded(Image.new("RGB", (30, 10)), "JPEG", exif=exif)
    assert decoded(data).shape == (30, 10, 3)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(kind: str) -> None:
    white = Image.new("CMYK", (8, 8), (0, 0, 0, 0))
    assert decoded(encoded(white, kind)).min() >= 254


@pytest.mark.parametrize("kind", ["WEBP", "BMP", "GIF"])
def test_other_formats_become_png(kind: str) -> None:
    assert decoded(picture(kind=kind)).shape == (20, 24, 3)


def test_equal_pixels_in_different_files_have_one_digest() -> None:
    png, bmp = picture(kind="PNG"), picture(kind="BMP")
    assert check_image(png, LIMIT).pixels_sha256 == check_image(bmp, LIMIT).pixels_sha256


def test_equal_pixels_of_another_shape_have_another_digest() -> None:
    wide, high = encoded(Image.new("RGB", (8, 2))), encoded(Image.new("RGB", (2, 8)))
    assert check_image(wide, LIMIT).pixels_sha256 != check_image(high, LIMIT).pixels_sha256


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncated_files_are_found(kind: str, share: float) -> None:
    data = picture(kind=kind, size=(64, 64))
    with pytest.raises(ImageError, match=r"truncated image|unreadable image"):
        check_image(data[: int(len(data) * share)], LIMIT)


@pytest.mark.parametrize("data", [b"<html>404 not found</html>", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", bytes(100)])
def test_other_content_is_unreadable(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"unreadable image|truncated image"):
        check_image(data, LIMIT)


def test_empty_file() -> None:
    with pytest.raises(ImageError, match="zero-byte image"):
        check_image(b"", LIMIT)


@pytest.mark.parametrize("side", [1_001, 12_000, 60_000])  # below, and above both of Pillow's own limits
def test_bomb_is_refused_by_its_header(side: int) -> None:
    with pytest.raises(ImageError, match="oversized image"):
        check_image(png_header(side, side), LIMIT)


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(ImageError, match="floating-point"):
        check_image(encoded(Image.fromarray(np.zeros((4, 4), dtype=np.float32)), "TIFF"), LIMIT)
