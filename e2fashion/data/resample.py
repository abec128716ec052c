"""Bicubic resizing as Pillow does it, within one grey level and in less time: PyTorch where that is proven."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

SUPPORT = 2.0  # pixels on each side that the bicubic filter reads where it does not shrink
SHARPNESS = -0.5  # of Pillow's bicubic, and of PyTorch's with antialiasing
#: How far weights may lie from the true ones: PyTorch's for uint8 have 16 bits, at least 14 of them behind the point,
#: Pillow's have 22 behind the point.
WEIGHT_ERROR = 0.5 * (2.0**-14 + 2.0**-22)


def resize_bicubic(image: Tensor, size: tuple[int, int]) -> Tensor:
    """A uint8 picture (3, H, W) to ``size`` (height, width), antialiased, within one grey level of ``Image.resize``.

    Both libraries go over rows and columns one after the other and round to uint8 between the passes. Pillow goes over
    the columns first where that saves work; rounding makes the order visible (up to nine grey levels at sharp edges).
    The rule is that of Pillow 13, found by comparing it with its own passes made singly.

    PyTorch is faster, but its weights hold fewer bits than Pillow's: a pass of its own moves a value by one grey level
    at most, and neighbours that moved together could make it two in the second pass (measured: one of 1.5 million
    values). So every second line of the first pass is Pillow's where that is proven to be enough
    (:func:`is_half_enough`), and else all of them are; the second pass is PyTorch's.
    """
    (height, width), (new_height, new_width) = image.shape[-2:], size
    pixels = image.permute(1, 2, 0).numpy()
    if _columns_first(height, width, size) or width == new_width:
        between, across, passes = (new_height, width), 1, ((height, new_height), (width, new_width))
    else:
        between, across, passes = (height, new_width), 0, ((width, new_width), (height, new_height))
    if between == size:
        return torch.from_numpy(_with_pillow(pixels, size)).permute(2, 0, 1)
    if is_half_enough(*passes):
        first = np.empty((*between, 3), dtype=np.uint8)
        for start, resize in ((0, _with_pytorch), (1, _with_pillow)):
            lines = (slice(None),) * across + (slice(start, None, 2),)
            part = first[lines]
            part[:] = resize(np.ascontiguousarray(pixels[lines]), (part.shape[0], part.shape[1]))
    else:
        first = _with_pillow(pixels, between)
    return torch.from_numpy(_with_pytorch(first, size)).permute(2, 0, 1)


def _columns_first(height: int, width: int, size: tuple[int, int]) -> bool:
    """Whether Pillow goes over the columns, which changes the height, before it goes over the rows."""
    return height > size[0] and height - size[0] > 2 * (width - size[1])


def resize_bicubic_middle(image: Tensor, size: tuple[int, int], side: int) -> Tensor:
    """The middle (3, side, side) of what :func:`resize_bicubic` makes of an image at ``size``, both at least ``side``.

    The work depends on ``side`` alone, however long the image is: only the pixels that the middle reads are resized.
    Pillow does both passes, in the order in which it would go over the whole image, so the result lies within one grey
    level of the whole's.
    """
    (height, width), (new_height, new_width) = image.shape[-2:], size
    rows, high = _read_by_middle(height, new_height, side)
    columns, wide = _read_by_middle(width, new_width, side)
    part = Image.fromarray(np.ascontiguousarray(image[:, rows, columns].permute(1, 2, 0).numpy()))

    def over_rows(middle: Image.Image) -> Image.Image:
        return middle.resize((middle.width, side), Image.Resampling.BICUBIC, box=(0, high[0], middle.width, high[1]))

    def over_columns(middle: Image.Image) -> Image.Image:
        return middle.resize((side, middle.height), Image.Resampling.BICUBIC, box=(wide[0], 0, wide[1], middle.height))

    part = over_columns(over_rows(part)) if _columns_first(height, width, size) else over_rows(over_columns(part))
    return torch.from_numpy(np.array(part)).permute(2, 0, 1)


def _read_by_middle(size: int, new_size: int, side: int) -> tuple[slice, tuple[float, float]]:
    """The old pixels that the middle ``side`` of the new ones read, and the edges of the middle among them."""
    scale, start = size / new_size, (new_size - side) // 2
    reach = SUPPORT * max(scale, 1.0) + 1  # one more for rounding
    first = max(0, int(start * scale - reach))
    behind = min(size, int((start + side) * scale + reach) + 1)
    return slice(first, behind), (start * scale - first, (start + side) * scale - first)


def is_half_enough(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether two passes, each from and to a number of pixels, stay within one level if PyTorch makes the even lines
    of the first one and all of the second.

    A value of the first pass is then off by one at most, on even lines alone. What the second pass makes of that is
    off by the sum of its absolute weights on even lines, and by the error of its own weights: less than one in all,
    before rounding, is one at most behind it.
    """
    error = largest_error(*second)
    # Asked first: where many weights are read, making them all would take long and could not change the answer.
    return largest_error(*first) < 0.5 and error < 1.0 and largest_share_of_even_lines(*second) + error < 1.0


@lru_cache(maxsize=4096)  # one per size of an axis, which images share more often than both
def largest_share_of_even_lines(size: int, new_size: int) -> float:
    """The largest sum of absolute weights on even lines that a new pixel has."""
    first, weights = bicubic_weights(size, new_size)
    on_even_lines = (first[:, None] + np.arange(weights.shape[1])) % 2 == 0
    return float((np.abs(weights) * on_even_lines).sum(axis=1).max())


@lru_cache(maxsize=4096)
def largest_error(size: int, new_size: int) -> float:
    """How far a value may be off before rounding because weights have few bits."""
    _, first, behind = _windows(size, new_size)
    return 255 * WEIGHT_ERROR * int((behind - first).max())


def bicubic_weights(size: int, new_size: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of N new pixels the first old one that it reads, (N,), and the weights from there on, (N, W) float64.

    A pixel's weights sum to 1; W is the most that one reads, and shorter rows end in zeros.
    """
    centers, first, behind = _windows(size, new_size)
    read = first[:, None] + np.arange((behind - first).max())
    weights = _bicubic((read - centers[:, None] + 0.5) / max(size / new_size, 1.0))
    weights[read >= behind[:, None]] = 0.0
    return first, weights / weights.sum(axis=1, keepdims=True)


def _windows(size: int, new_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each new pixel its center among the old ones, the first one that it reads and the one behind the last."""
    scale = size / new_size
    reach = SUPPORT * max(scale, 1.0)
    centers = (np.arange(new_size) + 0.5) * scale
    first = np.maximum(0, (centers - reach + 0.5).astype(np.int64))
    return centers, first, np.minimum(size, (centers + reach + 0.5).astype(np.int64))


def _bicubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near = ((SHARPNESS + 2) * x - (SHARPNESS + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * SHARPNESS
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _with_pillow(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W, 3) to (*size, 3)."""
    return np.array(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def _with_pytorch(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W, 3) to (*size, 3)."""
    # Not `permute(...)[None]`: PyTorch would not see interleaved colours, and copy them twice.
    image = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    return F.interpolate(image, size=size, mode="bicubic", antialias=True).permute(0, 2, 3, 1)[0].numpy()
