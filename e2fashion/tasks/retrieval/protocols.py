"""Retrieval protocols by name: the queries, their candidates, and what counts as a hit.

The candidate lists of sampled retrieval are drawn once from a seed, stored, and read again by every later evaluation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Protocol
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from e2fashion.disk import atomic_file, check_regular
from e2fashion.embedding import EmbeddedSplit
from e2fashion.extensions import ExtensionPoint
from e2fashion.metrics.ranking import Comparison
from e2fashion.metrics.retrieval import DIRECTIONS, TOP_K
from e2fashion.records import RecordContext
from e2fashion.tasks.retrieval.config import Sampling
from e2fashion.tasks.retrieval.rankings import Ranking
from e2fashion.types import E2FashionError

FORMAT = 1
"""Of the files of candidate lists."""


class RetrievalProtocol(Protocol):
    """Turns embeddings into ranks; its fields are its options."""

    name: ClassVar[str]

    def rank(self, embedded: EmbeddedSplit, context: RecordContext) -> list[Ranking]:
        """The ranks of both directions, for every notion of a hit that the protocol reports."""
        ...


@dataclass(frozen=True)
class FullGallery:
    """Every product's first view against every product's text, a square matrix (E2).

    A hit is the same product, or (reported as well) any product with the same text. Under the former, equal texts
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
class FullWithRegions(FullGallery):
    """:class:`FullGallery` under the regional score (ours), see :func:`e2fashion.embedding.join_regions`.

    No query states more than its text does. A model without regions is ranked by its global score, weight 0.
    """

    region_score_weight: float = 0.0
    weight_chosen_on: str = ""
    name: ClassVar[str] = "full_regions"

    def rank(self, embedded: EmbeddedSplit, context: RecordContext) -> list[Ranking]:
        """As :meth:`FullGallery.rank`, with the weight in every record."""
        weight = 0.0 if embedded.region_embeds is None else self.region_score_weight
        extra = {"region_score_weight": weight}
        chosen = {"weight_chosen_on": self.weight_chosen_on} if self.weight_chosen_on else {}
        rankings = super().rank(embedded.with_regions(weight), context)
        return [replace(ranking, extra=extra | chosen) for ranking in rankings]


@dataclass(frozen=True)
class FullMultiview:
    """Every image against every distinct text of a product, and back (FashionViL, FAME-ViL).

    A hit is any image, or text, of the same product; where every product has one text, also any with equal text.
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


@dataclass
class SampledCandidates(Sampling):
    """The product among 1 + ``count`` random ones of its sub-category (FashionBERT, Kaleido-BERT).

    First view and first text of each product; one list serves both directions. ``folder`` stores the lists for later
    evaluations (None: drawn anew, equal as long as numpy's generator is); lists in one of ``stored_in`` are read there.
    The ranks of several draws are pooled. Records hold the mean and the smallest number of candidates.
    """

    count: int = 100
    folder: Path | None = None
    stored_in: Sequence[Path] = ()
    name: ClassVar[str] = "sample_100"

    def rank(self, embedded: EmbeddedSplit, context: RecordContext) -> list[Ranking]:
        """Two rankings, by product."""
        products = embedded.product_ids, embedded.categories
        if self.folder is None:
            lists = draw_candidates(*products, self, self.count)
        else:
            data = context.split, context.data_fingerprint
            lists = stored_candidates(self.folder, *data, *products, self, self.count, self.stored_in)
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
        ranks = {name: compared.ranks_among(name, lists.query, lists.candidates) for name in DIRECTIONS}
        return [Ranking(name, "product", ranks[name], lists.query, number, extra) for name in DIRECTIONS]


PROTOCOLS: dict[str, type[FullGallery] | type[FullMultiview] | type[SampledCandidates]] = {
    protocol.name: protocol for protocol in (FullGallery, FullWithRegions, FullMultiview, SampledCandidates)
}
COMPARED = (FullGallery.name, FullWithRegions.name)
"""The protocols whose ranks a run keeps, so that it can be compared with another query by query."""


PROTOCOL_POINT = ExtensionPoint("protocol", "e2fashion.protocols", ("name", "rank"))


def protocol_named(name: str, **options: Any) -> RetrievalProtocol:
    """The protocol ``name`` with those of ``options`` that it has: ``full`` ignores a number of draws.

    Raises:
        E2FashionError: an unknown name, or an option that no protocol has.
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
    accepted = {item.name for item in fields(protocol)}
    return protocol(**{key: value for key, value in options.items() if key in accepted})


def equal_text_ceilings(group: Tensor) -> dict[str, dict[str, dict[str, float]]]:
    """The R@k that equal texts leave possible when only the same product is a hit, by direction and metric.

    ``group`` (products,) int64 is equal for equal texts. n equal texts tie for an image, and ties count against it:
    they are all at rank n. A text has one order of images for all n products: min(k, n) of them hit.
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
    ranks = compared.ranks(direction, query_ids, gallery_ids)
    candidates = torch.full_like(ranks, len(gallery_ids))
    return Ranking(direction, positives, ranks, product, candidates, metric_extra=(ceilings or {}).get(direction, {}))


@dataclass(frozen=True)
class CandidateLists:
    """``query`` (Q,) int64 products, and ``candidates`` (Q, 1 + count) int64 products: the query's first, -1 last.

    ``left_out`` counts the products that could not be queries because their sub-category is unknown.
    """

    query: Tensor
    candidates: Tensor
    left_out: int


def draw_candidates(
    product_ids: Sequence[str], categories: Sequence[str | None], rule: Sampling, count: int = 100
) -> CandidateLists:
    """Draw ``count`` rivals of the same sub-category per query. A seed's lists do not depend on the products' order.

    Raises:
        E2FashionError: no product can be a query, or there are fewer products than ``queries``.
    """
    order = np.array(sorted(range(len(product_ids)), key=product_ids.__getitem__), dtype=np.int64)
    names = [categories[row] for row in order]
    rows: dict[str | None, list[int]] = {}
    for i, name in enumerate(names):
        rows.setdefault(name, []).append(i)
    members = {name: np.array(same, dtype=np.int64) for name, same in rows.items() if name is not None}
    everything, nothing = np.arange(len(order)), np.empty(0, dtype=np.int64)
    strangers: dict[str | None, np.ndarray] = {}
    askable = np.array([i for i, name in enumerate(names) if name is not None or rule.fill == "top_up"], dtype=np.int64)
    if not len(askable):
        raise E2FashionError(
            f"none of {len(product_ids)} products has a sub-category to draw rivals from: give the catalogue a "
            "sub_category column, or choose fill=top_up"
        )
    wanted = len(askable) if rule.queries is None else rule.queries
    if not 1 <= wanted <= len(askable) or rule.draws < 1 or count < 1:
        raise E2FashionError(
            f"queries={rule.queries}, draws={rule.draws}, count={count} with {len(askable)} products to ask "
            "about: choose at least 1 of each and no more queries than products"
        )
    generator = np.random.default_rng(rule.seed)
    queries, lists = [], []
    for _ in range(rule.draws):
        chosen = askable if rule.queries is None else np.sort(generator.choice(askable, wanted, replace=False))
        for query in chosen:
            name = names[query]
            group = nothing if name is None else members[name]
            drawn = _sample(group, query, count, generator)
            if rule.fill == "top_up" and len(drawn) < count:
                if name not in strangers:
                    strangers[name] = np.setdiff1d(everything, group, assume_unique=True)
                more = _sample(strangers[name], query, count - len(drawn), generator)
                drawn = np.concatenate([drawn, more])
            row = np.full(1 + count, -1, dtype=np.int64)
            row[: 1 + len(drawn)] = order[[query, *drawn]]
            queries.append(order[query])
            lists.append(row)
    return CandidateLists(
        torch.from_numpy(np.array(queries)), torch.from_numpy(np.stack(lists)), len(product_ids) - len(askable)
    )


def _sample(members: np.ndarray, query: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """Up to ``count`` of the sorted ``members`` without the query."""
    rivals = members[members != query]
    return generator.choice(rivals, min(count, len(rivals)), replace=False)


def stored_candidates(
    folder: Path,
    split: str,
    data_fingerprint: str,
    product_ids: Sequence[str],
    categories: Sequence[str | None],
    rule: Sampling,
    count: int = 100,
    others: Sequence[Path] = (),
) -> CandidateLists:
    """The lists of ``rule`` for these products: read from ``folder`` or ``others``, else drawn into ``folder``.

    Lists in ``others`` are not copied, and nothing is written there: a catalogue may be shared, or read-only. The file
    name contains split, rule, and a digest of products, sub-categories and the catalogue's fingerprint. It is an
    ``.npz`` without pickles, in the order of the sorted product ids.

    Raises:
        E2FashionError: the stored file is damaged or was drawn for something else.
    """
    order = sorted(range(len(product_ids)), key=product_ids.__getitem__)
    identity = json.dumps([data_fingerprint, [(product_ids[i], categories[i]) for i in order]])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    queries = "all" if rule.queries is None else str(rule.queries)
    name = f"sample_{count}_{split}_{queries}x{rule.draws}_{rule.fill}_seed{rule.seed}_{digest}.npz"
    path = next((other / name for other in (folder, *others) if (other / name).exists()), folder / name)
    drawn_by = {item.name: getattr(rule, item.name) for item in fields(Sampling)} | {"count": count}
    header = json.dumps({"format": FORMAT, "split": split, "digest": digest, **drawn_by}, sort_keys=True)
    sorted_rows = np.array(order, dtype=np.int64)
    if path.exists():
        return _read(path, header, sorted_rows)
    drawn = draw_candidates(product_ids, categories, rule, count)
    rank = np.empty_like(sorted_rows)
    rank[sorted_rows] = np.arange(len(sorted_rows))
    candidates = drawn.candidates.numpy()
    with atomic_file(path) as partial, partial.open("wb") as stream:
        np.savez_compressed(
            stream,
            header=np.array(header),
            product_ids=np.array([product_ids[i] for i in order]),
            query=rank[drawn.query.numpy()].astype(np.int32),
            candidates=np.where(candidates < 0, -1, rank[candidates]).astype(np.int32),
            left_out=np.array(drawn.left_out),
        )
    return drawn


def _read(path: Path, header: str, sorted_rows: np.ndarray) -> CandidateLists:
    check_regular(path, "Delete it.")
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["header"]) != header:
                raise E2FashionError(
                    f"candidate lists {path} were drawn by {file['header']}, asked for {header}: delete the file"
                )
            query, candidates, left_out = file["query"], file["candidates"], int(file["left_out"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise E2FashionError(f"candidate lists {path} cannot be read ({error}): delete the file") from error
    return CandidateLists(
        torch.from_numpy(sorted_rows[query]),
        torch.from_numpy(np.where(candidates < 0, -1, sorted_rows[candidates])),
        left_out,
    )
