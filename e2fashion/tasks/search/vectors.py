"""Images become the vectors of an index: in this process, or wherever an engine takes an :class:`Embedder`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from e2fashion.data.transforms import ImageTransform
from e2fashion.embedding import join_regions
from e2fashion.encoder import Encoder
from e2fashion.tasks.search.config import EmbedConfig
from e2fashion.tasks.search.sources import Products
from e2fashion.tasks.search.storage import DESCRIPTION, IndexFacts
from e2fashion.tasks.search.tags import as_texts
from e2fashion.types import E2FashionError

#: An image's position, and its square (or vector (W,) fp16), or why there is none.
Item: TypeAlias = tuple[int, Tensor | str]


class Squares(Dataset[Item]):
    """The square of every image, uint8 (3, S, S), or why there is none."""

    def __init__(self, products: Products, transform: ImageTransform) -> None:
        self._products, self._transform = products, transform

    def __getitem__(self, position: int) -> Item:
        try:
            return position, self._products.square(position, self._transform)
        except E2FashionError as error:  # raised by the main process: a worker's would come with its traceback
            return position, str(error)


@dataclass(frozen=True)
class Embedder:
    """An encoder, the products it embeds, and how an index joins texts and regions to their vectors."""

    encoder: Encoder
    products: Products
    facts: IndexFacts

    @property
    def squares(self) -> Squares:
        """The images as the encoder reads them."""
        return Squares(self.products, self.encoder.transform)

    def vectors(self, batch: Sequence[Item]) -> list[Item]:
        """The vectors (W,) fp16 of squares; a reason why there is none stays one."""
        readable = {position: square for position, square in batch if isinstance(square, Tensor)}
        if not readable:
            return list(batch)
        embedded = self._embed(torch.stack(list(readable.values())), list(readable)).half()
        vectors = dict(zip(readable, embedded, strict=True))
        return [(position, vectors.get(position, given)) for position, given in batch]

    def _embed(self, squares: Tensor, positions: Sequence[int]) -> Tensor:
        """The vectors (n, W) of images, joined with their texts and regions as the index has it."""
        encoder, weight = self.encoder, self.facts.text_weight
        if self.facts.regions:
            images, regions = encoder.embed_images_and_regions(squares, len(squares))
        else:
            images, regions = encoder.embed_squares(squares), None
        if weight:
            texts = texts_of(encoder, self.products.table(positions))
            images = joined(images, texts, encoder.embed_texts(texts), weight)
        return images if regions is None else join_regions(images, regions)


#: What runs an embedder over batches of positions: yields all items in their order.
Engine: TypeAlias = Callable[[Embedder, Sequence[list[int]], EmbedConfig], Generator[Item, None, None]]


def embed_here(embedder: Embedder, batches: Sequence[list[int]], config: EmbedConfig) -> Generator[Item, None, None]:
    """Embed in this process; ``workers`` others decode the images."""
    loader = DataLoader(
        embedder.squares,
        batch_sampler=batches,
        collate_fn=list,
        num_workers=config.workers,
        # The threads of LanceDB do not survive a fork.
        multiprocessing_context="spawn" if config.workers else None,
    )
    for batch in loader:
        yield from embedder.vectors(batch)


def texts_of(encoder: Encoder, rows: pa.Table) -> list[str]:
    """The texts of a source's rows by the encoder's template; empty where a product has none."""
    rows = pa.table({name: as_texts(rows[name]) for name in rows.column_names})
    return [encoder.template.render(row, row[DESCRIPTION] or "").strip() for row in rows.to_pylist()]


def joined(images: Tensor, texts: Sequence[str], text_embeds: Tensor, weight: float) -> Tensor:
    """The normalized ``weight`` x text + (1 - ``weight``) x image, (n, C) each; without a text the image alone."""
    share = weight * torch.tensor([bool(text) for text in texts], dtype=images.dtype)[:, None]
    return F.normalize(share * text_embeds + (1 - share) * images, dim=-1)
