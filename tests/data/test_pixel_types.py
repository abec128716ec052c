"""What becomes of every type of pixel, against what is obvious."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image
from raw_products import encoded

from e2fashion.data import images
from e2fashion.data.image_files import ImageError
from e2fashion.data.images import check_image, read_image

LIMIT = 1_000_000
GREYS = np.array([[0, 1, 90, 128, 254, 255]], dtype=np.uint8)


def pixels(source: Image.Image | bytes) -> Any:
    """What is read, as nested lists; what a catalogue would hold of encoded bytes is the same."""
    read = np.asarray(read_image(source))
    if isinstance(source, bytes):
        stored = Image.open(io.BytesIO(check_image(source, LIMIT).data)).convert("RGB")
        assert np.array_equal(np.asarray(stored), read)
    return read.tolist()


def png(width: int, depth: int, colour_type: int, row: bytes, transparent: bytes = b"") -> bytes:
    """A PNG of one row, written by hand: Pillow writes neither few bits with a transparent level nor 16-bit colours."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, colour_type, 0, 0, 0))
    key = chunk(b"tRNS", transparent) if transparent else b""
    return b"\x89PNG\r\n\x1a\n" + header + key + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")


def grey(levels: list[int]) -> list[list[list[int]]]:
    return [[[level] * 3 for level in levels]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, ">u2"])
@pytest.mark.parametrize("kind", [None, "TIFF"])
def test_eight_bit_values_are_themselves_in_any_integer_type(dtype: Any, kind: str | None) -> None:
    image = Image.fromarray(GREYS.astype(dtype))
    assert pixels(encoded(image, kind) if kind else image) == grey(GREYS[0].tolist())


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, ">u2"])
def test_sixteen_bit_values_are_scaled(dtype: Any) -> None:
    levels = np.array([[0, 257, 25_700, 65_535]]).astype(dtype)
    assert pixels(Image.fromarray(levels)) == grey([0, 1, 100, 255])
    assert pixels(Image.fromarray(levels)) == grey([round(int(level) / 257) for level in levels[0]])


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([0, 256], "gray levels up to 256, which may be a 12-bit image or a nearly black 16-bit one"),
        ([0, 4_095], "gray levels up to 4,095"),
        ([-1, 255], "gray levels from -1 to 255, beyond 16 bits"),
        ([0, 65_536], "gray levels from 0 to 65536, beyond 16 bits"),
    ],
)
def test_levels_without_a_known_white_are_refused(levels: list[int], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_image(Image.fromarray(np.array([levels], dtype=np.int32)))


def test_floating_point_is_refused() -> None:
    with pytest.raises(ImageError, match="floating-point pixels, whose white is not defined"):
        read_image(Image.fromarray(np.ones((1, 2), dtype=np.float32)))


def test_transparency_lies_on_white_in_every_mode() -> None:
    colour = np.array([[[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 51]]], dtype=np.uint8)
    assert pixels(Image.fromarray(colour)) == [[[200, 100, 0], [255] * 3, [244, 224, 204]]]
    levels = np.array([[[90, 255], [90, 0], [90, 51]]], dtype=np.uint8)
    assert pixels(Image.fromarray(levels)) == grey([90, 255, 222])
    palette = Image.fromarray(colour[..., :3]).quantize(4)
    clear = palette.getpixel((0, 0))
    assert isinstance(clear, int)
    for name, own in (("one colour", clear), ("a level each", bytes(0 if c == clear else 255 for c in range(4)))):
        assert pixels(encoded(palette, transparency=own)) == [[[255] * 3] * 3], name
        assert pixels(encoded(palette)) == [[[200, 100, 0]] * 3]
    assert pixels(palette.convert("PA")) == [[[200, 100, 0]] * 3]
    assert pixels(Image.new("PA", (1, 1))) == [[[255] * 3]]
    assert pixels(Image.new("RGBa", (1, 1))) == [[[255] * 3]]
    assert pixels(Image.new("La", (1, 1))) == [[[255] * 3]]


def test_strips_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (37, 23, 4), dtype=np.uint8)
    deep = np.random.default_rng(1).integers(0, 65_536, (37, 23), dtype=np.uint16)
    whole = [pixels(Image.fromarray(noise)), pixels(Image.fromarray(deep))]
    monkeypatch.setattr(images, "STRIP", 50)
    assert [pixels(Image.fromarray(noise)), pixels(Image.fromarray(deep))] == whole
    opaque = Image.alpha_composite(Image.new("RGBA", (23, 37), "white"), Image.fromarray(noise)).convert("RGB")
    assert whole[0] == np.asarray(opaque).tolist()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(2, 1, 0, b"\x40", b"\x00\x00"), [255, 255]),
        (png(2, 1, 0, b"\x40", b"\x00\x01"), [0, 255]),
        (png(2, 2, 0, b"\x60", b"\x00\x01"), [255, 170]),
        (png(2, 4, 0, b"\x23", b"\x00\x02"), [255, 51]),
        (png(2, 8, 0, b"\x02\x03", b"\x00\x02"), [255, 3]),
        (png(2, 16, 0, b"\x40\x01\xff\xff", b"\x40\x01"), [255, 255]),
        (png(2, 16, 0, b"\x40\x40\xff\xff", b"\x40\x01"), [64, 255]),
    ],
)
def test_a_transparent_level_counts_at_any_depth(data: bytes, expected: list[int]) -> None:
    assert pixels(data) == grey(expected)


def test_a_transparent_colour_counts_at_sixteen_bits() -> None:
    row = struct.pack(">6H", 1_000, 2_000, 3_000, 60_000, 65_535, 0)
    assert pixels(png(2, 16, 2, row, struct.pack(">3H", 1_000, 2_000, 3_000))) == [[[255] * 3, [234, 255, 0]]]
    assert pixels(png(2, 16, 2, row)) == [[[3, 7, 11], [234, 255, 0]]]


def test_black_and_white() -> None:
    bits = Image.fromarray(np.array([[True, False]]))
    assert bits.mode == "1"
    assert pixels(bits) == pixels(encoded(bits)) == pixels(encoded(bits, "TIFF")) == grey([255, 0])


def test_cmyk_is_ink_on_white() -> None:
    inks = [(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0), (0, 0, 0, 255)]
    image = Image.new("CMYK", (5, 1))
    image.putdata(inks)
    expected = [[[255, 255, 255], [0, 255, 255], [255, 0, 255], [255, 255, 0], [0, 0, 0]]]
    assert pixels(image) == pixels(encoded(image, "TIFF")) == expected
    for ink, colour in zip(inks, expected[0], strict=True):
        flat = np.asarray(read_image(encoded(Image.new("CMYK", (16, 16), ink), "JPEG", quality=100))).astype(int)
        assert np.abs(flat - colour).max() <= 2


def test_ycbcr_is_jpeg_s() -> None:
    y, cb, cr = 100, 90, 180
    expected = [y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128)]
    result = pixels(Image.new("YCbCr", (1, 1), (y, cb, cr)))[0][0]
    assert np.abs(np.array(result) - expected).max() <= 1


@pytest.mark.parametrize("colour", [(200, 30, 60), (60, 120, 90), (255, 255, 255), (90, 90, 90)])
def test_cielab_comes_back_as_the_colour(colour: tuple[int, int, int]) -> None:
    from PIL import ImageCms

    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    transform = ImageCms.buildTransform(*profiles, "RGB", "LAB")
    lab = ImageCms.applyTransform(Image.new("RGB", (2, 2), colour), transform)
    assert lab is not None
    for image in (lab, encoded(lab, "TIFF")):
        assert np.abs(np.array(pixels(image)) - colour).max() <= 4  # 8-bit Lab has coarse steps


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_every_exif_orientation_stands_upright(orientation: int, kind: str) -> None:
    upright = np.zeros((48, 32, 3), dtype=np.uint8)
    upright[:16, :16] = (250, 0, 0)  # a corner and an edge that no turn or flip leaves in place
    upright[32:, 16:] = (0, 0, 250)
    # How each orientation stores an upright image, by rows and columns.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, quality=95)
    result = np.array(pixels(data)).astype(int)
    assert result.shape == upright.shape
    assert np.abs(result[4:-4:8, 4:-4:8] - upright[4:-4:8, 4:-4:8]).max() < 40


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_the_first_frame_counts(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
    assert getattr(Image.open(io.BytesIO(data)), "n_frames", 1) == 3
    assert np.abs(np.array(pixels(data)) - (255, 0, 0)).max() <= 8


def test_a_transparent_first_frame_lies_on_white() -> None:
    frames = [Image.new("RGBA", (8, 8), (255, 0, 0, 0)), Image.new("RGBA", (8, 8), (0, 0, 255, 255))]
    frames[0].putpixel((3, 3), (255, 0, 0, 255))
    for kind in ("GIF", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {"disposal": 2}
        result = pixels(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
        assert (result[0][0], result[3][3]) == ([255] * 3, [255, 0, 0])


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "I;16"])
def test_an_image_without_pixels_is_refused(mode: str, size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=f"empty image, {size[0]} x {size[1]} pixels"):
        read_image(Image.new(mode, size))
