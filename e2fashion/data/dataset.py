"""A split as items: texts, tags and decoded images, some of them cached, varied in training.

View, flip and crop of a training image are drawn from (seed, epoch, product) and nothing else: they do not depend on
loader processes, on the order of products, or on where a run was interrupted.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import Dataset

from e2fashion.data.decode import decode_image
from e2fashion.data.text import DESCRIPTION, TextTemplate
from e2fashion.data.transforms import ImageTransform
from e2fashion.types import E2FashionError

if TYPE_CHECKING:
    import datasets

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


class ImageCache:
    """uint8 images (3, S, S) by row, as many as fit; whichever process makes one first makes it for all.

    The memory is an anonymous shared mapping: it is taken up as images arrive, forked workers write into the same
    pages, and the size limit of ``/dev/shm`` does not apply. Processes that are spawned instead of forked get an
    empty cache of no capacity.

    Args:
        rows: number of images there are.
        size: S.
        max_bytes: upper bound of the memory.
    """

    def __init__(self, rows: int, size: int, max_bytes: int) -> None:
        bytes_each = 3 * size * size
        self.size = size
        self.capacity = min(rows, max_bytes // bytes_each)
        if self.capacity > 0:
            self._images = _shared_bytes(self.capacity * bytes_each).view(self.capacity, 3, size, size)
            self._filled = _shared_bytes(self.capacity)

    @property
    def bytes(self) -> int:
        """Memory that the full cache takes up."""
        return self.capacity * 3 * self.size * self.size

    def get(self, row: int) -> Tensor | None:
        """The image (3, S, S) of a row, a view that must not be written to, or None."""
        return self._images[row] if row < self.capacity and self._filled[row] else None

    def put(self, row: int, image: Tensor) -> None:
        """Keep an image (3, S, S) if there is room for its row."""
        if row < self.capacity:
            self._images[row] = image
            # The flag comes last: a process that sees it sees the whole image.
            self._filled[row] = 1

    def __len__(self) -> int:
        return int(self._filled.sum()) if self.capacity else 0

    def __getstate__(self) -> dict[str, Any]:
        return {"size": self.size, "capacity": 0}


def _shared_bytes(count: int) -> Tensor:
    return torch.frombuffer(mmap.mmap(-1, count), dtype=torch.uint8)


#: An index, alone (epoch 0) or with the epoch in which it is read.
Index: TypeAlias = int | tuple[int, int]


@dataclass(frozen=True)
class Item:
    """One image with its texts: ``image`` uint8 (3, S, S), ``tags`` in the order of the entities, None if unknown.

    ``description`` is its range of characters in ``text``; None: the text is one. ``text_tags`` are the tags that the
    text was rendered with, by column.
    """

    image: Tensor
    text: str
    tags: tuple[str | None, ...]
    product_id: str
    description: tuple[int, int] | None = None
    text_tags: Mapping[str, str | None] = field(default_factory=dict)


class CatalogueRows:
    """The rows of one split: texts in memory, images read when asked for.

    Args:
        split: columns ``product_id``, ``view``, ``image`` (bytes), ``description`` and the tag columns; rows of a
            product contiguous and sorted by view.
        entity_columns: the column of each entity; ``description`` may be one.
        template: what becomes the text.
        transform: what makes an image a square.

    Raises:
        E2FashionError: a column is missing.
    """

    def __init__(
        self, split: datasets.Dataset, entity_columns: Sequence[str], template: TextTemplate, transform: ImageTransform
    ) -> None:
        needed = list(dict.fromkeys(["product_id", DESCRIPTION, *template.columns, *entity_columns]))
        if missing := [column for column in [*needed, "image"] if column not in split.column_names]:
            raise E2FashionError(
                f"The catalogue has no column '{missing[0]}'. Its columns: {', '.join(split.column_names)}. "
                "Name an existing one in model.entities or text.template."
            )
        self.entity_columns = tuple(entity_columns)
        self.template = template
        self.transform = transform
        self._images = split.select_columns(["image"])
        # Arrow, not Python strings: compact, and forked workers do not copy it by counting references.
        self._texts: pa.Table = split.select_columns(needed).with_format("arrow")[:].combine_chunks()

    def __len__(self) -> int:
        return len(self._texts)

    @cached_property
    def product_starts(self) -> np.ndarray:
        """Where each product's rows begin, and the number of rows at the end: int64 (products + 1,).

        Raises:
            E2FashionError: the rows of a product are not contiguous.
        """
        return _starts_of_runs(self._texts["product_id"])

    @property
    def product_count(self) -> int:
        """Number of distinct products."""
        return len(self.product_starts) - 1

    @property
    def product_ids(self) -> pa.Array:
        """Every product once, in order."""
        return self._texts["product_id"].combine_chunks().take(pa.array(self.product_starts[:-1])).cast(pa.string())

    def product_id(self, row: int) -> str:
        """The product that a row shows."""
        return self._texts["product_id"][row].as_py()

    def text(self, row: int) -> str:
        """The rendered text of a row."""
        return self.placed_text(row)[0]

    def placed_text(self, row: int) -> tuple[str, tuple[int, int] | None]:
        """The rendered text of a row, and the range of its description in it."""
        return self._placed(row, self.text_tags(row))

    def _placed(self, row: int, tags: Mapping[str, str | None]) -> tuple[str, tuple[int, int] | None]:
        return self.template.render_placed(tags, self._texts[DESCRIPTION][row].as_py() or "")

    def text_tags(self, row: int) -> dict[str, str | None]:
        """The tags that the text of a row is rendered with, by column."""
        return {column: self._texts[column][row].as_py() for column in self.template.columns}

    def tags(self, row: int) -> tuple[str | None, ...]:
        """The entities' tags of a row; a blank one counts as missing."""
        values = (self._texts[column][row].as_py() for column in self.entity_columns)
        return tuple(value if value and value.strip() else None for value in values)

    def image(self, row: int) -> Tensor:
        """The decoded image (3, H, W) of a row.

        Raises:
            E2FashionError: it cannot be decoded; the message names the product.
        """
        try:
            return decode_image(self.encoded(row))
        except E2FashionError as error:
            raise E2FashionError(f"product '{self.product_id(row)}': {error}") from error

    def encoded(self, row: int) -> bytes:
        """The stored bytes of an image, past the formatting of ``datasets`` where rows are in the table's order."""
        if self._images._indices is not None:
            return self._images[row]["image"]
        return self._images.data.column("image")[row].as_py()

    def item(self, row: int, image: Tensor) -> Item:
        """A row's texts with a finished image (3, S, S)."""
        text_tags = self.text_tags(row)
        text, description = self._placed(row, text_tags)
        return Item(image, text, self.tags(row), self.product_id(row), description, text_tags)


class ViewDataset(Dataset[Item]):
    """Every row of a split, without augmentation: all views of all products, for evaluation."""

    def __init__(self, rows: CatalogueRows, cache: ImageCache | None = None) -> None:
        self.rows = rows
        self.cache = cache

    def __len__(self) -> int:
        return len(self.rows)

    def square(self, row: int) -> Tensor:
        """The resized image (3, S, S) of a row, from memory if it is there; not to be written to."""
        if self.cache is not None and (kept := self.cache.get(row)) is not None:
            return kept
        square = self.rows.transform(self.rows.image(row))
        if self.cache is not None:
            self.cache.put(row, square)
        return square

    def __getitem__(self, index: Index) -> Item:
        row = index if isinstance(index, int) else index[0]
        return self.rows.item(row, self.square(row))


class ProductDataset(Dataset[Item]):
    """One item per product: its first view, or in training one drawn per epoch, cropped and flipped.

    An index comes with its epoch, ``(product, epoch)``, because worker processes that live through several epochs
    would not hear of a new one otherwise. View, crop and flip depend on (seed, epoch, product) only.

    Args:
        rows: of one split.
        augmentation: what training varies; None shows the first view as it is.
        cache: resized images, used when nothing is cropped; may be shared with other datasets of the same rows.
    """

    def __init__(
        self, rows: CatalogueRows, augmentation: Augmentation | None = None, cache: ImageCache | None = None
    ) -> None:
        self.rows = rows
        self.augmentation = augmentation
        self._views = ViewDataset(rows, cache)

    def __len__(self) -> int:
        return self.rows.product_count

    def row(self, product: int, epoch: int = 0) -> int:
        """The row whose image represents a product in an epoch."""
        first, behind = int(self.rows.product_starts[product]), int(self.rows.product_starts[product + 1])
        if self.augmentation is None or behind - first == 1:
            return first
        return first + self.augmentation.view(behind - first, epoch, self.rows.product_id(first))

    def __getitem__(self, index: Index) -> Item:
        product, epoch = (index, 0) if isinstance(index, int) else index
        if not 0 <= product < len(self):
            raise IndexError(f"product {product} of {len(self)}")
        return self.item(self.row(product, epoch), epoch)

    def item(self, row: int, epoch: int) -> Item:
        """A row as it is shown in an epoch."""
        if self.augmentation is None:
            return self._views[row]
        key = self.rows.product_id(row)
        if self.augmentation.crop_scale == 1.0:
            square = self._views.square(row)
        else:
            square = self.rows.transform(self.augmentation.crop(self.rows.image(row), epoch, key))
        # The flip comes last, so that cached and fresh images are flipped alike.
        return self.rows.item(row, self.augmentation.mirror(square, epoch, key))


def _starts_of_runs(product_ids: pa.ChunkedArray) -> np.ndarray:
    runs = pa.compute.run_end_encode(product_ids.combine_chunks())
    ends = runs.run_ends.to_numpy(zero_copy_only=False).astype(np.int64)
    if len(pa.compute.unique(runs.values)) != len(ends):
        counts = pa.compute.value_counts(runs.values).to_pylist()
        scattered = next(entry["values"] for entry in counts if entry["counts"] > 1)
        raise E2FashionError(
            f"The rows of product '{scattered}' are not next to each other. Prepare the catalogue again."
        )
    return np.concatenate([np.zeros(1, dtype=np.int64), ends])
