"""Any catalogue with drawn logos on its photos: real products in which the region of one tag is known."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from e2fashion.data.images import encode_jpeg, read_image
from e2fashion.data.sources.base import SourceProblem, SourceRow
from e2fashion.data.synthfashion.drawing import JPEG_QUALITY
from e2fashion.data.synthfashion.logos import BRANDS, draw_logo
from e2fashion.types import E2FashionError, Sample

if TYPE_CHECKING:
    from e2fashion.data.catalogue import Catalogue

LOGO = "logo"


@dataclass
class DrawnLogosSource:
    """A prepared catalogue whose photos carry a drawn logo; its brand is the tag ``logo`` and its box is recorded.

    Texts, other tags, numbers and splits stay as they are. A logo depends on the seed, the product and the view
    alone, its brand on the seed and the product.

    Raises:
        E2FashionError: an option is out of its range, or the catalogue has a tag ``logo`` already.
    """

    path: str
    """The prepared catalogue."""
    size: float = 0.145
    """Side of a logo as a share of the photo's shorter side; SynthFashion's is 0.145."""
    products: int = 0
    """Draw on this many products, taken at random from all splits alike, and leave out the others; 0: all."""
    seed: int = 0
    """Seed of brands, places and of the products that are taken."""
    name: ClassVar[str] = "drawn_logos"

    def __post_init__(self) -> None:
        if not 0 < self.size <= 0.5:
            raise E2FashionError(f"drawn_logos: size={self.size} is not a share of a photo; set it above 0, up to 0.5")
        if self.products < 0:
            raise E2FashionError(f"drawn_logos: products={self.products} is negative; set it to 0 for all")
        if LOGO in self._catalogue.tag_columns:
            raise E2FashionError(f"drawn_logos: the catalogue {self.path} has a tag '{LOGO}' already")

    @cached_property
    def _catalogue(self) -> Catalogue:
        from e2fashion.data.catalogue import Catalogue  # here, because `datasets` costs half a second

        return Catalogue.load(self.path)

    @cached_property
    def _kept(self) -> frozenset[str] | None:
        """Ids of the products that are taken; None: all."""
        ids = {row for split in self._catalogue.split_names for row in self._catalogue.split(split)["product_id"]}
        if not self.products or self.products >= len(ids):
            return None
        return frozenset(sorted(ids, key=lambda product: self._digest("product", product))[: self.products])

    def _digest(self, *parts: object) -> int:
        text = "/".join(str(part) for part in (self.seed, *parts))
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")

    @property
    def content_stamp(self) -> str:
        """The fingerprint of the catalogue below ``path``."""
        return self._catalogue.fingerprint

    @property
    def tag_columns(self) -> tuple[str, ...]:
        """Those of the catalogue, its columns of numbers, then ``logo``."""
        return (*self._catalogue.tag_columns, *self.number_columns, LOGO)

    @property
    def number_columns(self) -> tuple[str, ...]:
        """The columns of numbers of the catalogue, which they become again."""
        return self._catalogue.number_columns

    def __len__(self) -> int:
        """Number of images, of which ``products`` may take a part."""
        return sum(len(self._catalogue.split(split)) for split in self._catalogue.split_names)

    def rows(self) -> Iterator[SourceRow | SourceProblem]:
        """The rows of the catalogue, split by split."""
        for split in self._catalogue.split_names:
            for sample in self._catalogue.samples(split):
                if self._kept is None or sample.product_id in self._kept:
                    yield self._drawn(sample)

    def _drawn(self, sample: Sample) -> SourceRow:
        brand = sorted(BRANDS)[self._digest("brand", sample.product_id) % len(BRANDS)]
        random = np.random.default_rng(self._digest("place", sample.product_id, sample.view))
        photo, box = draw_logo(read_image(sample.image), brand, self.size, random)
        numbers = {column: None if number is None else repr(number) for column, number in sample.numbers.items()}
        return SourceRow(
            row=sample.row,
            product_id=sample.product_id,
            image=encode_jpeg(photo, JPEG_QUALITY),
            description=sample.description,
            tags={**sample.tags, **numbers, LOGO: brand},
            view=sample.view,
            split=sample.split,
            group=sample.group,
            regions={**(sample.regions or {}), LOGO: (box,)},
        )
