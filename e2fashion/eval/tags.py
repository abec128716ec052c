"""Tag prediction that may abstain: thresholds chosen on val, coverage and accuracy measured on another split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from e2fashion.data.catalogue import Catalogue
from e2fashion.eval.classify import ClassifySettings, entity_of, product_values, split_features
from e2fashion.eval.encoder import Encoder
from e2fashion.eval.features import SplitFeatures, check_kinds
from e2fashion.eval.measure import RunIdentity
from e2fashion.metrics.bootstrap import bootstrap, interval
from e2fashion.tasks.tags import TagPredictor, TagValues, choose_threshold
from e2fashion.types import E2FashionError, ResultRecord

TASK = "tags"
VAL = "val"
METRICS = ("coverage", "answered_accuracy", "accuracy")
"""In percent: answered products, right ones among them, and right ones if every product were answered."""


@dataclass(frozen=True)
class TagColumn:
    """A tag column with the values that may be answered, and how often each entity's threshold is to be right."""

    entity: str
    column: str
    values: tuple[str, ...]


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
    by ``settings.features``, any other column by the whole picture. ``settings.column`` plays no part.

    Raises:
        E2FashionError: a column or split that is not there, thresholds that would be chosen on the split that is
            reported, or region features that the encoder lacks.
    """
    run = run or RunIdentity()
    if settings.split == VAL:
        raise E2FashionError("split is 'val', on which the thresholds are chosen: report another one, split=test.")
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
    fitted, records = [], []
    for entity, target in zip(entities, targets, strict=True):
        score, right, known = _answered(predictor, entity, target, found[VAL], catalogue, VAL)
        fitted.append(replace(entity, threshold=choose_threshold(score[known], right[known], accuracy)))
        on_val = {"val_queries": int(known.sum()), "val_accuracy": 100 * float(right[known].double().mean())}
        score, right, known = _answered(predictor, entity, target, found[settings.split], catalogue, settings.split)
        how = {
            "entity": target.column,
            "features": entity.features,
            "templates": list(entity.templates) if entity.features != "region" else None,
            "region_templates": list(entity.region_templates) if entity.features != "global" else None,
            "target_accuracy": 100 * accuracy,
            "threshold": fitted[-1].threshold,
            "untagged": int((~known).sum()),
            **on_val,
            "image_size": encoder.transform.size,
            "resize": encoder.transform.resize,
            "precision": settings.precision,
        }
        answered = torch.zeros_like(right)
        if (threshold := fitted[-1].threshold) is not None:
            answered = score >= threshold
        shared: dict[str, Any] = {
            "run": run.identity,
            "model": encoder.name,
            "task": TASK,
            "split": settings.split,
            "seed": run.seed,
            "config_hash": run.identity,
            "commit": run.commit,
            "data_fingerprint": catalogue.fingerprint,
            "queries": int(known.sum()),
            "candidates": float(len(entity.values)),
        }
        for metric, (value, low, high) in summarise_answers(answered[known], right[known], settings.resamples).items():
            extra = {name: item for name, item in how.items() if item is not None}
            records.append(ResultRecord(**shared, metric=metric, value=value, low=low, high=high, extra=extra))
    return replace(predictor, entities=tuple(fitted)), records


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


def _answered(
    predictor: TagPredictor,
    entity: TagValues,
    target: TagColumn,
    features: SplitFeatures,
    catalogue: Catalogue,
    split: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Probability of the best value, whether it is true, and whether the truth is known: (N,) each."""
    regions = features.regions[entity.entity] if entity.features != "global" else None
    score, best = predictor.probabilities(entity, features.image, regions).max(-1)
    truth = product_values(catalogue, split, target.column)
    pairs = zip(best.tolist(), features.product_ids, strict=True)
    right = torch.tensor([entity.values[place] == truth[product_id] for place, product_id in pairs])
    known = torch.tensor([truth[product_id] is not None for product_id in features.product_ids])
    if not known.any():
        raise E2FashionError(f"no product of {split} has a value in '{target.column}': choose another column")
    return score, right, known


def summarise_answers(answered: Tensor, right: Tensor, resamples: int) -> dict[str, tuple[float, float, float]]:
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
