"""Products of a catalogue with the true regions of their tags, as patches of the squares that an encoder sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.dataset import CatalogueRows
from e2fashion.data.storage import REGIONS_COLUMN, decode_regions
from e2fashion.data.text import TextTemplate
from e2fashion.data.transforms import ImageTransform
from e2fashion.metrics.localization import patch_coverage
from e2fashion.types import Box, Entity


@dataclass(frozen=True)
class RegionBatch:
    """First views of B products.

    ``squares`` (B, 3, S, S) uint8; ``coverage`` (B, E, P) float64, the share of every patch that the tag's region
    covers, zero where it is not ``known`` (B, E) bool; ``cropped`` (B, E) bool: a region is known but lies wholly
    outside the square; ``tags`` B tuples in the order of the entities.
    """

    squares: Tensor
    coverage: Tensor
    known: Tensor
    cropped: Tensor
    tags: list[tuple[str | None, ...]]


def has_regions(catalogue: Catalogue, split: str) -> bool:
    """Whether a split says where its tags are seen."""
    return REGIONS_COLUMN in catalogue.split(split).column_names


def region_entities(catalogue: Catalogue, split: str) -> tuple[Entity, ...]:
    """The tag columns of which a split knows regions, as entities with the paper's two tokens."""
    texts = catalogue.split(split).with_format(None)[REGIONS_COLUMN]
    found = {column for text in texts if text for column in decode_regions(text)}
    return tuple(Entity(column, column) for column in catalogue.tag_columns if column in found)


def boxes_in_square(boxes: Sequence[Box], transform: ImageTransform, height: int, width: int) -> list[Box]:
    """Boxes of a picture (height, width) in its square; those that were cropped away are left out."""
    mapped = [transform.map_box(box, height, width) for box in boxes]
    return [box for box in mapped if box is not None]


def region_batches(
    catalogue: Catalogue,
    split: str,
    entities: Sequence[Entity],
    transform: ImageTransform,
    side: int,
    batch_size: int = 128,
) -> Iterator[RegionBatch]:
    """Every product's first view and regions, on a grid of ``side`` x ``side`` patches, in the catalogue's order."""
    columns = [entity.column for entity in entities]
    rows = CatalogueRows(catalogue.split(split), columns, TextTemplate(), transform)
    texts = catalogue.split(split)[REGIONS_COLUMN]
    starts = [int(row) for row in rows.product_starts[:-1]]
    for first in range(0, len(starts), batch_size):
        chosen = starts[first : first + batch_size]
        pictures = [rows.picture(row) for row in chosen]
        coverage = torch.zeros(len(chosen), len(columns), side * side, dtype=torch.float64)
        known, cropped = torch.zeros(2, len(chosen), len(columns), dtype=torch.bool)
        tags = [rows.tags(row) for row in chosen]
        for place, (row, picture) in enumerate(zip(chosen, pictures, strict=True)):
            regions = decode_regions(texts[row]) if texts[row] else {}
            for number, column in enumerate(columns):
                if tags[place][number] is None or not regions.get(column):
                    continue
                boxes = boxes_in_square(regions[column], transform, *picture.shape[-2:])
                coverage[place, number] = patch_coverage(boxes, side)
                known[place, number], cropped[place, number] = bool(boxes), not boxes
        squares = torch.stack([transform(picture) for picture in pictures])
        yield RegionBatch(squares, coverage, known, cropped, tags)
