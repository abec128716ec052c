"""Tag prediction that may abstain: thresholds chosen on val, coverage and accuracy measured on another split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder
from e2fashion.features import SplitFeatures, check_kinds
from e2fashion.measuring import encoding_of, set_up
from e2fashion.metrics.bootstrap import Estimate, bootstrap, estimates
from e2fashion.records import ENCODING, RecordContext, RunIdentity, declare
from e2fashion.tasks.classification.classify import (
    CHOSEN_ON,
    check_weighing,
    choose_region_weight,
    entity_of,
    split_features,
    weighing,
)
from e2fashion.tasks.classification.config import TagsFitConfig
from e2fashion.tasks.classification.tag_predictor import (
    NAME,
    TagPredictor,
    TagValues,
    choose_threshold,
    save_tag_predictor,
    scale_and_bias,
)
from e2fashion.types import E2FashionError, ResultRecord

TAGS = declare(
    "tags",
    identified_by=(
        *("entity", "features", "templates", "region_templates", "region_weight", "weight_chosen_on"),
        *("target_accuracy", *ENCODING),
    ),
    reports=("threshold", "val_queries", "val_accuracy", "untagged"),
)


@dataclass(frozen=True)
class TagColumn:
    """A tag column, the entity that it belongs to, and the values that may be answered."""

    entity: str
    column: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class TagTruth:
    """Of N products: index of the true value (N,), -1 where it is no choice, and whether it is ``known`` (N,) bool."""

    labels: Tensor
    known: Tensor


@dataclass(frozen=True)
class FittedTags:
    """A predictor, the ``file`` that holds it, its records on the reported split, and the file where these belong."""

    predictor: TagPredictor
    file: Path
    results: Path
    records: list[ResultRecord]


def fit_tags(config: TagsFitConfig, progress: bool = True) -> FittedTags:
    """Choose thresholds on val, write them next to the model, and measure coverage and accuracy on another split.

    Raises:
        E2FashionError: as :func:`fit_predictor`, or a model or catalogue that cannot be read.
    """
    config, setup = set_up(config, "tags")
    catalogue, folder = setup.catalogue, setup.features
    predictor, records = fit_predictor(setup.encoder, catalogue, config, folder, setup.identity, progress)
    file = Path(config.file) if config.file else setup.results.parent / NAME
    made_on = {"catalogue": catalogue.manifest.name, "data_fingerprint": catalogue.fingerprint, "split": CHOSEN_ON}
    save_tag_predictor(predictor, setup.encoder, file, made_on | {"target_accuracy": config.accuracy})
    return FittedTags(predictor, file, setup.results, records)


def fit_predictor(
    encoder: Encoder,
    catalogue: Catalogue,
    config: TagsFitConfig,
    folder: Path | None = None,
    run: RunIdentity | None = None,
    progress: bool = True,
) -> tuple[TagPredictor, list[ResultRecord]]:
    """A predictor of tags whose thresholds val chooses, and its records on the split of ``config``.

    The values to choose from are those of train. A threshold is the lowest one from which on the share
    ``config.accuracy`` of val's answers is right; where none reaches it the entity is never answered. An entity that
    the encoder has is predicted by ``config.features``, any other column by the whole image; val also chooses the
    region's share in ``both`` where ``config`` does not give it. ``folder`` caches the image features.

    Raises:
        E2FashionError: an unknown column or split, thresholds that would be chosen on the split that is reported, or
            region features that the encoder lacks.
    """
    run, split = run or RunIdentity(), config.split
    if split == CHOSEN_ON:
        raise E2FashionError("split is 'val', on which the thresholds are chosen: report another one, split=test.")
    check_weighing(config.region_weight, split)
    names = [entity.name for entity in encoder.entities]
    features = config.features or ("region" if names else "global")
    if features != "global" and not names:
        check_kinds([features], ["any entity"], encoder)
    check_kinds([features], [], encoder)
    columns = config.columns or names or catalogue.tag_columns
    targets = [tag_column(encoder, catalogue, column) for column in dict.fromkeys(columns)]
    templates = tuple(config.templates), tuple(config.region_templates)
    entities = [
        TagValues(target.entity, target.values, features if target.entity in names else "global", *templates)
        for target in targets
    ]
    predictor = TagPredictor(encoder, entities, *scale_and_bias(encoder))
    by_split = {name: split_features(encoder, catalogue, name, config, folder, progress) for name in (CHOSEN_ON, split)}
    context = run.context(encoder.name, split, catalogue.fingerprint)
    fitted, records = [], []
    for entity, target in zip(entities, targets, strict=True):
        truth = _truth(target, by_split[CHOSEN_ON], catalogue, CHOSEN_ON)
        if entity.features == "both":
            entity = _weighed(predictor, entity, by_split[CHOSEN_ON], truth, config.region_weight)
        score, right = _answered(predictor, entity, by_split[CHOSEN_ON], truth)
        known = truth.known
        entity = replace(entity, threshold=choose_threshold(score[known], right[known], config.accuracy))
        fitted.append(entity)
        how = {
            "target_accuracy": 100 * config.accuracy,
            "val_queries": int(known.sum()),
            "val_accuracy": 100 * float(right[known].double().mean()),
            **_how(encoder, config, entity, target),
        }
        truth = _truth(target, by_split[split], catalogue, split)
        score, right = _answered(predictor, entity, by_split[split], truth)
        records += _records(context, config.resamples, entity, score, right, truth.known, how)
    return replace(predictor, entities=tuple(fitted)), records


def _weighed(
    predictor: TagPredictor, entity: TagValues, features: SplitFeatures, truth: TagTruth, given: float | None
) -> TagValues:
    """An entity predicted by both features, with the weight that is given or that val chooses."""
    known = truth.known
    if given is None:
        images, regions = features.image[known], features.regions[entity.entity][known]
        given = choose_region_weight(predictor.embeds(entity), images, regions, truth.labels[known])
    return replace(entity, region_weight=given)


def _how(encoder: Encoder, config: TagsFitConfig, entity: TagValues, target: TagColumn) -> dict[str, Any]:
    how: dict[str, Any] = {"entity": target.column, "features": entity.features, "threshold": entity.threshold}
    how |= encoding_of(encoder, config.precision)
    if entity.features != "region":
        how["templates"] = list(entity.templates)
    if entity.features != "global":
        how["region_templates"] = list(entity.region_templates)
    if entity.features == "both":
        how |= weighing(entity.region_weight, given=config.region_weight is not None)
    return how


def _records(
    context: RecordContext,
    resamples: int,
    entity: TagValues,
    score: Tensor,
    right: Tensor,
    known: Tensor,
    how: Mapping[str, Any],
) -> list[ResultRecord]:
    """Of N products (N,): the answer's ``score``, whether it is ``right``, and whether the value is ``known``."""
    answered = torch.zeros_like(right) if entity.threshold is None else score >= entity.threshold
    extra = {name: item for name, item in how.items() if item is not None} | {"untagged": int((~known).sum())}
    return [
        TAGS.record(
            context,
            metric,
            *estimate,
            queries=int(known.sum()),
            candidates=float(len(entity.values)),
            extra=extra,
        )
        for metric, estimate in summarize_answers(answered[known], right[known], resamples).items()
    ]


def tag_column(encoder: Encoder, catalogue: Catalogue, name: str) -> TagColumn:
    """A tag column, or an entity of the encoder, with the values that train has.

    Raises:
        E2FashionError: the catalogue has no such column, or train no value in it.
    """
    column = next((entity.column for entity in encoder.entities if entity.name == name), name)
    catalogue.check_tag(column)
    values = sorted({value for value in catalogue.first_tags("train", column).values() if value is not None})
    if not values:
        raise E2FashionError(f"no product of train has a value in '{column}': choose another column")
    return TagColumn(entity_of(encoder, column), column, tuple(values))


def _truth(target: TagColumn, features: SplitFeatures, catalogue: Catalogue, split: str) -> TagTruth:
    values = catalogue.first_tags(split, target.column)
    indices = {value: index for index, value in enumerate(target.values)}
    true = [values[product_id] for product_id in features.product_ids]
    known = torch.tensor([value is not None for value in true])
    if not known.any():
        raise E2FashionError(f"no product of {split} has a value in '{target.column}': choose another column")
    return TagTruth(torch.tensor([indices.get(value or "", -1) for value in true]), known)


def _answered(
    predictor: TagPredictor, entity: TagValues, features: SplitFeatures, truth: TagTruth
) -> tuple[Tensor, Tensor]:
    """Probability of the best value, and whether it is true: (N,) each."""
    regions = features.regions[entity.entity] if entity.features != "global" else None
    score, best = predictor.probabilities(entity, features.image, regions).max(-1)
    return score, best == truth.labels


def summarize_answers(answered: Tensor, right: Tensor, resamples: int) -> dict[str, Estimate]:
    """Of N products, ``answered`` and ``right`` (N,) bool, with the bounds of 95 % (bootstrap, seed 0), in percent:

    ``coverage``, answered ones; ``answered_accuracy``, right ones among them; ``accuracy``, right if all were answered.

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

    values = dict(zip(statistics, together(torch.ones(1, count))[0].tolist(), strict=True))
    return estimates(values, bootstrap(together, count, resamples))
