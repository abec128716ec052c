"""Text-guided retrieval measured: ranks of every query mode, recalls with intervals, differences between encoders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from e2fashion.disk import file_name, write_lines
from e2fashion.encoder import Encoder, require_single_vectors
from e2fashion.metrics.bootstrap import bootstrap, estimates, units_of, weighted_means
from e2fashion.metrics.ranking import ranks
from e2fashion.records import RecordContext, declare
from e2fashion.tasks.captioning.captioner import AnyCaptioner, NearestCaption
from e2fashion.tasks.composed.config import ComposeConfig, Mode
from e2fashion.tasks.composed.modes import (
    CAPTION_MODES,
    TITLES,
    ComposedQueries,
    Composition,
    EmbedTexts,
    Rewriter,
    blend,
    compose,
)
from e2fashion.tasks.composed.sources import EmbeddedImages, QuerySet, QuerySource
from e2fashion.tasks.retrieval.rankings import Ranking, rankings_file, save_rankings
from e2fashion.types import E2FashionError, ResultRecord

SETTINGS = (
    *("arm", "both_orders", "given_weight", "memory", "captioner", "language_model"),
    *("line", "instruction", "pad_aspect", "similarity", "changes"),
)
"""Keys that identify a measurement: of the mode (stored as ``arm``), and of the task."""
REGION_WEIGHT = "region_score_weight"
MADE_BY = ("arm_title", "units", "measurement", "measured_commit")
COUNTS = (
    *("triplets", "triplets_left_out", "candidates_without_picture", "empty_captions", "queries_without_instruction"),
    *("lines_of_several_colours", "products_in_them", "products_without_a_colour"),
)
COMPOSED = declare(
    "composed_retrieval",
    identified_by=SETTINGS,
    reports=(*MADE_BY, *COUNTS, "weight", "weights_tried", "tuning_queries", "fallbacks", "categories", REGION_WEIGHT),
)
DIFFERENCES = declare(
    "composed_retrieval_difference", identified_by=(*SETTINGS, "against"), reports=(*MADE_BY, "p_value")
)
TOP_K = (1, 5, 10, 50)
CHOSEN_BY = (10, 50)
"""The weight of ``sum`` has the best mean of R@10 and R@50, FashionIQ's metrics."""
MEAN = "mean"
TRACED = 10
"""Images whose ids are stored per query."""

Key: TypeAlias = tuple[str, str, str]
"""Protocol, mode and category."""


@dataclass(frozen=True)
class TextSources:
    """What the modes with texts work with: captions of references, rewriters by mode, and embeddings.

    ``extra`` holds the keys of records that name them, by mode; ``region_weight`` is that of regions in the score, 0 if
    they are not compared.
    """

    captioner: AnyCaptioner | None
    rewriters: Mapping[str, Rewriter]
    embed_texts: EmbedTexts
    region_weight: float = 0.0
    extra: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class ModeResult:
    """One mode on one set of queries: ``ranks`` (Q,) int64 from 1, ``best`` (Q, k) rows of the gallery, best first."""

    mode: Mode
    protocol: str
    queries: QuerySet
    ranks: Tensor
    best: Tensor
    composition: Composition
    captions: tuple[str, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Protocol, mode and category."""
        return self.protocol, self.mode, self.queries.category


def measure_composed(
    encoder: Encoder, source: QuerySource, config: ComposeConfig, texts: TextSources, progress: bool = True
) -> list[ModeResult]:
    """Every mode of ``config`` on every set of queries; images are embedded once for all of them.

    Raises:
        E2FashionError: an encoder that compares tokens, or a mode without the texts that it needs.
    """
    require_single_vectors(encoder, "text-guided retrieval")
    sets = source.queries()
    tuning = source.tuning_queries() if "sum" in config.modes and config.weight is None else []
    every = [*(queries for listed in sets.values() for queries in listed), *tuning]
    images = replace(source.embed(encoder, every, progress), weight=texts.region_weight)
    score: dict[str, Any] = {}
    if config.similarity != "global":
        score = {"similarity": config.similarity, REGION_WEIGHT: texts.region_weight}
    results = []
    for mode in config.modes:
        weight, extra = config.weight, {"arm": mode, "arm_title": TITLES[mode], **score, **texts.extra.get(mode, {})}
        if mode != "image":
            extra["both_orders"] = config.both_orders
        if mode == "sum":
            if weight is not None:
                extra["given_weight"] = weight
            else:
                weight, curve = choose_weight(tuning, images, config, texts)
                extra |= {"weights_tried": curve, "tuning_queries": sum(map(len, tuning))}
            extra["weight"] = weight
        for protocol, listed in sets.items():
            for queries in listed:
                inputs = _inputs(queries, images, texts.captioner if mode in CAPTION_MODES else None)
                made = compose(mode, inputs, texts.embed_texts, texts.rewriters, config.both_orders, weight or 0.0)
                gallery = images.gallery(queries)[queries.gallery]
                results.append(
                    ModeResult(
                        mode=mode,
                        protocol=protocol,
                        queries=queries,
                        ranks=ranks(made.embeds, gallery, queries.wanted, queries.answers),
                        best=(made.embeds @ gallery.T).topk(min(TRACED, len(gallery))).indices,
                        composition=made,
                        captions=tuple(inputs.captions),
                        extra={**extra, **source.settings},
                    )
                )
    return results


def _inputs(queries: QuerySet, images: EmbeddedImages, captioner: AnyCaptioner | None) -> ComposedQueries:
    """The inputs of the modes; captions if there is a captioner."""
    captions: tuple[str, ...] = ()
    if captioner is not None:
        distinct, row = queries.reference.unique(return_inverse=True)
        # A decoder reads the embedding alone.
        read = images.gallery(queries) if isinstance(captioner, NearestCaption) else images.of(queries)
        generated = captioner.caption(read[distinct])
        captions = tuple(generated[item] for item in row.tolist())
    return ComposedQueries(images.as_queries(queries)[queries.reference], queries.instructions, captions, queries.tags)


def choose_weight(
    tuning: Sequence[QuerySet], images: EmbeddedImages, config: ComposeConfig, texts: TextSources
) -> tuple[float, dict[str, float]]:
    """The image's share with the best mean recall over the tuning sets (of equals the smallest), and all recalls.

    Raises:
        E2FashionError: no weights to choose from, or one outside 0 to 1.
    """
    if not config.weights or any(not 0 <= weight <= 1 for weight in config.weights):
        raise E2FashionError(f"weights is {list(config.weights)}; give the image's shares to try, from 0 to 1")
    parts = []
    for queries in tuning:
        inputs = _inputs(queries, images, None)
        text = compose("text", inputs, texts.embed_texts, texts.rewriters, config.both_orders).embeds
        parts.append((queries, inputs.image_embeds, text, images.gallery(queries)[queries.gallery]))
    curve = {}
    for weight in sorted(config.weights):
        recalls = []
        for queries, image, text, gallery in parts:
            of_weight = ranks(blend(image, text, weight), gallery, queries.wanted, queries.answers)
            recalls += [100 * (of_weight <= k).double().mean() for k in CHOSEN_BY]
        curve[weight] = float(torch.stack(recalls).mean())
    best = max(curve, key=lambda weight: (round(curve[weight], 9), -weight))
    return best, {f"{weight:g}": round(value, 2) for weight, value in curve.items()}


def composed_records(
    results: Sequence[ModeResult], context: RecordContext, resamples: int, made_by: Mapping[str, Any]
) -> list[ResultRecord]:
    """R@k per mode, protocol and category, and of several categories their mean; 95 % intervals.

    ``made_by`` goes into every record's ``extra``. A bootstrap draws the units of each category (reference images,
    product lines); that of the mean averages the draws.
    """
    records: list[ResultRecord] = []

    def add(value: Tensor, drawn: Tensor, extra: Mapping[str, Any], **how: Any) -> None:
        recalls = dict(zip((f"R@{k}" for k in TOP_K), value.tolist(), strict=True))
        extra = {**extra, **made_by}
        for metric, estimate in estimates(recalls, drawn).items():
            records.append(COMPOSED.record(context, metric, *estimate, positives="target", extra=extra, **how))

    for protocol, mode in dict.fromkeys((item.protocol, item.mode) for item in results):
        listed = [item for item in results if (item.protocol, item.mode) == (protocol, mode)]
        draws, values = [], []
        for item in listed:
            queries, hits = item.queries, torch.stack([100.0 * (item.ranks <= k) for k in TOP_K], dim=1).double()
            unit, units = units_of(queries.unit, len(queries))
            draws.append(bootstrap(weighted_means(hits, unit, units), units, resamples))
            values.append(hits.mean(0))
            add(
                values[-1],
                draws[-1],
                {**item.extra, "fallbacks": item.composition.fallbacks, "units": units, **queries.counts},
                protocol=protocol,
                direction=queries.category,
                queries=len(queries),
                candidates=float(len(queries.gallery)),
            )
        if len(listed) > 1:
            categories = [item.queries.category for item in listed]
            fallbacks = sum(item.composition.fallbacks for item in listed)
            add(
                torch.stack(values).mean(0),
                torch.stack(draws).mean(0),
                {**listed[0].extra, "categories": categories, "fallbacks": fallbacks},
                protocol=protocol,
                direction=MEAN,
                queries=sum(len(item.queries) for item in listed),
                candidates=sum(len(item.queries.gallery) for item in listed) / len(listed),
            )
    return records


def save_results(results: Sequence[ModeResult], folder: Path, context: RecordContext) -> None:
    """Ranks of every query (safetensors), and its texts and results (JSON lines), below a folder."""
    for item in results:
        queries = item.queries
        candidates = torch.full_like(item.ranks, len(queries.gallery))
        ranking = Ranking(item.mode, queries.category, item.ranks, queries.unit, candidates)
        save_rankings(ranks_file(folder, item.key, context.split, context.data_fingerprint), [ranking], queries.images)
        write_lines(traces_file(folder, item.key, context.split), _trace_lines(item))


def ranks_file(folder: Path, key: Key, split: str, data_fingerprint: str) -> Path:
    """The file in which :func:`save_results` stores ranks."""
    protocol, mode, category = key
    return rankings_file(folder / "rankings", f"{protocol}-{category}-{mode}", split, data_fingerprint)


def traces_file(folder: Path, key: Key, split: str) -> Path:
    """The file in which :func:`save_results` stores queries with their texts and results."""
    protocol, mode, category = key
    return folder / "traces" / f"{file_name(f'{protocol}-{category}-{mode}-{split}')}.jsonl"


def _trace_lines(item: ModeResult) -> Iterator[dict[str, Any]]:
    queries = item.queries
    for row in range(len(queries)):
        rewritings = item.composition.rewritings[row] if item.composition.rewritings else ()
        best = item.best[row]
        yield {
            "reference": queries.images[int(queries.reference[row])],
            "instructions": list(queries.instructions[row]),
            "caption": item.captions[row] if item.captions else None,
            "searched": [rewriting.text for rewriting in rewritings],
            "fell_back": any(rewriting.fell_back for rewriting in rewritings),
            "rank": int(item.ranks[row]),
            "found": [queries.images[int(queries.gallery[index])] for index in best],
            "hits": queries.answers[best].eq(queries.wanted[row]).tolist(),
            "trace": [dict(rewriting.trace) for rewriting in rewritings if rewriting.trace],
        }
