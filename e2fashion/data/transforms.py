"""Decoded images to squares of one size, and squares to normalized floats: what the saved processor does, faster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil

from e2fashion.types import Box, E2FashionError

SUPPORT = 2.0  # pixels on each side that the bicubic filter reads where it does not shrink
SHARPNESS = -0.5  # of Pillow's bicubic, and of PyTorch's with antialiasing
#: How far weights may deviate from the true ones: PyTorch's for uint8 have 16 bits, at least 14 of them fractional,
#: Pillow's have 22.
WEIGHT_ERROR = 0.5 * (2.0**-14 + 2.0**-22)


def resize_bicubic(image: Tensor, size: tuple[int, int]) -> Tensor:
    """A uint8 image (3, H, W) to ``size`` (height, width), antialiased, within one gray level of ``Image.resize``.

    Both libraries go over rows and columns one after the other and round to uint8 between the passes. Pillow goes over
    the columns first where that saves work; rounding makes the order visible (up to nine gray levels at sharp edges).
    The rule is that of Pillow 13, determined by comparing it with single passes.

    PyTorch is faster, but its weights hold fewer bits than Pillow's: a single pass moves a value by one gray level
    at most, and neighbors that moved together could make it two in the second pass (measured: one of 1.5 million
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
        for start, resize in ((0, resize_with_pytorch), (1, _with_pillow)):
            lines = (slice(None),) * across + (slice(start, None, 2),)
            part = first[lines]
            part[:] = resize(np.ascontiguousarray(pixels[lines]), (part.shape[0], part.shape[1]))
    else:
        first = _with_pillow(pixels, between)
    return torch.from_numpy(resize_with_pytorch(first, size)).permute(2, 0, 1)


def _columns_first(height: int, width: int, size: tuple[int, int]) -> bool:
    """Whether Pillow goes over the columns, which changes the height, before it goes over the rows."""
    return height > size[0] and height - size[0] > 2 * (width - size[1])


def resize_middle(
    image: Tensor, size: tuple[int, int], side: int, resample: Image.Resampling = Image.Resampling.BICUBIC
) -> Tensor:
    """The middle (3, side, side) of an image (3, H, W) resized to ``size``, both at least ``side``.

    The work depends on ``side`` alone, however long the image is: only the pixels that the middle reads are resized.
    Pillow does both passes, in the order in which it would go over the whole image, so the result lies within one gray
    level of that of :func:`resize_bicubic`, or of ``Image.resize`` with another filter.
    """
    (height, width), (new_height, new_width) = image.shape[-2:], size
    rows, high = _read_by_middle(height, new_height, side)
    columns, wide = _read_by_middle(width, new_width, side)
    part = Image.fromarray(np.ascontiguousarray(image[:, rows, columns].permute(1, 2, 0).numpy()))

    def over_rows(middle: Image.Image) -> Image.Image:
        return middle.resize((middle.width, side), resample, box=(0, high[0], middle.width, high[1]))

    def over_columns(middle: Image.Image) -> Image.Image:
        return middle.resize((side, middle.height), resample, box=(wide[0], 0, wide[1], middle.height))

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
    off by the sum of its absolute weights on even lines, and by the error of its weights: less than one in all,
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
    weights = bicubic_kernel((read - centers[:, None] + 0.5) / max(size / new_size, 1.0))
    weights[read >= behind[:, None]] = 0.0
    return first, weights / weights.sum(axis=1, keepdims=True)


def _windows(size: int, new_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each new pixel its center among the old ones, the first one that it reads and the one behind the last."""
    scale = size / new_size
    reach = SUPPORT * max(scale, 1.0)
    centers = (np.arange(new_size) + 0.5) * scale
    first = np.maximum(0, (centers - reach + 0.5).astype(np.int64))
    return centers, first, np.minimum(size, (centers + reach + 0.5).astype(np.int64))


def bicubic_kernel(x: np.ndarray) -> np.ndarray:
    """Keys's cubic convolution kernel at distances ``x``, any shape."""
    x = np.abs(x)
    near = ((SHARPNESS + 2) * x - (SHARPNESS + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * SHARPNESS
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _with_pillow(
    pixels: np.ndarray, size: tuple[int, int], resample: Image.Resampling = Image.Resampling.BICUBIC
) -> np.ndarray:
    """uint8 (H, W, 3) to (*size, 3)."""
    return np.array(Image.fromarray(pixels).resize((size[1], size[0]), resample))


def resize_with_pytorch(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W, 3) to (*size, 3)."""
    # Not `permute(...)[None]`: PyTorch would not see interleaved colors, and copy them twice.
    image = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    return F.interpolate(image, size=size, mode="bicubic", antialias=True).permute(0, 2, 3, 1)[0].numpy()


Resize = Literal["squeeze", "crop", "pad"]
Filter = Literal["bicubic", "bilinear"]
_PILLOW: dict[Filter, Image.Resampling] = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

#: Color statistics of CLIP's training images, for pixels in [0, 1] (OpenAI).
CLIP_MEAN: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)

#: Of images that are this many times as long as wide only the middle that ``crop`` keeps is resized.
LONG = 8


@dataclass(frozen=True)
class ImageTransform:
    """An image of any shape to a square of ``size`` pixels.

    ``resize`` says how: ``squeeze`` ignores the aspect ratio; ``crop`` brings the short edge to ``size`` and keeps
    the center (official code); ``pad`` brings the long edge to ``size`` and centers the image on black, which is
    the padding that a saved :class:`CLIPImageProcessorPil` can express. All are antialiased, bicubic (CLIP) or as
    ``resample`` says (SigLIP 2: bilinear), rounded to uint8, and equal that processor within one gray level.
    """

    size: int = 224
    resize: Resize = "crop"
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    resample: Filter = field(default="bicubic", repr=False)  # not in the text that fingerprints are made of

    def __post_init__(self) -> None:
        if self.resize not in ("squeeze", "crop", "pad"):
            raise E2FashionError(f"image.resize is '{self.resize}'; choose squeeze, crop or pad.")
        if self.resample not in _PILLOW:
            raise E2FashionError(f"an image is resized by '{self.resample}'; choose bicubic or bilinear.")
        if self.size < 1:
            raise E2FashionError(f"image.size is {self.size}; give a number of pixels above 0.")

    def __call__(self, image: Tensor) -> Tensor:
        """uint8 (3, H, W) to uint8 (3, size, size). An image that has that size already is returned as it is.

        Raises:
            E2FashionError: the image has no pixels.
        """
        height, width = image.shape[-2:]
        if not height or not width:
            raise E2FashionError(f"an image of {width} x {height} pixels has no content: give one with pixels.")
        target = self._resized_shape(height, width)
        if target != (height, width):
            if self.resize == "crop" and max(target) > LONG * self.size:
                return resize_middle(image, target, self.size, _PILLOW[self.resample])
            if self.resample == "bicubic":
                image = resize_bicubic(image, target)
            else:
                pixels = _with_pillow(image.permute(1, 2, 0).numpy(), target, _PILLOW[self.resample])
                image = torch.from_numpy(pixels).permute(2, 0, 1)
        return image if self.resize == "squeeze" else _center(image, self.size)

    def _resized_shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width before cropping or padding, rounded as the Hugging Face processor rounds."""
        size = self.size
        if self.resize == "squeeze":
            return size, size
        if self.resize == "crop":
            if width <= height:
                return int(size * height / width), size
            return size, int(size * width / height)
        scale = min(size / height, size / width)
        return max(1, int(height * scale)), max(1, int(width * scale))

    def map_box(self, box: Box, height: int, width: int) -> Box | None:
        """The box of an image (height, width) in its square, in fractions of it.

        What was cropped away is cut off; None if nothing of the box is left.
        """
        new_height, new_width = self._resized_shape(height, width)
        # Floor division as in _center: an odd remainder must shift box and image alike.
        top, left = (new_height - self.size) // 2, (new_width - self.size) // 2
        x = [min(1.0, max(0.0, (edge * new_width - left) / self.size)) for edge in (box.left, box.right)]
        y = [min(1.0, max(0.0, (edge * new_height - top) / self.size)) for edge in (box.top, box.bottom)]
        return Box(x[0], y[0], x[1], y[1]) if x[0] < x[1] and y[0] < y[1] else None

    def to_processor(self) -> CLIPImageProcessorPil:
        """The image processor that is saved with the model and does the same (bytes to normalized floats)."""
        square = {"height": self.size, "width": self.size}
        sizes: dict[Resize, dict[str, int]] = {
            "squeeze": square,
            "crop": {"shortest_edge": self.size},
            "pad": {"max_height": self.size, "max_width": self.size},
        }
        return CLIPImageProcessorPil(
            size=sizes[self.resize],
            resample=_PILLOW[self.resample],
            do_center_crop=self.resize != "squeeze",
            crop_size=square,
            image_mean=list(self.mean),
            image_std=list(self.std),
        )

    @classmethod
    def from_processor(cls, processor: CLIPImageProcessorPil) -> ImageTransform:
        """The transform that does what a saved CLIP image processor does.

        Raises:
            E2FashionError: the processor does something that has no equal here (another filter, no resizing,
                a crop of another size); the message names the setting.
        """
        required = {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255}
        for key, expected in required.items():
            if (given := getattr(processor, key, None)) != expected:
                raise _unsupported(key, given)
        filters = {int(code): name for name, code in _PILLOW.items()}
        if processor.resample not in filters:
            raise _unsupported("resample", processor.resample)
        if getattr(processor, "do_pad", None):
            raise _unsupported("do_pad", True)
        size = {key: value for key, value in dict(processor.size).items() if value is not None}
        crop = {key: value for key, value in dict(processor.crop_size or {}).items() if value is not None}
        resize, pixels = _resize_of(size, bool(processor.do_center_crop))
        if processor.do_center_crop and crop != {"height": pixels, "width": pixels}:
            raise _unsupported("crop_size", crop)
        mean, std = tuple(processor.image_mean), tuple(processor.image_std)
        return cls(pixels, resize, mean, std, filters[processor.resample])


def normalize(
    pixels: Tensor, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor, out: Tensor | None = None
) -> Tensor:
    """uint8 (B, 3, H, W) to float of zero mean and unit deviation by channel, on whatever device the pixels are.

    ``mean`` and ``std`` (3,) are of pixels in [0, 1]. ``out``, float of the same shape, is written to instead of fresh
    memory: on a CPU that halves the time.
    """
    scale = 255.0 * torch.as_tensor(std, device=pixels.device).view(3, 1, 1)
    shift = 255.0 * torch.as_tensor(mean, device=pixels.device).view(3, 1, 1)
    if pixels.device.type != "cpu":
        # Promotion to float happens within the subtraction: one pass and one allocation fewer than .float() would take.
        return torch.sub(pixels, shift, out=out).div_(scale)
    out = torch.empty(pixels.shape) if out is None else out
    for image, target in zip(pixels, out, strict=True):  # one image fits into the cache, a batch does not
        target.copy_(image).sub_(shift).div_(scale)
    return out


def _center(image: Tensor, size: int) -> Tensor:
    """The center (3, size, size) of an image; where it is smaller, black surrounds it. Rounds as Hugging Face."""
    height, width = image.shape[-2:]
    top, left = (height - size) // 2, (width - size) // 2
    if top >= 0 and left >= 0:
        return image[:, top : top + size, left : left + size]
    above, before = max(0, -top), max(0, -left)
    visible = image[:, max(0, top) : max(0, top) + size, max(0, left) : max(0, left) + size]
    square = image.new_zeros(3, size, size)
    square[:, above : above + visible.shape[1], before : before + visible.shape[2]] = visible
    return square


def _resize_of(size: dict[str, int], center_crop: bool) -> tuple[Resize, int]:
    match size:
        case {"shortest_edge": pixels, **rest} if center_crop and not rest:
            return "crop", pixels
        case {"max_height": pixels, "max_width": other} if center_crop and pixels == other:
            return "pad", pixels
        case {"height": pixels, "width": other} if pixels == other:
            return "squeeze", pixels
    raise _unsupported("size", size)


def _unsupported(key: str, value: object) -> E2FashionError:
    return E2FashionError(
        f"The image processor has {key}={value}, which has no equal among image.resize squeeze, crop and pad "
        "(bicubic or bilinear, then rescaled by 1/255 and normalized). Choose image.size and image.resize yourself."
    )
