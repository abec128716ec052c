"""An index of products, opened: the nearest products to a text, an image or both."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import torch.nn.functional as F
from torch import Tensor

from e2fashion.arithmetic import set_threads
from e2fashion.embedding import join_stated
from e2fashion.encoder import Encoder, ImageInput, load_encoder, require_single_vectors
from e2fashion.measuring import to_device
from e2fashion.tasks.search.config import OpenIndexConfig, QueryConfig, SearchConfig, check_score_weight
from e2fashion.tasks.search.facts import IndexFacts
from e2fashion.tasks.search.places import Place, place_of, reading_at
from e2fashion.tasks.search.snapshot import Engine, Hit, Snapshot, Views
from e2fashion.tasks.search.storage import open_table
from e2fashion.tasks.search.tags import Conditions, Where, suggest, tags_in
from e2fashion.types import E2FashionError


@dataclass(frozen=True)
class SearchResult:
    """Hits, best first; the number of products in the index, the method, and the tags that count in the score."""

    hits: list[Hit]
    products: int
    method: str
    tags: dict[str, str] = field(default_factory=dict)


class ProductIndex:
    """Products with one L2-normalized vector or more each, stored; :func:`open_index` makes one.

    A search is in the latest version of the table: what other processes change is seen by the next one.

    Args:
        path: the folder, or the address at an object store.
        facts: its facts.
        encoder: embeds queries; None where queries are vectors.
        verify: whether files, or vectors, are compared with their checksums.
    """

    def __init__(self, path: Place, facts: IndexFacts, encoder: Encoder | None = None, verify: bool = True) -> None:
        self.path = path
        self.facts = facts
        self.encoder = encoder
        self._verify = verify
        self._reading = threading.Lock()
        self._snapshot = Snapshot(path, facts, verify)
        self._latest = open_table(path, facts, verify=False)

    def __len__(self) -> int:
        return len(self.snapshot())

    @property
    def tag_columns(self) -> list[str]:
        """Tags that products can be filtered by."""
        return list(self.snapshot().tags)

    @property
    def product_ids(self) -> list[str]:
        """Every product's id."""
        return self.snapshot().product_ids

    @property
    def version(self) -> int:
        """The version of the table that was last searched."""
        return self._snapshot.version

    def reload(self) -> bool:
        """Read the latest version of the table; False if it was read already. Every search does this itself.

        Raises:
            E2FashionError: the index was removed or damaged meanwhile.
        """
        with self._reading:
            return self._read_latest()

    def _read_latest(self) -> bool:
        with reading_at(self.path):
            self._latest.checkout_latest()
            if self._latest.version == self._snapshot.version:
                return False
        facts = IndexFacts.load(self.path)
        snapshot = Snapshot(self.path, facts, self._verify)
        if "vectors" in vars(self._snapshot):
            _ = snapshot.vectors  # before it is searched: other threads use the former one meanwhile
        self._snapshot, self.facts = snapshot, facts
        return True

    def snapshot(self) -> Snapshot:
        """The latest version of the table, or, while another thread reads it, the one before."""
        if self._reading.acquire(blocking=False):
            try:
                self._read_latest()
            finally:
                self._reading.release()
        return self._snapshot

    def vector_of(self, product_id: str) -> Tensor:
        """The stored vector of a product's first view, without its regions: (1, C) fp32."""
        snapshot = self.snapshot()
        return snapshot.vectors[snapshot.firsts[[snapshot.product(product_id)]], : snapshot.dimension].float()

    def search(
        self,
        text: str | None = None,
        image: ImageInput | None = None,
        weight: float = 0.5,
        where: Where | Conditions | None = None,
        top: int = 10,
        views: Views = "best",
        engine: Engine = "auto",
        tags: Mapping[str, str] | None = None,
        region_weight: float | None = None,
    ) -> list[Hit]:
        """The products nearest to a text, an image, or both, best first.

        With both the query is the normalized ``weight`` x text + (1 - ``weight``) x image. ``where`` maps tags to a
        value, a list of which any will do, or None; :class:`~e2fashion.tasks.search.tags.Conditions` say more.
        ``views`` are the vectors of a product that count; ``engine`` ``auto`` is exact up to a million images. With
        regions ``tags`` by entity, else :meth:`stated_tags`, join the score with ``region_weight``.

        Raises:
            E2FashionError: no query, an encoder other than the index was built with, an unknown tag.
        """
        query = encode_query(self.checked_encoder(), text, image, weight)
        query = self.with_tags(query, [self.stated_tags(text, tags)], region_weight)
        return self.nearest(query, where, top, views, engine)[0]

    def retrieval(
        self, queries: Sequence[str], top: int = 10, where: Where | Conditions | None = None
    ) -> list[list[str]]:
        """The ids of the best products for every text, as FashionCLIP's method of that name.

        Raises:
            E2FashionError: one text instead of a list, or a text that is empty.
        """
        if isinstance(queries, str):
            raise E2FashionError(f"give a list of texts, as in [{queries!r}]; search() takes one text")
        for query in queries:
            check_text(query)
        found = self.nearest(self.embed_queries(queries), where=where, top=top)
        return [[hit.product_id for hit in hits] for hits in found]

    def embed_queries(self, texts: Sequence[str], region_weight: float | None = None) -> Tensor:
        """The vectors of texts with the tags that each names, see :meth:`with_tags`."""
        values, embeds = self._values(), self.checked_encoder().embed_texts(list(texts))
        return self.with_tags(embeds, [tags_in(text, values) for text in texts], region_weight)

    def stated_tags(self, text: str | None = None, tags: Mapping[str, str] | None = None) -> dict[str, str]:
        """The tags of a query by entity: ``tags``, else those of the index's products that ``text`` names.

        Raises:
            E2FashionError: ``tags`` of an entity without a region in the index, or not one text.
        """
        for entity, value in (tags or {}).items():
            self._require_regions(f"tags.{entity}")
            if entity not in self.facts.regions:
                hint = suggest(entity, self.facts.regions)
                raise E2FashionError(f"the model of {self.path} has no entity '{entity}': {hint}")
            if not isinstance(value, str) or not value.strip():
                raise E2FashionError(f"tags.{entity} is {value!r}; give one tag as text, or leave it out")
        return dict(tags) if tags else tags_in(text, self._values()) if text else {}

    def with_tags(
        self, query: Tensor, stated: Sequence[Mapping[str, str]], region_weight: float | None = None
    ) -> Tensor:
        """Queries (Q, C) with the tags that each states: (Q, (1 + E) C), or unchanged where none states any.

        Their inner products with the index's vectors are the regional score, see
        :func:`~e2fashion.embedding.join_regions`.

        Raises:
            E2FashionError: a weight below 0, or one for an index without regions.
        """
        check_score_weight(region_weight)
        if region_weight is not None:
            self._require_regions("region_weight")
        if not any(stated):
            return query
        weight = self.facts.region_weight if region_weight is None else region_weight
        return join_stated(query, stated, self.facts.regions, self.checked_encoder().embed_tags, weight)

    def nearest(
        self,
        query: Tensor,
        where: Where | Conditions | None = None,
        top: int = 10,
        views: Views = "best",
        engine: Engine = "auto",
    ) -> list[list[Hit]]:
        """The best products for every vector by the inner product: (Q, C) L2-normalized, or from :meth:`with_tags`.

        Raises:
            E2FashionError: vectors of another width, or a condition on tags that the index lacks.
        """
        width, snapshot = self.facts.encoder.dimension, self.snapshot()
        if query.shape[-1] not in (width, self.facts.width):
            raise E2FashionError(
                f"queries of width {query.shape[-1]} for an index of width {width}: embed them with "
                f"'{self.facts.encoder.name}'"
            )
        scores, rows = snapshot.nearest(query, Conditions.of(where), top, views, engine)
        hits, kept = snapshot.hits(rows.flatten().tolist(), scores.flatten().tolist()), rows.shape[1]
        return [hits[query * kept : (query + 1) * kept] for query in range(len(rows))]

    def checked_encoder(self) -> Encoder:
        """The encoder of queries; an E2FashionError where the index was opened without."""
        if self.encoder is None:
            raise E2FashionError(f"{self.path} was opened without an encoder, which texts and images need: give one")
        return self.encoder

    def _values(self) -> dict[str, dict[str, str]]:
        """The values that the index's products have of each entity with a region, by their normalized text."""
        if not self.facts.regions:
            return {}
        snapshot = self.snapshot()
        texts = {name for name, kind in snapshot.tags.items() if not pa.types.is_floating(kind)}
        return {
            entity.name: snapshot.values_by_text(entity.column)
            for entity in self.checked_encoder().entities
            if entity.column in texts
        }

    def _require_regions(self, key: str) -> None:
        if not self.facts.regions:
            raise E2FashionError(
                f"{key} needs regions, and the vectors of {self.path} have none: build it with "
                "similarity=global+regions, or filter by where.<tag>=<value>"
            )


def encode_query(
    encoder: Encoder, text: str | None = None, image: ImageInput | None = None, weight: float = 0.5
) -> Tensor:
    """The L2-normalized ``weight`` x text + (1 - ``weight``) x image, or the embedding of the one given: (1, C).

    Raises:
        E2FashionError: neither is given, the text is blank, the weight is no share, or the encoder compares tokens.
    """
    require_single_vectors(encoder, "search")
    if text is not None:
        check_text(text)
    if text is None and image is None:
        raise E2FashionError("there is nothing to look for: give a text, an image or both")
    if not 0.0 <= weight <= 1.0:
        raise E2FashionError(f"weight is {weight}; give the text's share, from 0 (image alone) to 1 (text alone)")
    if image is None:
        return encoder.embed_texts(text or "")
    if text is None:
        return encoder.embed_images(image)
    return F.normalize(weight * encoder.embed_texts(text) + (1 - weight) * encoder.embed_images(image), dim=-1)


def check_text(text: str) -> None:
    """Raise an E2FashionError for a text to search for that is blank."""
    if not text.strip():
        raise E2FashionError("the text of the query is empty: say what to look for")


def check_same_encoder(path: Place, facts: IndexFacts, encoder: Encoder) -> None:
    """Refuse an encoder that did not make the index.

    Raises:
        E2FashionError: other weights or another way of making a square; the message has both names.
    """
    known = facts.encoder
    fingerprint = encoder.fingerprint
    if fingerprint != known.fingerprint:
        raise E2FashionError(
            f"the index {path} was built with '{known.name}' ({known.fingerprint[:12]}, {known.dimension} wide, images "
            f"{known.resize} at {known.image_size} px), not with '{encoder.name}' ({fingerprint[:12]}, "
            f"{encoder.dimension} wide, {encoder.transform.resize} at {encoder.transform.size} px), whose vectors mean "
            f"something else: give the former{f', {known.source}' if known.source else ''}, or build an index with the "
            "latter"
        )


def open_index(path: str | Place, encoder: Encoder | None = None, verify: bool = True) -> ProductIndex:
    """Open an index, in a folder or at ``s3://<bucket>/<index>``.

    ``encoder`` embeds queries and must be the one that built it. ``verify``: compare checksums.

    Raises:
        E2FashionError: as :func:`read_facts`, or the index is damaged.
    """
    place = place_of(path)
    return ProductIndex(place, read_facts(place, encoder), encoder, verify)


def read_facts(place: Place, encoder: Encoder | None) -> IndexFacts:
    """The facts of an index that is complete.

    Raises:
        E2FashionError: no index, one whose building was interrupted, or that of another model than ``encoder``.
    """
    facts = IndexFacts.load(place)
    if not facts.complete:
        raise E2FashionError(f"the index {place} is unfinished: go on by repeating the command that built it")
    if encoder is not None:
        check_same_encoder(place, facts, encoder)
    return facts


def load_index_encoder(config: OpenIndexConfig) -> Encoder:
    """The encoder that built an index, from ``model`` or where the index says, on the device of the configuration.

    Raises:
        E2FashionError: it is not where it was; the message names the folders that were tried.
    """
    set_threads(config.threads)
    if config.model is not None:
        encoder = load_encoder(config.model)
    else:
        known = IndexFacts.load(place_of(config.index)).encoder
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
    place = place_of(config.index)
    known = IndexFacts.load(place).encoder
    if not known.source:
        raise E2FashionError(f"{config.index} does not say where its model '{known.name}' is: give model=<folder>.")
    what = f"the model '{known.name}' of the index {config.index}"
    return known.location.find(place if isinstance(place, Path) else None, what, "Give model=<folder or hub name>.")


def conditions_of(config: QueryConfig) -> Conditions:
    """Which products a configuration searches."""
    return Conditions(config.where, config.where_not, config.filter, config.strict)


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
    image = config.image if image is None else image
    views, engine = config.views, config.engine
    tags = index.stated_tags(config.text, config.tags)
    query = encode_query(index.checked_encoder(), config.text, image, config.weight)
    query = index.with_tags(query, [tags], config.region_weight)
    hits = index.nearest(query, conditions_of(config), config.top, views, engine)[0]
    known = index.facts.approximation
    method = "exact"
    if known is not None and index.snapshot().is_approximate(views, engine):
        method = f"approximate: finds {known.words()}"
    return SearchResult(hits, len(index), method, tags)
