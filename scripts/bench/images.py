"""Catalogue to normalized tensors: against the Hugging Face processor, and images of many sizes against one size."""

from __future__ import annotations

import io
from functools import partial

import datasets
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil

from e2fashion.data.dataset import CatalogueRows
from e2fashion.data.decode import decode_image
from e2fashion.data.text import TextTemplate
from e2fashion.data.transforms import ImageTransform, largest_error, largest_share_of_even_lines, normalize
from scripts.bench.harness import Context, Result, compare, interleave, threads

SIZE = 224
TARGET, GRAY_LEVELS = 2.0, 1
IMAGES, BATCH_SIZE = 160, 32

MIXED_TARGET, MIXED_IMAGES = 1.2, 120
SHORT, LONG = 240, 360  # sides in pixels; their product is that of every image


class Images:
    """Both variants read the same rows of a catalogue in batches; ours writes every batch into the same memory."""

    def __init__(self, split: datasets.Dataset, transform: ImageTransform) -> None:
        self.transform = transform
        self.rows = CatalogueRows(split, (), TextTemplate(), transform)
        self.encoded = split.select_columns(["image"])
        self.processor: CLIPImageProcessorPil = transform.to_processor()
        self.memory = torch.empty(BATCH_SIZE, 3, transform.size, transform.size)
        rows = range(len(self.rows))
        self.batches = [rows[first : first + BATCH_SIZE] for first in range(0, len(rows), BATCH_SIZE)]

    def squares(self, batch: range) -> Tensor:
        """Our uint8 images (B, 3, S, S)."""
        return torch.stack([self.transform(self.rows.image(row)) for row in batch])

    def fast(self, batch: range) -> Tensor:
        """Ours: (B, 3, S, S) normalized, overwritten by the next batch."""
        return normalize(self.squares(batch), self.transform.mean, self.transform.std, out=self.memory[: len(batch)])

    def processed(self, batch: range) -> Tensor:
        """The processor's: (B, 3, S, S) normalized."""
        return self.processor(images=self._opened(batch), return_tensors="pt")["pixel_values"]

    def gray_level_differences(self, batch: range) -> Tensor:
        """Our uint8 values against the processor's before it rescales them: (B, 3, S, S) int16."""
        theirs = self.processor(images=self._opened(batch), do_rescale=False, do_normalize=False, return_tensors="pt")
        return (self.squares(batch).to(torch.int16) - theirs["pixel_values"].to(torch.int16)).abs()

    def _opened(self, batch: range) -> list[Image.Image]:
        return [Image.open(io.BytesIO(self.encoded[row]["image"])) for row in batch]


def images_of_a_catalogue(context: Context) -> list[Result]:
    """Time both on one thread and count gray levels."""
    products = context.large_images(IMAGES)
    images = Images(products.catalogue.split("train"), ImageTransform(size=SIZE))
    variants = {
        "processor": lambda: [images.processed(batch) for batch in images.batches],
        "fast": lambda: [images.fast(batch) for batch in images.batches],
    }
    with threads(1):
        timing = interleave(variants, 2 * context.turns)
    differences = torch.cat([images.gray_level_differences(batch) for batch in images.batches])
    largest = int(differences.max())
    counts = ", ".join(f"{int((differences == level).sum()):,} by {level}" for level in range(1, largest + 1))
    rate = {variant: len(images.rows) / timing.median(variant) for variant in variants}
    detail = (
        f"{len(images.rows)} JPEGs of 256 x 256 ({products.origin}) to {SIZE} pixels, catalogue to floats; "
        f"{rate['processor']:.0f} and {rate['fast']:.0f} images/s; of {differences.numel():,} values differ "
        f"{counts or 'none'}"
    )
    claim = "CLIPImageProcessorPil / ours, one thread"
    result = compare("images", claim, timing, ("processor", "fast"), detail, at_least=TARGET)
    levels = f"at most {largest} gray level"
    return [result.also(f", within {GRAY_LEVELS} gray level", levels, largest <= GRAY_LEVELS)]


def shapes(images: int) -> list[tuple[int, int]]:
    """``images`` different heights and widths of about the same number of pixels, all of different widths."""
    widths = np.linspace(SHORT, LONG, images).round().astype(int).tolist()
    return [(round(SHORT * LONG / width), width) for width in widths]


def encoded(height: int, width: int) -> bytes:
    """A JPEG of smooth noise."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def squares(images: list[bytes], transform: ImageTransform) -> Tensor:
    """Decoded and resized, (N, 3, S, S), as by a process to which all sizes are new."""
    largest_error.cache_clear()
    largest_share_of_even_lines.cache_clear()
    return torch.stack([transform(decode_image(data)) for data in images])


def mixed_sizes(context: Context) -> list[Result]:
    """Time both on one thread: the resize computes bounds for every new size."""
    count, transform = MIXED_IMAGES, ImageTransform(size=SIZE)
    mixed = [encoded(*shape) for shape in shapes(count)]
    same = [encoded(*shapes(count)[count // 2])] * count
    variants = {"mixed": partial(squares, mixed, transform), "same": partial(squares, same, transform)}
    with threads(1):
        timing = interleave(variants, 2 * context.turns)
    each = {variant: 1000 * timing.median(variant) / count for variant in variants}
    detail = (
        f"{count} JPEGs of {SHORT * LONG:,} pixels to {SIZE} pixels, decoded and cropped; {each['mixed']:.1f} and "
        f"{each['same']:.1f} ms an image"
    )
    claim = "all of another size / all of one size, one thread"
    return [compare("mixed-size images", claim, timing, ("mixed", "same"), detail, at_most=MIXED_TARGET)]
