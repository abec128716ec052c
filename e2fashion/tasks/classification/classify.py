"""Zero-shot classification of a catalogue's split by one of its tag columns: accuracy and F1 as records."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.text import TextTemplate
from e2fashion.embedding import EmbeddedSplit
from e2fashion.encoder import Encoder
from e2fashion.features import SplitFeatures, cached_features, check_kinds
from e2fashion.measuring import encoding_of, set_up
from e2fashion.metrics.bootstrap import RESAMPLES
from e2fashion.metrics.classification import summarize_classes
from e2fashion.options import Inference
from e2fashion.records import ENCODING, RecordContext, RunIdentity, declare
from e2fashion.tasks.classification.classifier import (
    REGION_WEIGHT,
    SLOT,
    LabelEmbeds,
    check_region_weight,
    embed_labels,
    fill_templates,
    weighted_scores,
)
from e2fashion.tasks.classification.config import ClassifyConfig
from e2fashion.tasks.retrieval.measure import embed_catalogue
from e2fashion.types import E2FashionError, ResultRecord

logger = logging.getLogger(__name__)

ZERO_SHOT = declare(
    "zero_shot",
    identified_by=(
        *("entity", "features", "templates", "region_templates", "wording", "region_of"),
        *("region_weight", "weight_chosen_on", *ENCODING),
    ),
    reports=("left_out", "majority", "indistinct", "data"),
)
CHOSEN_ON = "val"
"""The split that chooses the region's weight."""
REGION_WEIGHTS = tuple(step / 10 for step in range(11))
"""Shares of the region that are tried: 0 is the whole image alone, 1 the region alone."""


@dataclass(frozen=True)
class Truth:
    """The M products of a split that have a value: ``rows`` (M,) into its products, ``labels`` (M,) into ``names``.

    ``left_out`` counts the products without one.
    """

    names: tuple[str, ...]
    rows: Tensor
    labels: Tensor
    product_ids: tuple[str, ...]
    left_out: int


@dataclass(frozen=True)
class Classified:
    """M products classified by one kind of features: ``predicted`` (M,) int64 and its cosine ``score`` (M,)."""

    features: str
    truth: Truth
    predicted: Tensor
    score: Tensor
    records: list[ResultRecord]


@dataclass(frozen=True)
class ClassifiedSplit:
    """A split's products, classified by each kind of features; ``results`` is the file where the records belong."""

    model: str
    data: str
    column: str
    split: str
    results: Path
    classified: list[Classified]

    @property
    def records(self) -> list[ResultRecord]:
        """The records of every kind of features."""
        return [record for one in self.classified for record in one.records]

    @property
    def folder(self) -> Path:
        """Where its page and figures belong."""
        return self.results.parent / "classify" / re.sub(r"[^\w.-]+", "_", f"{self.data}_{self.column}_{self.split}")


def classify(config: ClassifyConfig, progress: bool = True) -> ClassifiedSplit:
    """Classify a split's products with the encoder that ``config`` names; features are cached next to the records.

    Raises:
        E2FashionError: as :func:`classify_split`, or a model or catalogue that cannot be read.
    """
    config, setup = set_up(config, "classify")
    catalogue = setup.catalogue
    classified = classify_split(setup.encoder, catalogue, config, setup.features, setup.identity, progress)
    data = catalogue.manifest.name
    return ClassifiedSplit(setup.encoder.name, data, config.column, config.split, setup.results, classified)


def classify_split(
    encoder: Encoder,
    catalogue: Catalogue,
    config: ClassifyConfig,
    folder: Path | None = None,
    run: RunIdentity | None = None,
    progress: bool = True,
) -> list[Classified]:
    """Classify every product's first image among all values of the column in the split, by each kind of features.

    Products without the tag are left out and counted. Records have ``task`` ``zero_shot``; their ``extra`` names
    ``entity`` (the column), ``features``, ``templates``, and the metric of the most frequent class (``majority``);
    of ``both`` also the region's share (``region_weight``) and the split that chose it (``weight_chosen_on``).
    ``folder`` caches the image features, so that a second call does not run the encoder again.

    Raises:
        E2FashionError: an unknown column or split, a wording of no value, region features that the encoder lacks, a
            template without a slot, or a weight that would be chosen on the split that is reported. All before the
            encoder runs.
    """
    run = run or RunIdentity()
    if not config.features:
        raise E2FashionError("features is empty: write global, region or both.")
    entity = config.entity or entity_of(encoder, config.column)
    check_kinds(config.features, [entity], encoder)
    if "both" in config.features:
        check_weighing(config.region_weight, config.split)
    truth = column_truth(catalogue, config.split, config.column)
    if foreign := sorted(set(config.wording) - set(truth.names)):
        raise E2FashionError(
            f"wording names '{foreign[0]}', which is not a value of '{config.column}' in {config.split}: "
            f"{', '.join(truth.names)}."
        )
    texts = [config.wording.get(name, name) for name in truth.names]
    for templates in (config.templates, config.region_templates):
        fill_templates(texts, templates)
    features = split_features(encoder, catalogue, config.split, config, folder, progress)
    context = run.context(encoder.name, config.split, catalogue.fingerprint)
    classified = []
    for kind in dict.fromkeys(config.features):
        labels = embed_labels(encoder, texts, kind, config.templates, config.region_templates)
        regions = features.regions[entity][truth.rows] if kind != "global" else None
        how = _how(encoder, config, kind, entity) | {"indistinct": labels.indistinct()}
        if kind == "both":
            how |= _weighing(encoder, catalogue, config, entity, folder, progress)
        weight = how.get("region_weight", REGION_WEIGHT)
        score, predicted = labels.scores(features.image[truth.rows], regions, weight).max(-1)
        if how["indistinct"]:
            logger.warning(
                "%d of %d labels read as another one to %s (%s): words that its tokenizer does not know?",
                *(how["indistinct"], len(texts), encoder.name, kind),
            )
        records = _records(context, truth, predicted, config.column, how, config.resamples)
        classified.append(Classified(kind, truth, predicted, score, records))
    return classified


def _weighing(
    encoder: Encoder, catalogue: Catalogue, config: ClassifyConfig, entity: str, folder: Path | None, progress: bool
) -> dict[str, float | str]:
    """The region's share in ``both`` and where it comes from: among the values of val, by val's products."""
    if config.region_weight is not None:
        return weighing(config.region_weight, given=True)
    truth = column_truth(catalogue, CHOSEN_ON, config.column)
    texts = [config.wording.get(name, name) for name in truth.names]
    embeds = embed_labels(encoder, texts, "both", config.templates, config.region_templates)
    features = split_features(encoder, catalogue, CHOSEN_ON, config, folder, progress)
    images, regions = features.image[truth.rows], features.regions[entity][truth.rows]
    return weighing(choose_region_weight(embeds, images, regions, truth.labels), given=False)


def choose_region_weight(embeds: LabelEmbeds, images: Tensor, regions: Tensor, labels: Tensor) -> float:
    """The share of :data:`REGION_WEIGHTS` by which most of M products get their label; of equals the nearest to 0.5.

    ``images`` and ``regions`` (M, C) are L2-normalized; ``labels`` (M,) are indices of the labels of ``embeds``, -1
    where the true one is not among them.
    """
    parts = embeds.parts(images, regions)
    hits = {weight: int((weighted_scores(*parts, weight).argmax(-1) == labels).sum()) for weight in REGION_WEIGHTS}
    return max(hits, key=lambda weight: (hits[weight], -abs(weight - REGION_WEIGHT)))


def check_weighing(weight: float | None, split: str) -> None:
    """Raise an E2FashionError for a share outside 0 to 1, or one that would be chosen on the split that is reported."""
    if weight is not None:
        check_region_weight(weight)
    elif split == CHOSEN_ON:
        raise E2FashionError(
            f"split is '{split}', on which the region's weight in features=both is chosen: report another split, or "
            f"give the weight, as in region_weight={REGION_WEIGHT}."
        )


def weighing(weight: float, given: bool) -> dict[str, float | str]:
    """What a record's ``extra`` says of the weight."""
    return {"region_weight": weight, "weight_chosen_on": "given" if given else CHOSEN_ON}


def measure_zero_shot(
    encoder: Encoder,
    catalogue: Catalogue,
    embedded: EmbeddedSplit,
    context: RecordContext,
    column: str,
    templates: Sequence[str] = (SLOT,),
    resamples: int = RESAMPLES,
) -> list[ResultRecord]:
    """Accuracy, macro-F1 and weighted F1 of the first images, among all values of ``column`` in ``context.split``.

    For a caller that has embedded the split: ``embedded`` comes from ``encoder``. Products without the tag are left out
    and counted in ``extra["left_out"]``.

    Raises:
        E2FashionError: the catalogue has no such column, or no product has a value in it.
    """
    truth = column_truth(catalogue, context.split, column)
    labels = embed_labels(encoder, truth.names, templates=templates)
    images = embedded.image_embeds[embedded.first_images][truth.rows]
    predicted = labels.scores(images, None).argmax(-1)
    return _records(context, truth, predicted, column, {"templates": list(templates)}, resamples)


def entity_of(encoder: Encoder, column: str) -> str:
    """The encoder's entity whose tags a column holds; the column's name where it has none."""
    return next((entity.name for entity in encoder.entities if entity.column == column), column)


def column_truth(catalogue: Catalogue, split: str, column: str, names: tuple[str, ...] = ()) -> Truth:
    """Which product has which value in a column of a split, in the order of its products.

    ``names`` are the values to choose from (default: those that occur); the label of any other is -1.

    Raises:
        E2FashionError: the catalogue has no such column, or no product has a value in it.
    """
    catalogue.check_tag(column)
    values = catalogue.first_tags(split, column)
    known = [(row, product_id, value) for row, (product_id, value) in enumerate(values.items()) if value is not None]
    if not known:
        raise E2FashionError(f"no product of {split} has a value in '{column}': choose another column")
    rows, product_ids, present = zip(*known, strict=True)
    names = names or tuple(sorted(set(present)))
    numbers = {name: number for number, name in enumerate(names)}
    labels = torch.tensor([numbers.get(value, -1) for value in present])
    return Truth(names, torch.tensor(rows), labels, product_ids, len(values) - len(known))


def split_features(
    encoder: Encoder,
    catalogue: Catalogue,
    split: str,
    config: Inference | None = None,
    folder: Path | None = None,
    progress: bool = True,
) -> SplitFeatures:
    """Image features of a split's products, from the cache where they are in it.

    Of a model that compares tokens ``image`` is (N, P, C), computed anew.
    """
    if not encoder.compares_tokens:
        return cached_features(encoder, catalogue, split, folder, config, progress)
    embedded = embed_catalogue(
        encoder, catalogue, split, TextTemplate(), config=config, with_tags=False, progress=progress
    )
    return SplitFeatures(embedded.product_ids, embedded.image_embeds[embedded.first_images], {})


def _how(encoder: Encoder, config: ClassifyConfig, kind: str, entity: str) -> dict[str, Any]:
    how: dict[str, Any] = {"features": kind, **encoding_of(encoder, config.precision)}
    if kind != "global" and entity != entity_of(encoder, config.column):
        how["region_of"] = entity
    if kind != "region":
        how["templates"] = list(config.templates)
    if kind != "global":
        how["region_templates"] = list(config.region_templates)
    if config.wording:
        how["wording"] = [f"{name}: {text}" for name, text in sorted(config.wording.items())]
    return how


def _records(
    context: RecordContext, truth: Truth, predicted: Tensor, column: str, how: Mapping[str, Any], resamples: int
) -> list[ResultRecord]:
    classes = len(truth.names)
    most_frequent = torch.bincount(truth.labels, minlength=classes).argmax()
    majority = summarize_classes(truth.labels, most_frequent.expand(len(truth.labels)), classes)
    return [
        ZERO_SHOT.record(
            context,
            metric,
            *estimate,
            queries=len(truth.labels),
            candidates=float(classes),
            extra={"entity": column, **how, "left_out": truth.left_out, "majority": majority[metric].value},
        )
        for metric, estimate in summarize_classes(truth.labels, predicted, classes, resamples).items()
    ]
