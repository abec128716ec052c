"""An index of products, opened: which products it holds, and the nearest ones to a text, a picture or both."""

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
from torch import Tensor

from e2fashion.encoder import Encoder, ImageInput
from e2fashion.tasks.search import ann
from e2fashion.tasks.search.exact import nearest
from e2fashion.tasks.search.filters import Where, matching, suggest, tag_columns
from e2fashion.tasks.search.gallery import ShardGallery
from e2fashion.tasks.search.manifest import IndexManifest, Origin
from e2fashion.tasks.search.query import encode_query
from e2fashion.tasks.search.shards import DESCRIPTION, PLACE, PRODUCT_ID, read_shard
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

Engine: TypeAlias = Literal["auto", "exact", "faiss"]


@dataclass(frozen=True)
class Hit:
    """A product that was found: its score (cosine), its tags (those it has), and where its picture lies."""

    product_id: str
    score: float
    tags: Mapping[str, str]
    description: str | None
    place: str
    origin: Origin


class ProductIndex:
    """Products with one L2-normalised vector each, on disk; :func:`open_index` makes one.

    Args:
        path: the folder.
        manifest: what it says about itself.
        encoder: what embeds queries; None where only vectors are asked about.
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
        self._embeds = [embeds for embeds, _ in parts]
        self._starts = np.cumsum([0, *(shard.rows for shard in manifest.shards)])
        self._products = pa.concat_tables([products for _, products in parts], promote_options="default")
        self._counts = np.ones(len(self._products), dtype=bool)
        for start, shard in zip(self._starts, manifest.shards, strict=False):
            self._counts[start + np.array(shard.removed, dtype=np.int64)] = False

    def __len__(self) -> int:
        return self.manifest.products

    @property
    def tag_columns(self) -> list[str]:
        """Tags that products can be filtered by."""
        return tag_columns(self._products)

    @cached_property
    def products(self) -> pa.Table:
        """``product_id``, ``description``, ``place`` and tags of every product, in the order of :attr:`gallery`."""
        return self._products.filter(pa.array(self._counts))

    @cached_property
    def product_ids(self) -> list[str]:
        """Every product's id."""
        return self.products[PRODUCT_ID].to_pylist()

    @cached_property
    def gallery(self) -> ShardGallery:
        """The vectors of :attr:`products`."""
        return ShardGallery(self._embeds, None if self._counts.all() else torch.from_numpy(self._counts.nonzero()[0]))

    @cached_property
    def _tie(self) -> Tensor:
        """The place of each product among the sorted ids: equal scores stand in this order."""
        order = pc.sort_indices(self.products[PRODUCT_ID]).to_numpy()
        tie = np.empty(len(order), dtype=np.int64)
        tie[order] = np.arange(len(order))
        return torch.from_numpy(tie)

    def place_of(self, product_id: str) -> int:
        """The row of a product among :attr:`products`.

        Raises:
            E2FashionError: there is no such product; the message offers ids that are near.
        """
        found = pc.index(self.products[PRODUCT_ID], product_id).as_py()
        if found < 0:
            raise E2FashionError(
                f"there is no product '{product_id}' in {self.path}; near it: {suggest(product_id, self.product_ids)}"
            )
        return int(found)

    def vector_of(self, product_id: str) -> Tensor:
        """The stored vector of a product: (1, C) fp32."""
        return self.gallery.rows(torch.tensor([self.place_of(product_id)]))

    def search(
        self,
        text: str | None = None,
        image: ImageInput | None = None,
        weight: float = 0.5,
        where: Where | None = None,
        top: int = 10,
        engine: Engine = "auto",
    ) -> list[Hit]:
        """The products nearest to a text, a picture, or both, the best first.

        With both the query is the normalised ``weight`` x text + (1 - ``weight``) x picture. ``where`` maps tags to a
        value, several of which any will do, or None. ``engine`` ``auto`` is exact up to a million products and where
        there is a filter, else ``faiss``.

        Raises:
            E2FashionError: nothing to look for, an encoder other than the index was built with, an unknown tag.
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
        """The best products for every L2-normalised vector (Q, C), by the inner product."""
        scores, rows = self.nearest_rows(query, where, top, engine)
        return [self.hits(places, own) for own, places in zip(scores.tolist(), rows.tolist(), strict=True)]

    def nearest_rows(
        self, query: Tensor, where: Where | None = None, top: int = 10, engine: Engine = "auto"
    ) -> tuple[Tensor, Tensor]:
        """Scores (Q, k) fp64 and rows of :attr:`products` (Q, k) int64; k = ``top`` or as many as there are."""
        if not len(self):
            raise E2FashionError(f"the index {self.path} holds no products: add some with 'e2fashion index add'")
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
        scores, places = nearest(query, self.gallery.select(chosen), top, self._tie[chosen])
        return scores, chosen[places]

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
        found = self.products[DESCRIPTION].drop_null()
        number = min(ann.QUERIES, len(found))
        places = np.random.default_rng(0).choice(len(found), number, replace=False)
        queries = None
        if self.encoder is not None and number:
            queries = self.encoder.embed_texts(found.take(pa.array(places)).to_pylist())
        dimension = self.manifest.encoder.dimension
        return ann.open_approximate(self.path, self.manifest.data_fingerprint, self.gallery, dimension, queries)

    def hits(self, rows: Sequence[int], scores: Sequence[float]) -> list[Hit]:
        """Rows of :attr:`products` with their scores, as :meth:`nearest` returns them."""
        found = self.products.take(pa.array(rows, pa.int64())).to_pylist()
        return [
            _hit(values, score, self.origin_of(row)) for values, score, row in zip(found, scores, rows, strict=True)
        ]

    def origin_of(self, row: int) -> Origin:
        """Where a row of :attr:`products` comes from."""
        stored = int(self.gallery.stored_rows(torch.tensor([row]))[0])
        number = int(np.searchsorted(self._starts, stored, side="right")) - 1
        return self.manifest.shards[number].origin

    def checked_encoder(self) -> Encoder:
        """The encoder of queries; an E2FashionError where the index was opened without."""
        if self.encoder is None:
            raise E2FashionError(f"{self.path} was opened without an encoder, which texts and pictures need: give one")
        return self.encoder


def _hit(values: dict[str, Any], score: float, origin: Origin) -> Hit:
    tags = {
        name: value
        for name, value in values.items()
        if name not in (PRODUCT_ID, DESCRIPTION, PLACE) and value is not None
    }
    return Hit(values[PRODUCT_ID], score, tags, values[DESCRIPTION], values[PLACE], origin)


def check_same_encoder(path: Path, manifest: IndexManifest, encoder: Encoder) -> None:
    """Refuse an encoder that did not make the index.

    Raises:
        E2FashionError: other weights or another way of making a square; both names stand in the message.
    """
    own = manifest.encoder
    fingerprint = encoder.fingerprint
    if fingerprint != own.fingerprint:
        raise E2FashionError(
            f"the index {path} was built with '{own.name}' ({own.fingerprint[:12]}, {own.dimension} wide, pictures "
            f"{own.resize} at {own.image_size} px), not with '{encoder.name}' ({fingerprint[:12]}, {encoder.dimension} "
            f"wide, {encoder.transform.resize} at {encoder.transform.size} px), whose vectors mean something else: "
            f"give the former{f', {own.source}' if own.source else ''}, or build an index with the latter"
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
