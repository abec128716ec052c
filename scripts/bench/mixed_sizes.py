"""Images that all differ in size against images of one size: the resize works something out for every new size."""

from __future__ import annotations

import io
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from e2fashion.data.decode import decode_image
from e2fashion.data.resample import largest_error, largest_share_of_even_lines
from e2fashion.data.transforms import ImageTransform
from scripts.bench.report import Result
from scripts.bench.timing import interleave, threads
from scripts.bench.workplace import Workplace

TARGET = 1.2
SIZE = 224
IMAGES = 120
SHORT, LONG = 240, 360  # sides in pixels; their product is that of every image


def shapes(images: int) -> list[tuple[int, int]]:
    """``images`` different heights and widths of about the same number of pixels, none as wide as another."""
    widths = np.linspace(SHORT, LONG, images).round().astype(int).tolist()
    return [(round(SHORT * LONG / width), width) for width in widths]


def encoded(height: int, width: int) -> bytes:
    """A JPEG of smooth noise."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def squares(images: list[bytes], transform: ImageTransform) -> Tensor:
    """Decoded and resized, (N, 3, S, S), as by a process that has met none of the sizes before."""
    largest_error.cache_clear()
    largest_share_of_even_lines.cache_clear()
    return torch.stack([transform(decode_image(data)) for data in images])


def run(workplace: Workplace) -> list[Result]:
    """Time both on one thread."""
    transform = ImageTransform(size=SIZE)
    mixed = [encoded(*shape) for shape in shapes(IMAGES)]
    same = [encoded(*shapes(IMAGES)[IMAGES // 2])] * IMAGES
    with threads(1):
        timing = interleave(
            {"mixed": partial(squares, mixed, transform), "same": partial(squares, same, transform)},
            2 * workplace.turns,
        )
    ratio = timing.ratio("mixed", "same")
    each = {arm: 1000 * timing.median(arm) / IMAGES for arm in timing.seconds}
    return [
        Result(
            "mixed-size images",
            "all of another size / all of one size, one thread",
            f"at most {TARGET} x",
            f"{ratio:.2f} x ({timing.spread('mixed', 'same')})",
            ratio <= TARGET,
            f"{IMAGES} JPEGs of {SHORT * LONG:,} pixels to {SIZE} pixels, decoded and cropped; {each['mixed']:.1f} and "
            f"{each['same']:.1f} ms an image",
        )
    ]
