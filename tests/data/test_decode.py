import io
import sys

import numpy as np
import pytest
import torch
from made_images import encoded, photograph, pixels_of
from PIL import Image
from transformers import CLIPImageProcessorPil

from e2fashion.data import decode
from e2fashion.data.decode import decode_image
from e2fashion.types import E2FashionError


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("shape", [(64, 64), (33, 47), (1, 1)])
def test_jpeg_equals_pillow(subsampling: int, progressive: bool, mode: str, shape: tuple[int, int]) -> None:
    data = encoded(
        photograph(*shape).convert(mode), "JPEG", subsampling=subsampling, progressive=progressive, quality=70
    )
    expected = pixels_of(Image.open(io.BytesIO(data)).convert("RGB"))
    assert torch.equal(decode_image(data), expected)


def test_jpeg_without_simplejpeg_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(photograph(50, 70), "JPEG")
    fast = decode_image(data)
    monkeypatch.setattr(decode, "HAS_SIMPLEJPEG", False)
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    assert torch.equal(decode_image(data), fast)


@pytest.mark.skipif(not decode.HAS_SIMPLEJPEG, reason="needs the extra 'fast' (simplejpeg)")
def test_ordinary_jpeg_does_not_reach_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "decode_with_pillow", None)
    assert decode_image(encoded(photograph(50, 70), "JPEG")).shape == (3, 50, 70)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "PA"])
def test_every_mode_becomes_what_the_processor_makes_of_it(mode: str) -> None:
    picture = photograph(20, 30)
    if "A" in mode:
        picture.putalpha(Image.fromarray(np.arange(600, dtype=np.uint32).reshape(20, 30).astype(np.uint8)))
    if mode == "PA":
        picture = picture.convert("RGBA").quantize(16)
    elif mode not in ("RGBA",):
        picture = picture.convert(mode)
    data = encoded(picture, "PNG")
    expected = CLIPImageProcessorPil().process_image(Image.open(io.BytesIO(data)), do_convert_rgb=True)
    assert np.array_equal(decode_image(data).numpy(), expected)


def test_transparency_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    assert decode_image(encoded(clear, "PNG")).eq(255).all()


def test_sixteen_bit_grey_is_scaled_to_eight_bits() -> None:
    deep = np.array([[0, 255, 256, 65535]], dtype=np.uint16)
    decoded = decode_image(encoded(Image.fromarray(deep), "PNG"))
    assert decoded[:, 0].tolist() == [[0, 1, 1, 255]] * 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_truncated_picture_is_an_error(kind: str) -> None:
    data = encoded(photograph(64, 64), kind)
    with pytest.raises(E2FashionError, match=r"cannot be read: .*prepare the catalogue again \(on_error=skip"):
        decode_image(data[: len(data) // 2])


@pytest.mark.parametrize("data", [b"", b"hello", b"\xff\xd8\xff"])
def test_no_picture_is_an_error(data: bytes) -> None:
    with pytest.raises(E2FashionError, match="An image cannot be read"):
        decode_image(data)
