"""Linear probing: how well a line through an encoder's image features tells an entity's values apart."""

from __future__ import annotations

import logging
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder
from e2fashion.features import SplitFeatures, cached_features, check_kinds
from e2fashion.metrics.bootstrap import RESAMPLES
from e2fashion.metrics.classification import accuracy, summarize_classes
from e2fashion.metrics.retrieval import Estimate
from e2fashion.records import ENCODING, RunIdentity, declare
from e2fashion.tasks.probing.labels import TRAIN, VAL, Task, build_task, entity_column
from e2fashion.tasks.probing.linear import MAX_ITERATIONS, TOLERANCE, LogisticFit, LogisticProblem, Standardizer
from e2fashion.types import E2FashionError, ResultRecord

logger = logging.getLogger(__name__)

PROBE = declare(
    "probe",
    identified_by=("entity", "features", "shots", "min_examples", "strengths", "tolerance", "probe_seed", *ENCODING),
    reports=(
        *("classes", "train_products", "rare_classes", "rare_train_products", "rare_products"),
        *("unseen_classes", "unseen_products", "untagged_products", "majority"),
        *("strength", "converged", "iterations", "gradient", "unconverged_fits", "val_accuracy"),
        *("draws", "deviation", "short_classes"),
    ),
)
ALL = "all"
"""What ``extra["shots"]`` says of a probe that was fitted on the whole of train."""
STRENGTHS = (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5)
"""Weights of the squared norm beside the mean cross-entropy that val chooses from (ours)."""


@dataclass(frozen=True)
class ProbeSettings:
    """What is probed and how.

    ``folder`` keeps the features. ``fibre_columns`` hold compositions: their classes are dominant fibres. ``shots``
    are examples per class, each the mean of ``draws`` seeded draws from train.
    """

    entities: Sequence[str]
    folder: Path
    features: Sequence[str] = ("global",)
    split: str = "test"
    min_examples: int = 10
    fibre_columns: Sequence[str] = ("composition",)
    shots: Sequence[int] = ()
    draws: int = 5
    strengths: Sequence[float] = STRENGTHS
    tolerance: float = TOLERANCE
    max_iterations: int = MAX_ITERATIONS
    resamples: int = RESAMPLES
    seed: int = 0
    batch_size: int = 128
    workers: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    progress: bool = True


@dataclass(frozen=True)
class ChosenFit:
    """The fit that val chose among the strengths, its accuracy there, and how many fits did not converge."""

    fit: LogisticFit
    val_accuracy: float
    unconverged: int


def measure_probe(
    encoder: Encoder, catalogue: Catalogue, settings: ProbeSettings, run: RunIdentity | None = None
) -> list[ResultRecord]:
    """Records (task ``probe``) of accuracy, macro and weighted F1 for every entity and kind of features.

    A logistic regression on standardised features (statistics of train) is fitted on train for every strength, val
    chooses one by accuracy (the stronger of equal ones), and ``split`` is predicted once. Nothing is fitted on val.
    Of several entities and kinds, those that the catalogue or the model lacks are left out with a warning.

    Raises:
        E2FashionError: a setting that makes no sense, a split that the catalogue lacks, or no entity that can be
            probed. All before the encoder runs.
    """
    check_settings(settings)
    check_kinds(settings.features, (), encoder)
    missing = [name for name in (TRAIN, VAL) if name not in catalogue.split_names]
    if missing:
        raise E2FashionError(
            f"The catalogue {catalogue.path} has no split '{missing[0]}': a probe is fitted on train and its "
            f"regularisation chosen on val. Its splits: {', '.join(catalogue.split_names)}. Prepare it again with "
            "val_fraction above 0."
        )
    planned = _planned(encoder, catalogue, settings)
    features = load_features(encoder, catalogue, settings)
    records: list[ResultRecord] = []
    for task, kind in planned:
        inputs = {name: item.of(kind, task.entity) for name, item in features.items()}
        found = _probe_task(inputs, task, settings, encoder.model.device)
        records += _records(found, task, kind, encoder, catalogue, settings, run or RunIdentity())
    return records


def _planned(encoder: Encoder, catalogue: Catalogue, settings: ProbeSettings) -> list[tuple[Task, str]]:
    """Every entity with every kind of features; what the model or the catalogue lacks is left out with a warning.

    Raises:
        E2FashionError: nothing is left; the first reason.
    """
    planned: list[tuple[Task, str]] = []
    errors: dict[str, E2FashionError] = {}
    for entity in dict.fromkeys(settings.entities):
        try:
            column = entity_column(entity, encoder.entities, catalogue)
            by_fibre = column in settings.fibre_columns
            task = build_task(catalogue, entity, column, settings.split, settings.min_examples, by_fibre)
        except E2FashionError as error:
            errors[f"'{entity}'"] = error
            continue
        for kind in dict.fromkeys(settings.features):
            try:
                check_kinds([kind], [entity], encoder)
            except E2FashionError as error:
                errors[f"'{entity}' from {kind} features"] = error
            else:
                planned.append((task, kind))
    if not planned:
        raise next(iter(errors.values()))
    for name, reason in errors.items():
        logger.warning("no probe of %s: %s", name, reason)
    return planned


def check_settings(settings: ProbeSettings) -> None:
    """Raise an E2FashionError for a setting that makes no sense."""
    if not settings.entities:
        raise E2FashionError("entity is empty: name the tag columns to probe, as in entity=brand,season.")
    if not settings.features:
        raise E2FashionError("features is empty: write global, region or both.")
    if not settings.strengths or min(settings.strengths) <= 0:
        raise E2FashionError(
            f"strengths is {list(settings.strengths)}; give numbers above 0: without any the fit has no minimum."
        )
    for name, value in (("draws", settings.draws), ("shots", min(settings.shots, default=1))):
        if value < 1:
            raise E2FashionError(f"{name} is {value}; give a number from 1.")
    if settings.tolerance <= 0 or settings.max_iterations < 1:
        raise E2FashionError(
            f"tolerance={settings.tolerance}, max_iterations={settings.max_iterations}: both must be above 0."
        )


def load_features(encoder: Encoder, catalogue: Catalogue, settings: ProbeSettings) -> dict[str, SplitFeatures]:
    """The features of train, val and the split that is reported, from the cache where they are there."""
    fingerprint = encoder.fingerprint
    return {
        name: cached_features(
            encoder,
            catalogue,
            name,
            settings.folder,
            settings.batch_size,
            settings.workers,
            settings.precision,
            settings.progress,
            fingerprint,
        )
        for name in dict.fromkeys((TRAIN, VAL, settings.split))
    }


def choose_fit(problem: LogisticProblem, val: Tensor, val_labels: Tensor, settings: ProbeSettings) -> ChosenFit:
    """Fit every strength, the strongest first, and keep the one with the best accuracy on ``val`` (V, C)."""
    best: tuple[float, LogisticFit] | None = None
    unconverged = 0
    for fit in problem.path(settings.strengths, settings.tolerance, settings.max_iterations):
        unconverged += not fit.converged
        score = float(accuracy(val_labels, fit.predict(val)))
        if best is None or score > best[0]:
            best = (score, fit)
    assert best is not None  # check_settings has seen that there is a strength
    return ChosenFit(best[1], best[0], unconverged)


@dataclass(frozen=True)
class _Found:
    """One row of the table: estimates by metric, those of the majority class, and what goes into ``extra``."""

    shots: int | str
    estimates: dict[str, Estimate]
    extra: dict[str, Any]


def _probe_task(inputs: dict[str, Tensor], task: Task, settings: ProbeSettings, device: torch.device) -> list[_Found]:
    rows = {name: task.splits[name].rows for name in inputs}
    labels = {name: task.splits[name].labels for name in inputs}
    standardise = Standardizer.of(inputs[TRAIN][rows[TRAIN]])
    ready = {name: standardise(item[rows[name]]) for name, item in inputs.items()}
    classes, truth = len(task.classes), labels[settings.split]
    most_frequent = torch.bincount(labels[TRAIN], minlength=classes).argmax()
    majority = summarize_classes(truth, most_frequent.expand(len(truth)), classes)

    def predict(chosen: Tensor) -> tuple[ChosenFit, Tensor]:
        problem = LogisticProblem(ready[TRAIN][chosen].to(device), labels[TRAIN][chosen].to(device), classes)
        fitted = choose_fit(problem, ready[VAL], labels[VAL], settings)
        return fitted, fitted.fit.predict(ready[settings.split])

    fitted, predicted = predict(torch.arange(len(rows[TRAIN])))
    _warn_at_edge(fitted, task, settings)
    found = [
        _Found(
            ALL,
            summarize_classes(truth, predicted, classes, settings.resamples, settings.seed),
            _extra_of(fitted) | {"majority": {name: estimate.value for name, estimate in majority.items()}},
        )
    ]
    for shots in dict.fromkeys(settings.shots):
        draws = [predict(draw_shots(labels[TRAIN], shots, settings.seed + draw)) for draw in range(settings.draws)]
        values = [summarize_classes(truth, predicted, classes) for _, predicted in draws]
        short = int((torch.bincount(labels[TRAIN], minlength=classes) < shots).sum())
        found.append(_Found(shots, *_over_draws(values, [fitted for fitted, _ in draws], short)))
    return found


def draw_shots(labels: Tensor, shots: int, seed: int) -> Tensor:
    """Places (M,) of ``shots`` random examples of every class among int64 labels (N,); all of a class with fewer."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    by_class = order[labels[order].argsort(stable=True)]
    counts = torch.bincount(labels)
    starts = counts.cumsum(0) - counts
    within = torch.arange(len(labels)) - starts.repeat_interleave(counts)
    return by_class[within < shots].sort().values


def _over_draws(
    values: Sequence[dict[str, Estimate]], fits: Sequence[ChosenFit], short: int
) -> tuple[dict[str, Estimate], dict[str, Any]]:
    lists = {name: [value[name].value for value in values] for name in values[0]}
    extra = {
        "draws": len(values),
        "deviation": {name: statistics.stdev(own) if len(own) > 1 else 0.0 for name, own in lists.items()},
        "short_classes": short,
        "strength": [fit.fit.strength for fit in fits],
        "converged": all(fit.fit.converged for fit in fits),
        "unconverged_fits": sum(fit.unconverged for fit in fits),
    }
    return {name: Estimate(statistics.fmean(own)) for name, own in lists.items()}, extra


def _extra_of(fitted: ChosenFit) -> dict[str, Any]:
    return {
        "strength": fitted.fit.strength,
        "converged": fitted.fit.converged,
        "iterations": fitted.fit.iterations,
        "gradient": fitted.fit.gradient,
        "unconverged_fits": fitted.unconverged,
        "val_accuracy": fitted.val_accuracy,
    }


def _warn_at_edge(fitted: ChosenFit, task: Task, settings: ProbeSettings) -> None:
    strength = fitted.fit.strength
    if len(settings.strengths) > 1 and strength in (min(settings.strengths), max(settings.strengths)):
        warnings.warn(
            f"probe of {task.entity}: val chose the strength {strength:g} at the edge of the grid; widen strengths",
            stacklevel=2,
        )


def _records(
    found: Sequence[_Found],
    task: Task,
    kind: str,
    encoder: Encoder,
    catalogue: Catalogue,
    settings: ProbeSettings,
    run: RunIdentity,
) -> list[ResultRecord]:
    labelled, train = task.splits[settings.split], task.splits[TRAIN]
    shared = {
        "entity": task.entity,
        "features": kind,
        "classes": len(task.classes),
        "train_products": len(train.rows),
        "rare_classes": train.rare_classes,
        "rare_train_products": train.rare,
        "rare_products": labelled.rare,
        "unseen_classes": labelled.unseen_classes,
        "unseen_products": labelled.unseen,
        "untagged_products": labelled.untagged,
        "min_examples": task.min_examples,
        "strengths": ",".join(f"{strength:g}" for strength in sorted(settings.strengths, reverse=True)),
        "tolerance": settings.tolerance,
        "probe_seed": settings.seed,
        "image_size": encoder.transform.size,
        "resize": encoder.transform.resize,
        "precision": settings.precision,
    }
    return [
        PROBE.record(
            run.context(encoder.name, settings.split, catalogue.fingerprint),
            metric,
            estimate.value,
            estimate.low,
            estimate.high,
            queries=len(labelled.rows),
            candidates=float(len(task.classes)),
            extra={**shared, **item.extra, "shots": str(item.shots)},
        )
        for item in found
        for metric, estimate in item.estimates.items()
    ]
