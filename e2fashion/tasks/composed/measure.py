"""Text-guided retrieval measured: ranks of every arm, recalls with intervals, differences between encoders."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from e2fashion.disk import file_name, open_text
from e2fashion.encoder import Encoder, require_single_vectors
from e2fashion.metrics.bootstrap import RESAMPLES, bootstrap, interval, weighted_means
from e2fashion.metrics.ranking import ranks
from e2fashion.records import RecordContext, declare
from e2fashion.tasks.captioning.captioner import CaptionsPictures
from e2fashion.tasks.composed.arms import (
    TITLES,
    ComposedQueries,
    Composition,
    blend,
    check_arms,
    compose,
    reads_captions,
    rewriters,
)
from e2fashion.tasks.composed.queries import QuerySet
from e2fashion.tasks.composed.rewriting import Rewriter
from e2fashion.tasks.composed.sets import ComposedTask, EmbeddedPictures
from e2fashion.tasks.retrieval.rankings import Ranking, rankings_file, save_rankings
from e2fashion.tasks.retrieval.significance import compare_rankings
from e2fashion.types import E2FashionError, ResultRecord

SETTINGS = (
    *("arm", "both_orders", "given_weight", "memory", "captioner", "language_model"),
    *("line", "instruction", "pad_aspect"),
)
"""What identifies a measurement: of the arm, and of the task."""

MADE_BY = ("arm_title", "units", "measurement", "measured_commit")
COUNTS = (
    *("triplets", "triplets_left_out", "candidates_without_picture", "empty_captions", "queries_without_instruction"),
    *("lines_of_several_colours", "products_in_them", "products_without_a_colour"),
)
COMPOSED = declare(
    "composed_retrieval",
    identified_by=SETTINGS,
    reports=(*MADE_BY, *COUNTS, "weight", "weights_tried", "tuning_queries", "fallbacks", "categories"),
)
DIFFERENCES = declare(
    "composed_retrieval_difference", identified_by=(*SETTINGS, "against"), reports=(*MADE_BY, "p_value")
)
TOP_K = (1, 5, 10, 50)
CHOSEN_BY = (10, 50)
"""The weight of ``sum`` is the one with the best mean of R@10 and R@50, FashionIQ's own metrics."""
MEAN = "mean"
TRACED = 10
"""Pictures whose ids are kept per query."""

Key: TypeAlias = tuple[str, str, str]
"""Protocol, arm and category."""


@dataclass(frozen=True)
class ComposedSettings:
    """Arms, whether both orders of two captions are averaged, and the picture's weight in ``sum`` (None: chosen).

    ``memory`` names in records where captions come from, ``captioner`` who tells them (empty: the nearest text);
    ``protected`` are phrases that the rule composer leaves alone.
    """

    arms: Sequence[str]
    both_orders: bool = True
    weight: float | None = None
    weights: Sequence[float] = tuple(step / 10 for step in range(11))
    memory: str = ""
    captioner: str = ""
    protected: Sequence[str] = ()
    language_model: Rewriter | None = None
    language_model_name: str = ""
    resamples: int = RESAMPLES
    batch_size: int = 64
    progress: bool = True


@dataclass(frozen=True)
class ArmResult:
    """One arm on one set of queries: ``ranks`` (Q,) int64 from 1, ``best`` (Q, k) places of the gallery, best first."""

    arm: str
    protocol: str
    queries: QuerySet
    ranks: Tensor
    best: Tensor
    composition: Composition
    captions: tuple[str, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)


def measure_composed(
    encoder: Encoder, task: ComposedTask, captioner: CaptionsPictures | None, settings: ComposedSettings
) -> list[ArmResult]:
    """Every arm on every set of queries of ``task``; pictures are embedded once for all of them.

    Raises:
        E2FashionError: an unknown arm, an encoder that compares tokens, or what a task or an arm cannot do without.
    """
    check_arms(settings.arms)
    require_single_vectors(encoder, "text-guided retrieval")
    sets = task.queries()
    tuning = task.tuning_queries() if "sum" in settings.arms and settings.weight is None else []
    every = [*(own for listed in sets.values() for own in listed), *tuning]
    pictures = task.embed(encoder, every, settings.batch_size, settings.progress)
    by_text = rewriters(settings.protected, settings.language_model)
    found = []
    for arm in settings.arms:
        weight, extra = settings.weight, _how(arm, settings)
        if arm == "sum":
            if weight is not None:
                extra["given_weight"] = weight
            else:
                weight, curve = choose_weight(encoder, tuning, pictures, by_text, settings)
                extra |= {"weights_tried": curve, "tuning_queries": sum(map(len, tuning))}
            extra["weight"] = weight
        for protocol, listed in sets.items():
            for queries in listed:
                own = prepared(queries, pictures, captioner if reads_captions(arm) else None)
                made = compose(arm, own, encoder.embed_texts, by_text, settings.both_orders, weight or 0.0)
                gallery = pictures.of(queries)[queries.gallery]
                found.append(
                    ArmResult(
                        arm=arm,
                        protocol=protocol,
                        queries=queries,
                        ranks=ranks(made.embeds, gallery, queries.wanted, queries.answers),
                        best=(made.embeds @ gallery.T).topk(min(TRACED, len(gallery))).indices,
                        composition=made,
                        captions=tuple(own.captions),
                        extra=extra | task.how,
                    )
                )
    return found


def prepared(queries: QuerySet, pictures: EmbeddedPictures, captioner: CaptionsPictures | None) -> ComposedQueries:
    """What the arms read of a set; captions where there is somebody to tell them."""
    images = pictures.of(queries)[queries.reference]
    captions: tuple[str, ...] = ()
    if captioner is not None:
        distinct, place = queries.reference.unique(return_inverse=True)
        told = captioner.caption(pictures.of(queries)[distinct])
        captions = tuple(told[row] for row in place.tolist())
    return ComposedQueries(images, queries.instructions, captions, queries.tags)


def choose_weight(
    encoder: Encoder,
    tuning: Sequence[QuerySet],
    pictures: EmbeddedPictures,
    by_text: Mapping[str, Rewriter],
    settings: ComposedSettings,
) -> tuple[float, dict[str, float]]:
    """The picture's weight with the best mean recall over the tuning sets, the smallest of equals, and all of them.

    Raises:
        E2FashionError: no weights to choose from, or one outside 0 to 1.
    """
    if not settings.weights or any(not 0 <= weight <= 1 for weight in settings.weights):
        raise E2FashionError(f"weights is {list(settings.weights)}; give the picture's shares to try, from 0 to 1")
    parts = []
    for queries in tuning:
        own = prepared(queries, pictures, None)
        text = compose("text", own, encoder.embed_texts, by_text, settings.both_orders).embeds
        parts.append((queries, own.image_embeds, text, pictures.of(queries)[queries.gallery]))
    curve = {}
    for weight in sorted(settings.weights):
        recalls = []
        for queries, images, text, gallery in parts:
            found = ranks(blend(images, text, weight), gallery, queries.wanted, queries.answers)
            recalls += [100 * (found <= k).double().mean() for k in CHOSEN_BY]
        curve[weight] = float(torch.stack(recalls).mean())
    best = max(curve, key=lambda weight: (round(curve[weight], 9), -weight))
    return best, {f"{weight:g}": round(value, 2) for weight, value in curve.items()}


def composed_records(
    results: Sequence[ArmResult],
    context: RecordContext,
    resamples: int = RESAMPLES,
    made_by: Mapping[str, Any] | None = None,
) -> list[ResultRecord]:
    """R@k per arm, protocol and category, and where there are several categories their mean; 95 % intervals.

    ``made_by`` goes into every record's ``extra``.

    A bootstrap draws the units of each category (reference pictures, product lines); the mean's adds them draw by draw.
    """
    records = []
    for protocol, arm in dict.fromkeys((item.protocol, item.arm) for item in results):
        own = [item for item in results if (item.protocol, item.arm) == (protocol, arm)]
        drawn: list[Tensor] = []
        values: list[Tensor] = []
        for item in own:
            hits = torch.stack([100.0 * (item.ranks <= k) for k in TOP_K], dim=1).double()
            unit = item.queries.unit.unique(return_inverse=True)[1]
            units = int(unit.max()) + 1
            drawn.append(bootstrap(weighted_means(hits, unit, units), units, resamples))
            values.append(hits.mean(0))
            extra = {**item.extra, "fallbacks": item.composition.fallbacks, "units": units, **item.queries.counts}
            extra |= made_by or {}
            own_numbers = (len(item.queries), float(len(item.queries.gallery)))
            records += _records(values[-1], drawn[-1], context, protocol, item.queries.category, own_numbers, extra)
        if len(own) > 1:
            extra = {**own[0].extra, "categories": [item.queries.category for item in own], **(made_by or {})}
            extra["fallbacks"] = sum(item.composition.fallbacks for item in own)
            mean, draws = torch.stack(values).mean(0), torch.stack(drawn).mean(0)
            candidates = sum(len(item.queries.gallery) for item in own) / len(own)
            numbers = (sum(len(item.queries) for item in own), candidates)
            records += _records(mean, draws, context, protocol, MEAN, numbers, extra)
    return records


def compared_records(
    ours: Mapping[Key, Ranking],
    baseline: Mapping[Key, Ranking],
    context: RecordContext,
    against: str,
    how: Mapping[Key, Mapping[str, Any]],
) -> list[ResultRecord]:
    """Differences in R@k to a baseline on the same queries, by protocol, arm and category: paired bootstrap."""
    records = []
    for key, ranking in ours.items():
        if key not in baseline:
            continue
        protocol, _, category = key
        listed = compare_rankings(
            [ranking], [baseline[key]], context, protocol, against, TOP_K, kind=DIFFERENCES, extra=how[key]
        )
        records += [replace(record, direction=category, positives="target") for record in listed]
    return records


def ranking_of(result: ArmResult) -> Ranking:
    """The ranks of an arm as they are kept, to be compared query by query."""
    queries = result.queries
    candidates = torch.full_like(result.ranks, len(queries.gallery))
    return Ranking(result.arm, queries.category, result.ranks, queries.unit, candidates)


def save_results(results: Sequence[ArmResult], folder: Path, context: RecordContext) -> None:
    """Ranks of every query (safetensors), and what was asked, rewritten and found (JSON lines), below a folder."""
    for item in results:
        key = (item.protocol, item.arm, item.queries.category)
        file = ranks_file(folder, key, context.split, context.data_fingerprint)
        save_rankings(file, [ranking_of(item)], item.queries.pictures)
        traces = traces_file(folder, key, context.split)
        with open_text(traces) as stream:
            for line in _trace_lines(item):
                stream.write(json.dumps(line, ensure_ascii=False) + "\n")


def ranks_file(folder: Path, key: Key, split: str, data_fingerprint: str) -> Path:
    """Where :func:`save_results` keeps the ranks of one protocol, arm and category."""
    protocol, arm, category = key
    return rankings_file(folder / "rankings", f"{protocol}-{category}-{arm}", split, data_fingerprint)


def traces_file(folder: Path, key: Key, split: str) -> Path:
    """Where :func:`save_results` keeps what became of every query."""
    protocol, arm, category = key
    return folder / "traces" / f"{file_name(f'{protocol}-{category}-{arm}-{split}')}.jsonl"


def _trace_lines(item: ArmResult) -> Iterator[dict[str, Any]]:
    own = item.queries
    for row in range(len(own)):
        rewritings = item.composition.rewritings[row] if item.composition.rewritings else ()
        best = item.best[row][:TRACED]
        yield {
            "reference": own.pictures[int(own.reference[row])],
            "instructions": list(own.instructions[row]),
            "caption": item.captions[row] if item.captions else None,
            "searched": [rewriting.text for rewriting in rewritings],
            "fell_back": any(rewriting.fell_back for rewriting in rewritings),
            "rank": int(item.ranks[row]),
            "found": [own.pictures[int(own.gallery[place])] for place in best],
            "hits": own.answers[best].eq(own.wanted[row]).tolist(),
            "trace": [dict(rewriting.trace) for rewriting in rewritings if rewriting.trace],
        }


def _how(arm: str, settings: ComposedSettings) -> dict[str, Any]:
    found: dict[str, Any] = {"arm": arm, "arm_title": TITLES[arm]}
    if arm != "image":
        found["both_orders"] = settings.both_orders
    if reads_captions(arm):
        found["memory"] = settings.memory
        if settings.captioner:
            found["captioner"] = settings.captioner
    if arm == "llm":
        found["language_model"] = settings.language_model_name
    return found


def _records(
    value: Tensor,
    drawn: Tensor,
    context: RecordContext,
    protocol: str,
    category: str,
    numbers: tuple[int, float],
    extra: Mapping[str, Any],
) -> list[ResultRecord]:
    low, high = interval(drawn)
    return [
        COMPOSED.record(
            context,
            f"R@{k}",
            float(value[column]),
            float(low[column]),
            float(high[column]),
            protocol=protocol,
            direction=category,
            positives="target",
            queries=numbers[0],
            candidates=numbers[1],
            extra=extra,
        )
        for column, k in enumerate(TOP_K)
    ]
