"""SynthFashion as a source: rendered garments in which the region of every tag is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from e2fashion.data.sources.base import SourceProblem, SourceRow
from e2fashion.data.synthfashion.products import TAG_COLUMNS
from e2fashion.types import E2FashionError

SMALLEST_IMAGE = 32


@dataclass
class SyntheticSource:
    """SynthFashion, rendered products; the same options give the same bytes.

    Raises:
        E2FashionError: an option is out of its range.
    """

    name: ClassVar[str] = "synthetic"

    products: int = 2000
    """Number of products."""
    image_size: int = 128
    """Pixels along the square."""
    views: int = 2
    """Images of a product."""
    seed: int = 0
    """Seed of products and images."""
    missing_tags: float = 0.1
    """Share of brands, seasons and compositions that are unknown."""

    def __post_init__(self) -> None:
        bounds = {"products": 1, "image_size": SMALLEST_IMAGE, "views": 1, "seed": 0}
        for option, least in bounds.items():
            value = getattr(self, option)
            if value < least:
                raise E2FashionError(f"synthetic: {option}={value} is too small; set it to {least} or more")
        if not 0 <= self.missing_tags < 1:
            raise E2FashionError(
                f"synthetic: missing_tags={self.missing_tags} is no share; set it to at least 0 and less than 1"
            )

    @property
    def tag_columns(self) -> tuple[str, ...]:
        """Names of the tag columns that every row's ``tags`` holds."""
        return TAG_COLUMNS

    def __len__(self) -> int:
        """Number of images."""
        return self.products * self.views

    def rows(self) -> Iterator[SourceRow | SourceProblem]:
        """The images, product by product."""
        # Imported here because the generator yields the rows that this package defines.
        from e2fashion.data.synthfashion.generate import generate

        return iter(generate(self.products, self.views, self.image_size, self.seed, self.missing_tags))
