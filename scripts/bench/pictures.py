"""Catalogue to normalised tensors, against the Hugging Face processor that is saved beside every model."""

from __future__ import annotations

import io

import datasets
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil

from e2fashion.data.dataset import CatalogueRows
from e2fashion.data.text import TextTemplate
from e2fashion.data.transforms import ImageTransform, normalize
from scripts.bench.report import Result
from scripts.bench.timing import interleave, threads
from scripts.bench.workplace import Workplace

TARGET = 2.0
GREY_LEVELS = 1
SIZE = 224
PICTURES = 160
BATCH_SIZE = 32


class Pictures:
    """Both arms read the same rows of a catalogue, a batch at a time; ours writes every batch into the same memory."""

    def __init__(self, split: datasets.Dataset, transform: ImageTransform) -> None:
        self.transform = transform
        self.rows = CatalogueRows(split, (), TextTemplate(), transform)
        self.encoded = split.select_columns(["image"])
        self.processor: CLIPImageProcessorPil = transform.to_processor()
        self.memory = torch.empty(BATCH_SIZE, 3, transform.size, transform.size)

    @property
    def batches(self) -> list[range]:
        """Rows of each batch of up to :data:`BATCH_SIZE` pictures B."""
        rows = range(len(self.rows))
        return [rows[first : first + BATCH_SIZE] for first in range(0, len(rows), BATCH_SIZE)]

    def squares(self, batch: range) -> Tensor:
        """Our uint8 pictures (B, 3, S, S)."""
        return torch.stack([self.transform(self.rows.picture(row)) for row in batch])

    def fast(self, batch: range) -> Tensor:
        """Ours: (B, 3, S, S) normalised, overwritten by the next batch."""
        return normalize(self.squares(batch), self.transform.mean, self.transform.std, out=self.memory[: len(batch)])

    def processed(self, batch: range) -> Tensor:
        """The processor's: (B, 3, S, S) normalised."""
        return self.processor(images=self._opened(batch), return_tensors="pt")["pixel_values"]

    def grey_level_differences(self, batch: range) -> Tensor:
        """How far our uint8 values lie from the processor's before it rescales them: (B, 3, S, S) int16."""
        theirs = self.processor(images=self._opened(batch), do_rescale=False, do_normalize=False, return_tensors="pt")
        return (self.squares(batch).to(torch.int16) - theirs["pixel_values"].to(torch.int16)).abs()

    def _opened(self, batch: range) -> list[Image.Image]:
        return [Image.open(io.BytesIO(self.encoded[row]["image"])) for row in batch]


def run(workplace: Workplace) -> list[Result]:
    """Time both on one thread and count grey levels."""
    products = workplace.large_pictures(PICTURES)
    pictures = Pictures(products.catalogue.split("train"), ImageTransform(size=SIZE))
    with threads(1):
        timing = interleave(
            {
                "processor": lambda: [pictures.processed(batch) for batch in pictures.batches],
                "fast": lambda: [pictures.fast(batch) for batch in pictures.batches],
            },
            2 * workplace.turns,
        )
    ratio = timing.ratio("processor", "fast")
    differences = torch.cat([pictures.grey_level_differences(batch) for batch in pictures.batches])
    counts = ", ".join(
        f"{int((differences == level).sum()):,} by {level}" for level in range(1, int(differences.max()) + 1)
    )
    rate = {arm: len(pictures.rows) / timing.median(arm) for arm in timing.seconds}
    return [
        Result(
            "pictures",
            "CLIPImageProcessorPil / ours, one thread",
            f"at least {TARGET} x, within {GREY_LEVELS} grey level",
            f"{ratio:.2f} x ({timing.spread('processor', 'fast')}), at most {int(differences.max())} grey level",
            ratio >= TARGET and int(differences.max()) <= GREY_LEVELS,
            f"{len(pictures.rows)} JPEGs of 256 x 256 ({products.origin}) to {SIZE} pixels, catalogue to floats; "
            f"{rate['processor']:.0f} and {rate['fast']:.0f} pictures/s; of {differences.numel():,} values differ "
            f"{counts or 'none'}",
        )
    ]
