"""Tag prediction that may abstain: thresholds chosen on val, coverage and accuracy measured on another split."""

from __future__ import annotations

from collections.abc import Callable
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
from e2fashion.records import ENCODING, RunIdentity, declare
from e2fashion.tasks.classification.classify import (
    CHOSEN_ON,
    Truth,
    check_weighing,
    choose_region_weight,
    column_truth,
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
    column_of = {entity.name: entity.column for entity in encoder.entities}
    features = config.features or ("region" if column_of else "global")
    if features != "global" and not column_of:
        check_kinds([features], ["any entity"], encoder)
    check_kinds([features], [], encoder)
    templates = tuple(config.templates), tuple(config.region_templates)
    entities, columns = [], []
    for name in dict.fromkeys(config.columns or column_of or catalogue.tag_columns):
        columns.append(column_of.get(name, name))
        values, owner = column_truth(catalogue, "train", columns[-1]).names, entity_of(encoder, columns[-1])
        entities.append(TagValues(owner, values, features if owner in column_of else "global", *templates))
    predictor = TagPredictor(encoder, entities, *scale_and_bias(encoder))
    by_split = {name: split_features(encoder, catalogue, name, config, folder, progress) for name in (CHOSEN_ON, split)}
    context = run.context(encoder.name, split, catalogue.fingerprint)
    fitted, records = [], []
    for entity, column in zip(entities, columns, strict=True):
        val, reported = (column_truth(catalogue, name, column, entity.values) for name in (CHOSEN_ON, split))
        if entity.features == "both":
            weight = config.region_weight
            if weight is None:
                of_val = by_split[CHOSEN_ON]
                images, regions = of_val.image[val.rows], of_val.regions[entity.entity][val.rows]
                weight = choose_region_weight(predictor.embeds(entity), images, regions, val.labels)
            entity = replace(entity, region_weight=weight)
        score, right = _answered(predictor, entity, by_split[CHOSEN_ON], val)
        entity = replace(entity, threshold=choose_threshold(score, right, config.accuracy))
        fitted.append(entity)
        extra = {
            **_how(encoder, config, entity, column),
            "val_queries": len(right),
            "val_accuracy": 100 * float(right.double().mean()),
            "untagged": reported.left_out,
        }
        score, right = _answered(predictor, entity, by_split[split], reported)
        answered = torch.zeros_like(right) if entity.threshold is None else score >= entity.threshold
        choices = float(len(entity.values))
        records += [
            TAGS.record(context, metric, *estimate, queries=len(right), candidates=choices, extra=extra)
            for metric, estimate in summarize_answers(answered, right, config.resamples).items()
        ]
    return replace(predictor, entities=tuple(fitted)), records


def _how(encoder: Encoder, config: TagsFitConfig, entity: TagValues, column: str) -> dict[str, Any]:
    how: dict[str, Any] = {"entity": column, "features": entity.features, "target_accuracy": 100 * config.accuracy}
    how |= encoding_of(encoder, config.precision)
    if entity.threshold is not None:
        how["threshold"] = entity.threshold
    if entity.features != "region":
        how["templates"] = list(entity.templates)
    if entity.features != "global":
        how["region_templates"] = list(entity.region_templates)
    if entity.features == "both":
        how |= weighing(entity.region_weight, given=config.region_weight is not None)
    return how


def _answered(
    predictor: TagPredictor, entity: TagValues, features: SplitFeatures, truth: Truth
) -> tuple[Tensor, Tensor]:
    """Of the M products with a value: probability of the best one, and whether it is true, (M,) each."""
    regions = features.regions[entity.entity] if entity.features != "global" else None
    score, best = predictor.probabilities(entity, features.image, regions).max(-1)
    return score[truth.rows], best[truth.rows] == truth.labels


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
