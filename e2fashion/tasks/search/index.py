"""An index of products, opened: which products it holds, and the nearest ones to a text, an image or both."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from PIL import Image
from torch import Tensor

from e2fashion.arithmetic import set_threads
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.image_files import ImageError
from e2fashion.data.images import read_image, read_stored
from e2fashion.encoder import Encoder, ImageInput, load_encoder
from e2fashion.figures import Pane
from e2fashion.measuring import to_device
from e2fashion.tasks.search import approximate as ann
from e2fashion.tasks.search.config import OpenIndexConfig, SearchConfig
from e2fashion.tasks.search.exact import Gallery, nearest
from e2fashion.tasks.search.query import Where, conditions, encode_query, matching, suggest
from e2fashion.tasks.search.storage import (
    DESCRIPTION,
    LOCATION,
    PRODUCT_ID,
    IndexManifest,
    Origin,
    read_shard,
    tag_columns,
)
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

Engine: TypeAlias = Literal["auto", "exact", "faiss"]
TAGS_SHOWN = 3


@dataclass(frozen=True)
class Hit:
    """A product that a search returns: its score (cosine), the tags that it has, and where its image is stored."""

    product_id: str
    score: float
    tags: Mapping[str, str]
    description: str | None
    location: str
    origin: Origin

    def image(self) -> Image.Image:
        """Its image, from its catalogue or file.

        Raises:
            E2FashionError: it is not there any more.
        """
        try:
            if self.origin.kind != "catalogue":
                return read_image(self.location)
            split, _, row = self.location.rpartition("/")
            return read_stored(Catalogue.load(self.origin.path).split(split)[int(row)]["image"])
        except (ImageError, IndexError, KeyError) as error:
            raise E2FashionError(
                f"the image of product '{self.product_id}' is not at {self.origin.path} any more ({error}): search "
                "without a figure, or from the folder where the index was built"
            ) from error

    def pane(self, rank: str, note: str = "") -> Pane:
        """A cell of a contact sheet; ``note`` follows the score."""
        tags = list(self.tags.values())[:TAGS_SHOWN]
        return Pane(self.image(), [f"{rank}   {self.score:.3f}{note}", self.description or self.product_id, *tags])


@dataclass(frozen=True)
class SearchResult:
    """Hits, best first; the number of products in the index, and the method: exact, or approximate with its recall."""

    hits: list[Hit]
    products: int
    method: str


class ProductIndex:
    """Products with one L2-normalized vector each, on disk; :func:`open_index` makes one.

    Args:
        path: the folder.
        manifest: its facts.
        encoder: embeds queries; None where queries are vectors.
        verify: whether the shards' checksums are compared.
    """

    def __init__(
        self, path: Path, manifest: IndexManifest, encoder: Encoder | None = None, verify: bool = True
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.encoder = encoder
        dimension = manifest.encoder.dimension
        parts = [read_shard(path, shard, dimension, verify) for shard in manifest.shards]
        self._starts = np.cumsum([0, *(shard.rows for shard in manifest.shards)])
        counts = np.ones(self._starts[-1], dtype=bool)
        for start, shard in zip(self._starts, manifest.shards, strict=False):
            counts[start + np.array(shard.removed, dtype=np.int64)] = False
        stored = pa.concat_tables([products for _, products in parts], promote_options="default")
        self.products: pa.Table = stored if counts.all() else stored.filter(pa.array(counts))
        """``product_id``, ``description``, ``place`` and tags of every product, in the order of :attr:`gallery`."""
        self.gallery = Gallery(
            [embeds for embeds, _ in parts], None if counts.all() else torch.from_numpy(counts.nonzero()[0])
        )
        """The vectors of :attr:`products`."""

    def __len__(self) -> int:
        return self.manifest.products

    @property
    def tag_columns(self) -> list[str]:
        """Tags that products can be filtered by."""
        return tag_columns(self.products)

    @cached_property
    def product_ids(self) -> list[str]:
        """Every product's id."""
        return self.products[PRODUCT_ID].to_pylist()

    @cached_property
    def _tie(self) -> Tensor:
        """The rank of each product among the sorted ids: equal scores are in this order."""
        order = pc.sort_indices(self.products[PRODUCT_ID]).to_numpy()
        tie = np.empty(len(order), dtype=np.int64)
        tie[order] = np.arange(len(order))
        return torch.from_numpy(tie)

    def row_of(self, product_id: str) -> int:
        """The row of a product among :attr:`products`.

        Raises:
            E2FashionError: there is no such product; the message suggests the nearest ids.
        """
        found = pc.index(self.products[PRODUCT_ID], product_id).as_py()
        if found < 0:
            raise E2FashionError(
                f"there is no product '{product_id}' in {self.path}; near it: {suggest(product_id, self.product_ids)}"
            )
        return int(found)

    def vector_of(self, product_id: str) -> Tensor:
        """The stored vector of a product: (1, C) fp32."""
        return self.gallery.rows(torch.tensor([self.row_of(product_id)]))

    def search(
        self,
        text: str | None = None,
        image: ImageInput | None = None,
        weight: float = 0.5,
        where: Where | None = None,
        top: int = 10,
        engine: Engine = "auto",
    ) -> list[Hit]:
        """The products nearest to a text, an image, or both, best first.

        With both the query is the normalized ``weight`` x text + (1 - ``weight``) x image. ``where`` maps tags to a
        value, a list of which any will do, or None. ``engine`` ``auto`` is exact up to a million products and where
        there is a filter, else ``faiss``.

        Raises:
            E2FashionError: no query, an encoder other than the index was built with, an unknown tag.
        """
        query = encode_query(self.checked_encoder(), text, image, weight)
        return self.nearest(query, where, top, engine)[0]

    def retrieval(self, queries: Sequence[str], top: int = 10, where: Where | None = None) -> list[list[str]]:
        """The ids of the best products for every text, as FashionCLIP's method of that name."""
        encoder = self.checked_encoder()
        if isinstance(queries, str):
            raise E2FashionError(f"give a list of texts, as in [{queries!r}]; search() takes one text")
        for query in queries:
            encode_query(encoder, query, None)  # refuses an empty one
        found = self.nearest(encoder.embed_texts(list(queries)), where=where, top=top)
        return [[hit.product_id for hit in hits] for hits in found]

    def nearest(
        self, query: Tensor, where: Where | None = None, top: int = 10, engine: Engine = "auto"
    ) -> list[list[Hit]]:
        """The best products for every L2-normalized vector (Q, C), by the inner product."""
        scores, rows = self.nearest_rows(query, where, top, engine)
        return [self.hits(*each) for each in zip(rows.tolist(), scores.tolist(), strict=True)]

    def nearest_rows(
        self, query: Tensor, where: Where | None = None, top: int = 10, engine: Engine = "auto"
    ) -> tuple[Tensor, Tensor]:
        """Scores (Q, k) fp64 and rows of :attr:`products` (Q, k) int64; k = ``top`` or as many as there are."""
        if query.shape[-1] != self.manifest.encoder.dimension:
            raise E2FashionError(
                f"queries of width {query.shape[-1]} for an index of width {self.manifest.encoder.dimension}: embed "
                f"them with '{self.manifest.encoder.name}'"
            )
        if not where:
            if self.uses_faiss(engine):
                return self.approximate.nearest(query, self.gallery, top, self._tie)
            return nearest(query, self.gallery, top, self._tie)
        if engine == "faiss":
            raise E2FashionError("filtered searches are exact: leave engine=faiss or the filter out")
        chosen = torch.from_numpy(matching(self.products, where).nonzero()[0])
        scores, positions = nearest(query, self.gallery.select(chosen), top, self._tie[chosen])
        return scores, chosen[positions]

    def uses_faiss(self, engine: Engine = "auto") -> bool:
        """Whether a search without a filter is approximate.

        Raises:
            E2FashionError: an engine that does not exist.
        """
        if engine not in ("auto", "exact", "faiss"):
            raise E2FashionError(f"engine is '{engine}'; choose auto, exact or faiss")
        if engine == "auto" and len(self) > ann.ROWS and find_spec("faiss") is None:
            logger.warning("searching %s products exactly: faiss is not installed (extra ann)", f"{len(self):,}")
            return False
        return engine == "faiss" or (engine == "auto" and len(self) > ann.ROWS)

    @cached_property
    def approximate(self) -> ann.Approximate:
        """The faiss index, read or built; its recall is measured with descriptions of products where there are some."""
        texts = self.products[DESCRIPTION].drop_null()
        number = min(ann.QUERIES, len(texts))
        rows = np.random.default_rng(0).choice(len(texts), number, replace=False)
        queries = None
        if self.encoder is not None and number:
            queries = self.encoder.embed_texts(texts.take(pa.array(rows)).to_pylist())
        manifest = self.manifest
        return ann.open_approximate(
            self.path, manifest.data_fingerprint, self.gallery, manifest.encoder.dimension, queries
        )

    def hits(self, rows: Sequence[int], scores: Sequence[float]) -> list[Hit]:
        """Rows of :attr:`products` with their scores, as :meth:`nearest` returns them."""
        found: list[dict[str, Any]] = self.products.take(pa.array(rows, pa.int64())).to_pylist()
        shards = self.stored_at(rows)
        return [
            Hit(
                values[PRODUCT_ID],
                score,
                {name: values[name] for name in self.tag_columns if values[name] is not None},
                values[DESCRIPTION],
                values[LOCATION],
                self.manifest.shards[number].origin,
            )
            for values, score, (number, _) in zip(found, scores, shards, strict=True)
        ]

    def stored_at(self, rows: Sequence[int]) -> list[tuple[int, int]]:
        """The number of the shard, and the row in it, of each of these rows of :attr:`products`."""
        stored = self.gallery.stored_rows(torch.tensor(rows, dtype=torch.int64)).numpy()
        numbers = np.searchsorted(self._starts, stored, side="right") - 1
        return list(zip(numbers.tolist(), (stored - self._starts[numbers]).tolist(), strict=True))

    def checked_encoder(self) -> Encoder:
        """The encoder of queries; an E2FashionError where the index was opened without."""
        if self.encoder is None:
            raise E2FashionError(f"{self.path} was opened without an encoder, which texts and images need: give one")
        return self.encoder


def check_same_encoder(path: Path, manifest: IndexManifest, encoder: Encoder) -> None:
    """Refuse an encoder that did not make the index.

    Raises:
        E2FashionError: other weights or another way of making a square; the message has both names.
    """
    known = manifest.encoder
    fingerprint = encoder.fingerprint
    if fingerprint != known.fingerprint:
        raise E2FashionError(
            f"the index {path} was built with '{known.name}' ({known.fingerprint[:12]}, {known.dimension} wide, images "
            f"{known.resize} at {known.image_size} px), not with '{encoder.name}' ({fingerprint[:12]}, "
            f"{encoder.dimension} wide, {encoder.transform.resize} at {encoder.transform.size} px), whose vectors mean "
            f"something else: give the former{f', {known.source}' if known.source else ''}, or build an index with the "
            "latter"
        )


def open_index(path: str | Path, encoder: Encoder | None = None, verify: bool = True) -> ProductIndex:
    """Open an index; ``encoder`` embeds queries and must be the one that built it. ``verify`` reads every shard once.

    Raises:
        E2FashionError: no index, one whose building was interrupted, another model's, or a damaged shard (named).
    """
    folder = Path(path)
    manifest = IndexManifest.load(folder)
    if not manifest.shards and manifest.pending is not None:
        raise E2FashionError(
            f"the index {folder} is unfinished ({manifest.pending.done:,} of {manifest.pending.total:,} products): go "
            "on by repeating the command that built it"
        )
    if not manifest.shards:
        raise E2FashionError(f"the index {folder} holds no products any more: build it again")
    if encoder is not None:
        check_same_encoder(folder, manifest, encoder)
    return ProductIndex(folder, manifest, encoder, verify)


def load_index_encoder(config: OpenIndexConfig) -> Encoder:
    """The encoder that built an index, from ``model`` or where the index says, on the device of the configuration.

    Raises:
        E2FashionError: it is not where it was; the message names the folders that were tried.
    """
    set_threads(config.threads)
    if config.model is not None:
        encoder = load_encoder(config.model)
    else:
        known = IndexManifest.load(Path(config.index)).encoder
        # How images become square is part of the index.
        encoder = load_encoder(model_of(config), known.name, resize=known.resize, size=known.image_size)
    to_device(encoder, config.accelerator)
    return encoder


def model_of(config: OpenIndexConfig) -> str:
    """Folder or hub name of the model of an index: ``model`` if that is given.

    Raises:
        E2FashionError: the index does not say, or the model is not there any more.
    """
    if config.model is not None:
        return config.model
    known = IndexManifest.load(Path(config.index)).encoder
    if not known.source:
        raise E2FashionError(f"{config.index} does not say where its model '{known.name}' is: give model=<folder>.")
    what = f"the model '{known.name}' of the index {config.index}"
    return known.location.find(config.index, what, "Give model=<folder or hub name>.")


def search(config: SearchConfig, index: ProductIndex | None = None, image: ImageInput | None = None) -> SearchResult:
    """The products nearest to the query of a configuration.

    Args:
        config: the settings; ``index`` names the one that is opened, with its encoder, if none is given here.
        index: an open index with its encoder.
        image: the image of the query, in memory; None: that of the configuration.

    Raises:
        E2FashionError: as :func:`open_index` and :meth:`ProductIndex.search`.
    """
    index = index or open_index(config.index, load_index_encoder(config), config.verify)
    where, image = conditions(config.where), config.image if image is None else image
    hits = index.search(config.text, image, config.weight, where, config.top, config.engine)
    approximately = not where and index.uses_faiss(config.engine)
    return SearchResult(hits, len(index), index.approximate.describe() if approximately else "exact")
