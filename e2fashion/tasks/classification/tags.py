"""Tag prediction that may abstain: thresholds chosen on val, coverage and accuracy measured on another split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder
from e2fashion.features import SplitFeatures, check_kinds
from e2fashion.metrics.bootstrap import bootstrap, interval
from e2fashion.records import ENCODING, RecordContext, RunIdentity, declare
from e2fashion.tasks.classification.classify import ClassifySettings, entity_of, product_values, split_features
from e2fashion.tasks.classification.region_weight import check_weighing, choose_region_weight, weighing
from e2fashion.tasks.classification.tag_predictor import TagPredictor, TagValues, choose_threshold
from e2fashion.types import E2FashionError, ResultRecord

TAGS = declare(
    "tags",
    identified_by=(
        *("entity", "features", "templates", "region_templates", "region_weight", "weight_chosen_on"),
        *("target_accuracy", *ENCODING),
    ),
    reports=("threshold", "val_queries", "val_accuracy", "untagged"),
)
VAL = "val"
METRICS = ("coverage", "answered_accuracy", "accuracy")
"""In percent: answered products, right ones among them, and right ones if every product were answered."""


@dataclass(frozen=True)
class TagColumn:
    """A tag column with the values that may be answered, and how often each entity's threshold is to be right."""

    entity: str
    column: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class TagTruth:
    """Of N products: the place of the true value among those to choose from (-1: not among them), and who is known."""

    labels: Tensor
    known: Tensor


def fit_tags(
    encoder: Encoder,
    catalogue: Catalogue,
    columns: Sequence[str],
    settings: ClassifySettings,
    accuracy: float,
    run: RunIdentity | None = None,
) -> tuple[TagPredictor, list[ResultRecord]]:
    """A predictor of the tags in ``columns`` whose thresholds val chooses, and its records on ``settings.split``.

    The values to choose from are those of train. A threshold is the lowest one from which on the share ``accuracy`` of
    val's answers is right; where none reaches it the entity is never answered. An entity that the encoder has is read
    by ``settings.features``, any other column by the whole picture; val also chooses the region's share in ``both``
    where ``settings`` does not give it. ``settings.column`` plays no part.

    Raises:
        E2FashionError: a column or split that is not there, thresholds that would be chosen on the split that is
            reported, or region features that the encoder lacks.
    """
    run = run or RunIdentity()
    if settings.split == VAL:
        raise E2FashionError("split is 'val', on which the thresholds are chosen: report another one, split=test.")
    check_weighing(settings.region_weight, settings.split)
    (features,) = settings.features or ("",)
    own = {entity.name for entity in encoder.entities}
    if features != "global" and not own:
        check_kinds([features], ["any entity"], encoder)
    targets = [tag_column(encoder, catalogue, column) for column in dict.fromkeys(columns)]
    entities = [
        TagValues(
            target.entity,
            target.values,
            features if target.entity in own else "global",
            tuple(settings.templates),
            tuple(settings.region_templates),
        )
        for target in targets
    ]
    check_kinds([features], [], encoder)
    scale = float(encoder.model.logit_scale.detach().exp())
    predictor = TagPredictor(encoder, entities, scale)
    found = {split: split_features(encoder, catalogue, settings, split) for split in (VAL, settings.split)}
    context = run.context(encoder.name, settings.split, catalogue.fingerprint)
    fitted, records = [], []
    for entity, target in zip(entities, targets, strict=True):
        truth = _truth(target, found[VAL], catalogue, VAL)
        if entity.features == "both":
            entity = _weighed(predictor, entity, found[VAL], truth, settings.region_weight)
        score, right = _answered(predictor, entity, found[VAL], truth)
        known = truth.known
        fitted.append(replace(entity, threshold=choose_threshold(score[known], right[known], accuracy)))
        how = {
            "target_accuracy": 100 * accuracy,
            "val_queries": int(known.sum()),
            "val_accuracy": 100 * float(right[known].double().mean()),
            **_how(encoder, settings, fitted[-1], target),
        }
        truth = _truth(target, found[settings.split], catalogue, settings.split)
        score, right = _answered(predictor, entity, found[settings.split], truth)
        records += _records(context, settings, fitted[-1], score, right, truth.known, how)
    return replace(predictor, entities=tuple(fitted)), records


def _weighed(
    predictor: TagPredictor, entity: TagValues, features: SplitFeatures, truth: TagTruth, given: float | None
) -> TagValues:
    """An entity read by both features, with the weight that is given or that val chooses."""
    known = truth.known
    if given is None:
        images, regions = features.image[known], features.regions[entity.entity][known]
        given = choose_region_weight(predictor.embeds(entity), images, regions, truth.labels[known])
    return replace(entity, region_weight=given)


def _how(encoder: Encoder, settings: ClassifySettings, entity: TagValues, target: TagColumn) -> dict[str, Any]:
    how: dict[str, Any] = {"entity": target.column, "features": entity.features, "threshold": entity.threshold}
    if entity.features != "region":
        how["templates"] = list(entity.templates)
    if entity.features != "global":
        how["region_templates"] = list(entity.region_templates)
    if entity.features == "both":
        how |= weighing(entity.region_weight, given=settings.region_weight is not None)
    transform = encoder.transform
    return how | {"image_size": transform.size, "resize": transform.resize, "precision": settings.precision}


def _records(
    context: RecordContext,
    settings: ClassifySettings,
    entity: TagValues,
    score: Tensor,
    right: Tensor,
    known: Tensor,
    how: Mapping[str, Any],
) -> list[ResultRecord]:
    """What N products say of an entity: their ``score``, whether it is ``right``, and who is ``known``, (N,) each."""
    answered = torch.zeros_like(right) if entity.threshold is None else score >= entity.threshold
    extra = {name: item for name, item in how.items() if item is not None} | {"untagged": int((~known).sum())}
    return [
        TAGS.record(
            context,
            metric,
            value,
            low,
            high,
            queries=int(known.sum()),
            candidates=float(len(entity.values)),
            extra=extra,
        )
        for metric, (value, low, high) in summarize_answers(answered[known], right[known], settings.resamples).items()
    ]


def tag_column(encoder: Encoder, catalogue: Catalogue, name: str) -> TagColumn:
    """A tag column, or an entity of the encoder, with the values that train has.

    Raises:
        E2FashionError: the catalogue has no such column, or train no value in it.
    """
    column = next((entity.column for entity in encoder.entities if entity.name == name), name)
    if column not in catalogue.tag_columns:
        raise E2FashionError(
            f"The catalogue {catalogue.path} has no tag column '{column}'; it has: {', '.join(catalogue.tag_columns)}."
        )
    values = sorted({value for value in product_values(catalogue, "train", column).values() if value is not None})
    if not values:
        raise E2FashionError(f"no product of train has a value in '{column}': choose another column")
    return TagColumn(entity_of(encoder, column), column, tuple(values))


def _truth(target: TagColumn, features: SplitFeatures, catalogue: Catalogue, split: str) -> TagTruth:
    values = product_values(catalogue, split, target.column)
    places = {value: place for place, value in enumerate(target.values)}
    true = [values[product_id] for product_id in features.product_ids]
    known = torch.tensor([value is not None for value in true])
    if not known.any():
        raise E2FashionError(f"no product of {split} has a value in '{target.column}': choose another column")
    return TagTruth(torch.tensor([places.get(value or "", -1) for value in true]), known)


def _answered(
    predictor: TagPredictor, entity: TagValues, features: SplitFeatures, truth: TagTruth
) -> tuple[Tensor, Tensor]:
    """Probability of the best value, and whether it is true: (N,) each."""
    regions = features.regions[entity.entity] if entity.features != "global" else None
    score, best = predictor.probabilities(entity, features.image, regions).max(-1)
    return score, best == truth.labels


def summarize_answers(answered: Tensor, right: Tensor, resamples: int) -> dict[str, tuple[float, float, float]]:
    """:data:`METRICS` of N products, ``answered`` and ``right`` (N,) bool, with the bounds of 95 % (bootstrap, seed 0).

    Without any answer there is no accuracy among the answered: that metric is left out.
    """
    count = len(answered)
    both, answered, right = (answered & right).double(), answered.double(), right.double()
    statistics: dict[str, Callable[[Tensor], Tensor]] = {
        "coverage": lambda weights: weights @ answered / count,
        "answered_accuracy": lambda weights: weights @ both / (weights @ answered).clamp(min=1e-9),
        "accuracy": lambda weights: weights @ right / count,
    }
    if not answered.any():
        del statistics["answered_accuracy"]

    def together(weights: Tensor) -> Tensor:
        return 100 * torch.stack([statistic(weights.double()) for statistic in statistics.values()], -1)

    value = together(torch.ones(1, count))[0].tolist()
    low, high = (bound.tolist() for bound in interval(bootstrap(together, count, resamples)))
    return {name: (value[place], low[place], high[place]) for place, name in enumerate(statistics)}
