"""Decoded pictures to squares of one size, and squares to normalised floats: what the saved processor does, faster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil

from e2fashion.data.resample import resize_bicubic, resize_bicubic_middle
from e2fashion.types import Box, E2FashionError

Resize = Literal["squeeze", "crop", "pad"]

#: Colour statistics of CLIP's training pictures, for pixels in [0, 1] (OpenAI).
CLIP_MEAN: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)

#: Of images that are this many times as long as wide only the middle that ``crop`` keeps is resized.
LONG = 8


@dataclass(frozen=True)
class ImageTransform:
    """A picture of any shape to a square of ``size`` pixels.

    ``resize`` says how: ``squeeze`` ignores the aspect ratio; ``crop`` brings the short edge to ``size`` and keeps
    the centre (official code); ``pad`` brings the long edge to ``size`` and centres the picture on black, which is
    the padding that a saved :class:`CLIPImageProcessorPil` can express. All are bicubic with antialiasing, rounded
    to uint8, and equal that processor within one grey level.
    """

    size: int = 224
    resize: Resize = "crop"
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD

    def __post_init__(self) -> None:
        if self.resize not in ("squeeze", "crop", "pad"):
            raise E2FashionError(f"image.resize is '{self.resize}'; choose squeeze, crop or pad.")
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
                return resize_bicubic_middle(image, target, self.size)
            image = resize_bicubic(image, target)
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
        """Where a box of a picture (height, width) lies in its square, in fractions of it.

        What was cropped away is cut off; None if nothing of the box is left.
        """
        new_height, new_width = self._resized_shape(height, width)
        # Floor division as in _center: an odd remainder must shift box and picture alike.
        top, left = (new_height - self.size) // 2, (new_width - self.size) // 2
        x = [min(1.0, max(0.0, (edge * new_width - left) / self.size)) for edge in (box.left, box.right)]
        y = [min(1.0, max(0.0, (edge * new_height - top) / self.size)) for edge in (box.top, box.bottom)]
        return Box(x[0], y[0], x[1], y[1]) if x[0] < x[1] and y[0] < y[1] else None

    def to_processor(self) -> CLIPImageProcessorPil:
        """The image processor that is saved beside the model and does the same (bytes to normalised floats)."""
        square = {"height": self.size, "width": self.size}
        sizes: dict[Resize, dict[str, int]] = {
            "squeeze": square,
            "crop": {"shortest_edge": self.size},
            "pad": {"max_height": self.size, "max_width": self.size},
        }
        return CLIPImageProcessorPil(
            size=sizes[self.resize],
            resample=Image.Resampling.BICUBIC,
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
        required = {
            "do_resize": True,
            "do_rescale": True,
            "do_normalize": True,
            "resample": int(Image.Resampling.BICUBIC),
            "rescale_factor": 1 / 255,
        }
        for key, expected in required.items():
            if (found := getattr(processor, key, None)) != expected:
                raise _unsupported(key, found)
        if getattr(processor, "do_pad", None):
            raise _unsupported("do_pad", True)
        size = {key: value for key, value in dict(processor.size).items() if value is not None}
        crop = {key: value for key, value in dict(processor.crop_size or {}).items() if value is not None}
        resize, pixels = _resize_of(size, bool(processor.do_center_crop))
        if processor.do_center_crop and crop != {"height": pixels, "width": pixels}:
            raise _unsupported("crop_size", crop)
        return cls(pixels, resize, tuple(processor.image_mean), tuple(processor.image_std))


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
    for picture, place in zip(pixels, out, strict=True):  # one picture fits into the cache, a batch does not
        place.copy_(picture).sub_(shift).div_(scale)
    return out


def _center(image: Tensor, size: int) -> Tensor:
    """The centre (3, size, size) of a picture; where it is smaller, black surrounds it. Rounds as Hugging Face."""
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
        "(bicubic, then rescaled by 1/255 and normalised). Choose image.size and image.resize yourself."
    )
