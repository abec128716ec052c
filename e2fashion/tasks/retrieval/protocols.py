"""Retrieval protocols by name: who asks, among which candidates, and what counts as a hit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from e2fashion.embedding import EmbeddedSplit
from e2fashion.extensions import ExtensionPoint
from e2fashion.metrics.comparison import Comparison
from e2fashion.metrics.retrieval import DIRECTIONS, TOP_K
from e2fashion.records import RecordContext
from e2fashion.tasks.retrieval.candidates import DrawRule, draw_candidates, stored_candidates
from e2fashion.tasks.retrieval.rankings import Ranking
from e2fashion.types import E2FashionError


class RetrievalProtocol(Protocol):
    """Turns embeddings into ranks; its fields are its options."""

    name: ClassVar[str]

    def rank(self, embedded: EmbeddedSplit, context: RecordContext) -> list[Ranking]:
        """The ranks of both directions, for every notion of a hit that the protocol reports."""
        ...


@dataclass(frozen=True)
class FullGallery:
    """Every product's first view against every product's text, a square matrix (E2).

    A hit is the same product, or (reported beside it) any product with the same text. Under the former, equal texts
    are rivals: ``extra['ceiling']`` is what a perfect encoder could reach.
    """

    name: ClassVar[str] = "full"

    def rank(self, embedded: EmbeddedSplit, context: RecordContext) -> list[Ranking]:
        """Four rankings: by product and by text, in both directions."""
        text_rows = embedded.first_texts
        compared = embedded.compare(embedded.first_images, text_rows)
        group = embedded.text_group[text_rows]
        product = torch.arange(len(text_rows))
        ceilings = equal_text_ceilings(group)
        return [
            _ranking(compared, direction, positives, ids, ids, product, ceilings if positives == "product" else {})
            for positives, ids in (("product", product), ("text", group))
            for direction in DIRECTIONS
        ]


@dataclass(frozen=True)
class FullMultiview:
    """Every picture against every distinct text of a product, and back (FashionViL, FAME-ViL).

    A hit is any picture, or text, of the same product; where every product has one text, also any with equal text.
    """

    name: ClassVar[str] = "full_multiview"

    def rank(self, embedded: EmbeddedSplit, context: RecordContext) -> list[Ranking]:
        """Two or four rankings."""
        compared = embedded.compare()
        notions = {"product": (embedded.image_product, embedded.text_product)}
        if len(embedded.text_product) == len(embedded.product_ids):
            group = embedded.text_group[embedded.first_texts]
            notions["text"] = (group[embedded.image_product], group[embedded.text_product])
        rankings = []
        for positives, (image_ids, text_ids) in notions.items():
            rankings += [
                _ranking(compared, "i2t", positives, image_ids, text_ids, embedded.image_product),
                _ranking(compared, "t2i", positives, text_ids, image_ids, embedded.text_product),
            ]
        return rankings


@dataclass(frozen=True)
class SampledCandidates(DrawRule):
    """The product among 1 + ``count`` random ones of its sub-category (FashionBERT, Kaleido-BERT).

    First view and first text of each product; one list serves both directions. ``folder`` keeps the lists for later
    evaluations (None: drawn anew, which gives the same lists as long as numpy's generator does); those that lie in one
    of ``stored_in`` are read there. The ranks of several
    draws are pooled. Records tell the mean and the smallest number of candidates.
    """

    folder: Path | None = None
    stored_in: Sequence[Path] = ()
    name: ClassVar[str] = "sample_100"

    def rank(self, embedded: EmbeddedSplit, context: RecordContext) -> list[Ranking]:
        """Two rankings, by product."""
        rule = DrawRule(self.count, self.queries, self.draws, self.fill, self.seed)
        products = embedded.product_ids, embedded.categories
        lists = (
            draw_candidates(*products, rule)
            if self.folder is None
            else stored_candidates(
                self.folder, context.split, context.data_fingerprint, *products, rule, self.stored_in
            )
        )
        compared = embedded.compare(embedded.first_images, embedded.first_texts)
        number = (lists.candidates >= 0).sum(1)
        extra = {
            "candidate_seed": self.seed,
            "queries_per_draw": self.queries,
            "draws": self.draws,
            "fill": self.fill,
            "left_out": lists.left_out,
            "fewest_candidates": int(number.min()),
            "short_lists": int((number <= self.count).sum()),
        }
        return [
            Ranking(
                direction,
                "product",
                compared.ranks_among(direction, lists.query, lists.candidates),
                lists.query,
                number,
                extra,
            )
            for direction in DIRECTIONS
        ]


PROTOCOLS: dict[str, type[FullGallery] | type[FullMultiview] | type[SampledCandidates]] = {
    protocol.name: protocol for protocol in (FullGallery, FullMultiview, SampledCandidates)
}


PROTOCOL_POINT = ExtensionPoint("protocol", "e2fashion.protocols", ("name", "rank"))


def protocol_named(name: str, **options: Any) -> RetrievalProtocol:
    """The protocol ``name`` with those of ``options`` that it has: a number of draws means nothing to ``full``.

    Raises E2FashionError for an unknown name, and for an option that no protocol has.
    """
    protocol = PROTOCOL_POINT.find(name, PROTOCOLS)
    if protocol is None:
        names = PROTOCOL_POINT.names(PROTOCOLS)
        near = get_close_matches(name, names, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise E2FashionError(f"protocol '{name}' does not exist: choose from {', '.join(names)}{hint}")
    known = {item.name for schema in (*PROTOCOLS.values(), protocol) for item in fields(schema)}
    if unknown := sorted(set(options) - known):
        raise E2FashionError(f"no protocol has the option '{unknown[0]}': choose from {', '.join(sorted(known))}")
    own = {item.name for item in fields(protocol)}
    return protocol(**{key: value for key, value in options.items() if key in own})


def equal_text_ceilings(group: Tensor) -> dict[str, dict[str, dict[str, float]]]:
    """The R@k that equal texts leave possible when only the same product is a hit, by direction and metric.

    ``group`` (products,) int64 is equal for equal texts. A picture cannot tell n equal texts apart and ties count
    against it: they are all at rank n. A text has one order of pictures for all n products: min(k, n) of them hit.
    """
    sizes = torch.unique(group, return_counts=True)[1].double()
    total = sizes.sum()
    return {
        "i2t": {f"R@{k}": {"ceiling": float(100 * sizes[sizes <= k].sum() / total)} for k in TOP_K},
        "t2i": {f"R@{k}": {"ceiling": float(100 * sizes.clamp(max=k).sum() / total)} for k in TOP_K},
    }


def _ranking(
    compared: Comparison,
    direction: str,
    positives: str,
    query_ids: Tensor,
    gallery_ids: Tensor,
    product: Tensor,
    ceilings: dict[str, dict[str, dict[str, float]]] | None = None,
) -> Ranking:
    found = compared.ranks(direction, query_ids, gallery_ids)
    candidates = torch.full_like(found, len(gallery_ids))
    return Ranking(direction, positives, found, product, candidates, metric_extra=(ceilings or {}).get(direction, {}))
