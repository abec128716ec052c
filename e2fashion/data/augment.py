"""Random view, flip and crop of a training image, drawn from (seed, epoch, product) and nothing else.

A draw therefore does not depend on loader processes, on the order of products, or on where a run was interrupted.
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass

from torch import Tensor

from e2fashion.types import E2FashionError

#: A random crop's aspect ratio stays within this factor of the image's (ours; torchvision's default is 4/3).
ASPECT_JITTER = 1.15


@dataclass(frozen=True)
class Draws:
    """Uniform numbers in [0, 1) that decide how one product looks in one epoch."""

    view: float
    flip: float
    area: float
    aspect: float
    top: float
    left: float


def draws_of(seed: int, epoch: int, product: str) -> Draws:
    """The random numbers of a product in an epoch: a hash of the three."""
    digest = hashlib.blake2b(f"{seed}/{epoch}/{product}".encode(), digest_size=48).digest()
    # 53 bits are what a float holds: dividing more of them could round up to 1.0.
    return Draws(*((number >> 11) / 2**53 for number in struct.unpack("<6Q", digest)))


@dataclass(frozen=True)
class Augmentation:
    """Which variations training applies.

    ``flip`` mirrors half of the images; ``crop_scale`` is the smallest share of an image's area that a random
    crop keeps (1.0 crops nothing). ``seed`` is that of the run. Neither is in the official code.
    """

    seed: int = 0
    flip: bool = False
    crop_scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.crop_scale <= 1.0:
            raise E2FashionError(f"image.crop_scale is {self.crop_scale}; give a share of the area above 0, up to 1.")

    def view(self, views: int, epoch: int, product: str) -> int:
        """Which of a product's ``views`` is shown in this epoch."""
        return int(draws_of(self.seed, epoch, product).view * views)

    def crop(self, image: Tensor, epoch: int, product: str) -> Tensor:
        """A random rectangle of a decoded image (3, H, W), before it is resized."""
        if self.crop_scale == 1.0:
            return image
        draws = draws_of(self.seed, epoch, product)
        height, width = image.shape[-2:]
        area = self.crop_scale + (1.0 - self.crop_scale) * draws.area
        # The rectangle must fit: its aspect may differ from the image's by 1 / area at most.
        jitter = min(ASPECT_JITTER, 1.0 / area) ** (2.0 * draws.aspect - 1.0)
        crop_height = min(height, max(1, round(height * math.sqrt(area / jitter))))
        crop_width = min(width, max(1, round(width * math.sqrt(area * jitter))))
        top = int(draws.top * (height - crop_height + 1))
        left = int(draws.left * (width - crop_width + 1))
        return image[:, top : top + crop_height, left : left + crop_width]

    def mirror(self, image: Tensor, epoch: int, product: str) -> Tensor:
        """The square (3, S, S), mirrored left to right in half of the cases."""
        if self.flip and draws_of(self.seed, epoch, product).flip < 0.5:
            return image.flip(-1)
        return image
