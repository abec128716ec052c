from __future__ import annotations

import io
import re
import struct
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile
from raw_products import encoded, picture

import e2fashion
from e2fashion.data import images
from e2fashion.data.decode import decode_image, read_pixels
from e2fashion.data.image_files import ImageError
from e2fashion.data.images import MAX_PIXELS, check_image, read_image
from e2fashion.types import E2FashionError

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


KINDS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "TIFF", "BMP", "JPEG2000", "PPM", "TGA", "QOI", "PCX")
SOUND = {kind: picture(kind=kind, size=(40, 32)) for kind in KINDS}
PACKAGE = Path(e2fashion.__file__).parent


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(st.data())
def test_damage_gives_an_image_or_one_error(kind: str, data: st.DataObject) -> None:
    damaged = bytearray(SOUND[kind])
    for place in data.draw(st.lists(st.integers(0, min(len(damaged), 400) - 1), max_size=6)):
        damaged[place] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(0, len(damaged)))] if data.draw(st.booleans()) else damaged
    for read in (lambda own: read_image(own, 100_000), lambda own: check_image(own, 100_000), decode_image):
        with suppress(ImageError):
            read(bytes(damaged))


@settings(max_examples=200)
@given(st.binary(max_size=200), st.sampled_from([b"", *(sound[:12] for sound in SOUND.values())]))
def test_noise_gives_one_error_or_an_image(noise: bytes, start: bytes) -> None:
    with suppress(ImageError):
        read_image(start + noise, 100_000)


@pytest.mark.parametrize("failure", [MemoryError(), RecursionError("deep"), RuntimeError("secret"), KeyError(3)])
def test_whatever_a_decoder_raises_names_the_file(
    failure: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: ImageFile.ImageFile) -> None:
        raise failure

    file = tmp_path / "shirt.png"
    file.write_bytes(SOUND["PNG"])
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(ImageError, match=r"'.*shirt\.png' cannot be read as an image") as caught:
        read_image(file)
    assert "secret" not in str(caught.value)
    opened = Image.open(file)
    with pytest.raises(ImageError, match=r"'.*shirt\.png' cannot be read as an image"):
        read_image(opened)


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_truncated_file_is_called_so(kind: str, share: float, tmp_path: Path) -> None:
    file = tmp_path / "cut.jpg"
    file.write_bytes(picture(kind=kind, size=(200, 200))[: int(20_000 * share)])
    with pytest.raises(ImageError, match=r"cut\.jpg' cannot be read as an image: (truncated|unreadable) image"):
        read_image(file)


@pytest.mark.parametrize("content", [b"password=hunter2", b"P3 2 2 255\nhunter2 0 0", b"BM" + 4 * b"hunter2"])
def test_a_message_holds_nothing_of_the_content(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "private.jpg"
    file.write_bytes(content)
    for source in (file, content):
        with pytest.raises(ImageError) as caught:
            read_image(source)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "JPEG2000", "WEBP"])
def test_the_bound_holds_before_decoding(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "large.png"
    Image.new("L", (400, 300), 200).convert("RGB").save(file, kind)
    assert read_image(file, 120_000).size == (400, 300)
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    with pytest.raises(
        ImageError, match=r"large\.png' .* 400 x 300 pixels, more than max_pixels=119,999. Remedy: shrink"
    ):
        read_image(file, 119_999)


def test_one_bound_for_every_path(tmp_path: Path) -> None:
    """A file of a few kilobytes that would take gigabytes, whoever reads it."""
    side = int(MAX_PIXELS**0.5) + 1
    Image.new("1", (side, side)).save(tmp_path / "zeros.png")
    tracemalloc.start()
    try:
        for read in (read_image, read_pixels, lambda file: check_image(Path(file).read_bytes(), MAX_PIXELS)):
            with pytest.raises(ImageError, match="oversized image"):
                read(tmp_path / "zeros.png")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    with pytest.raises(ImageError, match="max_pixels=100"):
        read_image(Image.new("RGB", (11, 10)), 100)
    with pytest.raises(ImageError, match="a side longer than 65,535"):
        read_image(Image.new("1", (65_536, 1)))


def test_formats_that_start_programs_or_unpack_without_bound_are_not_read() -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    with pytest.raises(ImageError, match="no known image format"):
        read_image(postscript)
    with pytest.raises(ImageError, match="no known image format"):
        read_image(b"SIMPLE  =                    T".ljust(2_880))


@pytest.mark.parametrize("value", [np.zeros((4, 4), np.uint8), torch.zeros(3, 4, 4), b"bytes", None, 5, {"a": 1}])
def test_what_is_no_image_is_refused(value: Any) -> None:
    with pytest.raises(E2FashionError, match=r"is not an image: give a file|cannot be read"):
        read_pixels(value)


def test_a_file_and_its_image_have_the_same_pixels(tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    file.write_bytes(encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 4), np.uint8))))
    with Image.open(file) as opened:
        assert torch.equal(read_pixels(opened), read_pixels(file))
    assert torch.equal(read_pixels(str(file)), decode_image(check_image(file.read_bytes(), MAX_PIXELS).data))


def test_pillow_opens_images_in_one_function() -> None:
    """All reading goes through :mod:`e2fashion.data.images`; the others open files that this package has drawn."""
    opening = {
        file.relative_to(PACKAGE).as_posix()
        for file in PACKAGE.rglob("*.py")
        if re.search(r"Image\.open\(|imread\(|read_file\(|decode_jpeg\(", file.read_text(encoding="utf-8"))
    }
    drawn = {"training/loggers.py", "data/sources/synthetic.py"}
    assert opening == drawn | {"data/images.py", "data/decode.py"}
    assert images.MAX_PIXELS == 50_000_000
