"""Zero-shot classification of a catalogue's split by one of its tag columns: accuracy and F1 as records."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.text import TextTemplate
from e2fashion.embedding import EmbeddedSplit
from e2fashion.encoder import Encoder
from e2fashion.features import SplitFeatures, cached_features, check_kinds, extract_features
from e2fashion.metrics.bootstrap import RESAMPLES
from e2fashion.metrics.classification import summarize_classes
from e2fashion.records import ENCODING, RecordContext, RunIdentity, declare
from e2fashion.tasks.classification.classifier import REGION_WEIGHT, embed_labels
from e2fashion.tasks.classification.region_weight import CHOSEN_ON, check_weighing, choose_region_weight, weighing
from e2fashion.tasks.classification.zero_shot import SLOT, fill_templates
from e2fashion.tasks.retrieval.measure import MeasureSettings, embed_catalogue
from e2fashion.types import E2FashionError, ResultRecord

logger = logging.getLogger(__name__)

ZERO_SHOT = declare(
    "zero_shot",
    identified_by=(
        *("entity", "features", "templates", "region_templates", "wording", "region_of"),
        *("region_weight", "weight_chosen_on", *ENCODING),
    ),
    reports=("left_out", "majority", "indistinct"),
)


@dataclass(frozen=True)
class ClassifySettings:
    """What is classified and how.

    ``wording`` maps values of ``column`` to the words that go into the templates (others: the value itself).
    ``entity`` is whose region is read (None: the one whose tags the column holds), ``region_weight`` its share in the
    features ``both`` (None: chosen on val). ``folder`` keeps the image features, so that a second call does not run the
    encoder again (None: not kept).
    """

    column: str = ""
    templates: Sequence[str] = (SLOT,)
    region_templates: Sequence[str] = (SLOT,)
    features: Sequence[str] = ("global",)
    split: str = "test"
    wording: Mapping[str, str] = field(default_factory=dict)
    entity: str | None = None
    region_weight: float | None = None
    resamples: int = RESAMPLES
    folder: Path | None = None
    batch_size: int = 128
    workers: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    progress: bool = True


@dataclass(frozen=True)
class Truth:
    """The products of a split that have a value: ``rows`` (M,) into its products, ``labels`` (M,) into ``names``.

    ``product_ids`` are the M products' own.
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


def classify_split(
    encoder: Encoder, catalogue: Catalogue, settings: ClassifySettings, run: RunIdentity | None = None
) -> list[Classified]:
    """Classify every product's first picture among all values of the column in the split, by each kind of features.

    Products without the tag are left out and counted. Records have ``task`` ``zero_shot``; their ``extra`` names
    ``entity`` (the column), ``features``, ``templates``, and what the most frequent class would reach (``majority``);
    of ``both`` also the region's share (``region_weight``) and the split that chose it (``weight_chosen_on``).

    Raises:
        E2FashionError: a column or split that is not there, a wording of no value, region features that the encoder
            lacks, a template without a slot, or a weight that would be chosen on the split that is reported. All
            before the encoder runs.
    """
    run = run or RunIdentity()
    if not settings.features:
        raise E2FashionError("features is empty: write global, region or both.")
    entity = settings.entity or entity_of(encoder, settings.column)
    check_kinds(settings.features, [entity], encoder)
    if "both" in settings.features:
        check_weighing(settings.region_weight, settings.split)
    truth = column_truth(catalogue, settings.split, settings.column)
    if foreign := sorted(set(settings.wording) - set(truth.names)):
        raise E2FashionError(
            f"wording names '{foreign[0]}', which is no value of '{settings.column}' in {settings.split}: "
            f"{', '.join(truth.names)}."
        )
    words = _words(truth, settings)
    for templates in (settings.templates, settings.region_templates):
        fill_templates(words, templates)
    found = split_features(encoder, catalogue, settings)
    context = run.context(encoder.name, settings.split, catalogue.fingerprint)
    results = []
    for kind in dict.fromkeys(settings.features):
        labels = embed_labels(encoder, words, kind, settings.templates, settings.region_templates)
        regions = found.regions[entity][truth.rows] if kind != "global" else None
        how = _how(encoder, settings, kind, entity) | {"indistinct": labels.indistinct()}
        if kind == "both":
            how |= _weighing(encoder, catalogue, settings, entity)
        weight = how.get("region_weight", REGION_WEIGHT)
        score, predicted = labels.scores(found.image[truth.rows], regions, weight).max(-1)
        if how["indistinct"]:
            logger.warning(
                "%d of %d labels read as another one to %s (%s): words that its tokenizer does not know?",
                *(how["indistinct"], len(words), encoder.name, kind),
            )
        records = _records(context, truth, predicted, settings.column, how, settings.resamples)
        results.append(Classified(kind, truth, predicted, score, records))
    return results


def _weighing(
    encoder: Encoder, catalogue: Catalogue, settings: ClassifySettings, entity: str
) -> dict[str, float | str]:
    """The region's share in ``both`` and where it comes from: among the values of val, by val's products."""
    if settings.region_weight is not None:
        return weighing(settings.region_weight, given=True)
    truth = column_truth(catalogue, CHOSEN_ON, settings.column)
    words = _words(truth, settings)
    embeds = embed_labels(encoder, words, "both", settings.templates, settings.region_templates)
    found = split_features(encoder, catalogue, settings, CHOSEN_ON)
    images, regions = found.image[truth.rows], found.regions[entity][truth.rows]
    return weighing(choose_region_weight(embeds, images, regions, truth.labels), given=False)


def _words(truth: Truth, settings: ClassifySettings) -> list[str]:
    return [settings.wording.get(name, name) for name in truth.names]


def measure_zero_shot(
    encoder: Encoder,
    catalogue: Catalogue,
    embedded: EmbeddedSplit,
    context: RecordContext,
    column: str,
    templates: Sequence[str] = (SLOT,),
    resamples: int = RESAMPLES,
) -> list[ResultRecord]:
    """Accuracy, macro-F1 and weighted F1 of the first pictures, among all values of ``column`` in ``context.split``.

    For a caller that has embedded the split: ``embedded`` holds its pictures, by ``encoder``. Products without the tag
    are left out and counted in ``extra["left_out"]``.

    Raises:
        E2FashionError: the catalogue has no such column, or nobody has a value in it.
    """
    truth = column_truth(catalogue, context.split, column)
    labels = embed_labels(encoder, truth.names, templates=templates)
    images = embedded.image_embeds[embedded.first_images][truth.rows]
    predicted = labels.scores(images, None).argmax(-1)
    return _records(context, truth, predicted, column, {"templates": list(templates)}, resamples)


def entity_of(encoder: Encoder, column: str) -> str:
    """The encoder's entity whose tags a column holds; the column's own name where it has none."""
    return next((entity.name for entity in encoder.entities if entity.column == column), column)


def column_truth(catalogue: Catalogue, split: str, column: str) -> Truth:
    """Who has which value in a column of a split, in the order of its products.

    Raises:
        E2FashionError: the catalogue has no such column, or nobody has a value in it.
    """
    if column not in catalogue.tag_columns:
        raise E2FashionError(
            f"The catalogue {catalogue.path} has no tag column '{column}'; it has: {', '.join(catalogue.tag_columns)}."
        )
    values = product_values(catalogue, split, column)
    known = [(row, product_id, value) for row, (product_id, value) in enumerate(values.items()) if value is not None]
    names = sorted({value for _, _, value in known})
    if not names:
        raise E2FashionError(f"no product of {split} has a value in '{column}': choose another column")
    places = {name: place for place, name in enumerate(names)}
    return Truth(
        tuple(names),
        torch.tensor([row for row, _, _ in known]),
        torch.tensor([places[value] for _, _, value in known]),
        tuple(product_id for _, product_id, _ in known),
        len(values) - len(known),
    )


def product_values(catalogue: Catalogue, split: str, column: str) -> dict[str, str | None]:
    """The value of every product's first view, in the order of the products; None where it is unknown or blank."""
    rows = catalogue.split(split)
    products: dict[str, str | None] = {}
    for product_id, value in zip(rows["product_id"], rows[column], strict=True):
        products.setdefault(product_id, value if value and value.strip() else None)
    return products


def split_features(
    encoder: Encoder, catalogue: Catalogue, settings: ClassifySettings, split: str | None = None
) -> SplitFeatures:
    """Image features of a split's products (``settings.split``), from the cache where they are there.

    Of a model that compares tokens ``image`` is (N, P, C), made anew.
    """
    split = split or settings.split
    if encoder.compares_tokens:
        how = MeasureSettings(
            batch_size=settings.batch_size,
            workers=settings.workers,
            precision=settings.precision,
            progress=settings.progress,
            with_tags=False,
        )
        embedded = embed_catalogue(encoder, catalogue, split, TextTemplate(), settings=how)
        return SplitFeatures(embedded.product_ids, embedded.image_embeds[embedded.first_images], {})
    options = (settings.batch_size, settings.workers, settings.precision, settings.progress)
    if settings.folder is None:
        return extract_features(encoder, catalogue, split, *options)
    return cached_features(encoder, catalogue, split, settings.folder, *options)


def _how(encoder: Encoder, settings: ClassifySettings, kind: str, entity: str) -> dict[str, Any]:
    how: dict[str, Any] = {"features": kind}
    if kind != "global" and entity != entity_of(encoder, settings.column):
        how["region_of"] = entity
    if kind != "region":
        how["templates"] = list(settings.templates)
    if kind != "global":
        how["region_templates"] = list(settings.region_templates)
    if settings.wording:
        how["wording"] = [f"{name}: {words}" for name, words in sorted(settings.wording.items())]
    transform = encoder.transform
    return how | {"image_size": transform.size, "resize": transform.resize, "precision": settings.precision}


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
            estimate.value,
            estimate.low,
            estimate.high,
            queries=len(truth.labels),
            candidates=float(classes),
            extra={"entity": column, **how, "left_out": truth.left_out, "majority": majority[metric].value},
        )
        for metric, estimate in summarize_classes(truth.labels, predicted, classes, resamples).items()
    ]
