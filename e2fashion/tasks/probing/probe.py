"""Linear probing: how well a linear classifier on an encoder's image features separates an entity's values."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.composition import dominant_fibre
from e2fashion.encoder import Encoder
from e2fashion.features import cached_features, check_kinds
from e2fashion.measuring import encoding_of, set_up
from e2fashion.metrics.bootstrap import Estimate
from e2fashion.metrics.classification import accuracy, summarize_classes
from e2fashion.records import ENCODING, RecordContext, RunIdentity, declare
from e2fashion.tasks.probing.config import ProbeConfig
from e2fashion.tasks.probing.linear import LogisticFit, LogisticProblem, Standardizer
from e2fashion.types import E2FashionError, Entity, ResultRecord

logger = logging.getLogger(__name__)

TRAIN, VAL = "train", "val"
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


@dataclass(frozen=True)
class Labelled:
    """The products of one split that have a class: ``rows`` (M,) into its products, ``labels`` (M,) int64.

    ``untagged`` products have no tag; ``rare`` and ``unseen`` count the products, and ``rare_classes`` and
    ``unseen_classes`` the classes, that were left out because train has too few of the class, or none.
    """

    rows: Tensor
    labels: Tensor
    untagged: int = 0
    rare: int = 0
    rare_classes: int = 0
    unseen: int = 0
    unseen_classes: int = 0


@dataclass(frozen=True)
class Task:
    """One entity's classes, in alphabetical order, and the products of every split that belong to them."""

    entity: str
    classes: tuple[str, ...]
    splits: dict[str, Labelled]


def entity_column(entity: str, entities: Sequence[Entity], catalogue: Catalogue) -> str:
    """The catalogue's column that holds an entity: the model's choice for its entities, else of the same name.

    Raises:
        E2FashionError: the catalogue has no such column.
    """
    column = next((item.column for item in entities if item.name == entity), entity)
    if column not in catalogue.tag_columns:
        of = f" (column '{column}')" if column != entity else ""
        raise E2FashionError(
            f"The catalogue {catalogue.path} has no entity '{entity}'{of}. Its tag columns: "
            f"{', '.join(catalogue.tag_columns) or 'none'}."
        )
    return column


def build_task(
    catalogue: Catalogue, entity: str, column: str, split: str, min_examples: int, by_fibre: bool = False
) -> Task:
    """The classes of ``column`` with at least ``min_examples`` products in train.

    ``by_fibre`` reads a value as a composition, whose class is its dominant fibre.

    Raises:
        E2FashionError: a split that the catalogue lacks, fewer than two classes, or none of them in val or ``split``.
    """
    if min_examples < 1:
        raise E2FashionError(f"min_examples is {min_examples}; give a number from 1.")
    read = dominant_fibre if by_fibre else lambda tag: tag and tag.strip()
    tags = {
        name: pd.Series([read(tag) for tag in catalogue.first_tags(name, column).values()], dtype=object)
        for name in dict.fromkeys((TRAIN, VAL, split))
    }
    counts = tags[TRAIN].value_counts()
    classes = tuple(sorted(counts.index[counts >= min_examples]))
    if len(classes) < 2:
        raise E2FashionError(
            f"'{entity}' has {len(classes)} class(es) with at least {min_examples} products in train, of "
            f"{len(counts)} altogether; a probe needs two. Lower min_examples, or choose another entity."
        )
    labelled = {name: _labelled(values, classes, counts.index) for name, values in tags.items()}
    for name, products in labelled.items():
        if not len(products.rows):
            raise E2FashionError(
                f"No product of {name} has one of the {len(classes)} classes of '{entity}' that train knows: "
                "lower min_examples, or choose another split or entity."
            )
    return Task(entity, classes, labelled)


def _labelled(tags: pd.Series[str], classes: Sequence[str], known: pd.Index[str]) -> Labelled:
    """The classes of the tags (None where unknown) of every product's first view, in the order of the products."""
    labels = torch.from_numpy(pd.Index(classes).get_indexer(pd.Index(tags)))
    left_out = tags[(labels < 0).numpy() & tags.notna()]
    rare, unseen = left_out[left_out.isin(known)], left_out[~left_out.isin(known)]
    rows = (labels >= 0).nonzero().flatten()
    untagged = int(tags.isna().sum())
    return Labelled(rows, labels[rows], untagged, len(rare), rare.nunique(), len(unseen), unseen.nunique())


@dataclass(frozen=True)
class ChosenFit:
    """The fit that val chose among the strengths, its accuracy there, and how many fits did not converge."""

    fit: LogisticFit
    val_accuracy: float
    unconverged: int


def probe(config: ProbeConfig, progress: bool = True) -> tuple[Path, list[ResultRecord]]:
    """Linear probes of the encoder that ``config`` names: the file where the records belong, and the records.

    Features are cached next to that file.

    Raises:
        E2FashionError: as :func:`measure_probe`, or a model or catalogue that cannot be read.
    """
    config, setup = set_up(config, "probe")
    records = measure_probe(setup.encoder, setup.catalogue, config, setup.features, setup.identity, progress)
    return setup.results, records


def measure_probe(
    encoder: Encoder,
    catalogue: Catalogue,
    config: ProbeConfig,
    folder: Path | None = None,
    run: RunIdentity | None = None,
    progress: bool = True,
) -> list[ResultRecord]:
    """Records (task ``probe``) of accuracy, macro and weighted F1 for every entity and kind of features.

    A logistic regression on standardized features (statistics of train) is fitted on train for every strength, val
    chooses one by accuracy (the stronger of equal ones), and the split is predicted once. Nothing is fitted on val.
    Of several entities and kinds, those that the catalogue or the model lacks are left out with a warning. ``folder``
    caches the features.

    Raises:
        E2FashionError: a setting that makes no sense, a split that the catalogue lacks, or no entity that can be
            probed. All before the encoder runs.
    """
    check_config(config)
    check_kinds(config.features, (), encoder)
    missing = [name for name in (TRAIN, VAL) if name not in catalogue.split_names]
    if missing:
        raise E2FashionError(
            f"The catalogue {catalogue.path} has no split '{missing[0]}': a probe is fitted on train and its "
            f"regularization chosen on val. Its splits: {', '.join(catalogue.split_names)}. Prepare it again with "
            "val_fraction above 0."
        )
    planned = _planned(encoder, catalogue, config)
    fingerprint, splits = encoder.fingerprint, dict.fromkeys((TRAIN, VAL, config.split))
    features = {
        name: cached_features(encoder, catalogue, name, folder, config, progress, fingerprint) for name in splits
    }
    context = (run or RunIdentity()).context(encoder.name, config.split, catalogue.fingerprint)
    how = encoding_of(encoder, config.precision)
    records: list[ResultRecord] = []
    for task, kind in planned:
        inputs = {name: item.of(kind, task.entity) for name, item in features.items()}
        rows = _probe_task(inputs, task, config, encoder.model.device)
        records += _records(rows, task, kind, context, config, how)
    return records


def _planned(encoder: Encoder, catalogue: Catalogue, config: ProbeConfig) -> list[tuple[Task, str]]:
    """Every entity with every kind of features; what the model or the catalogue lacks is left out with a warning.

    Raises:
        E2FashionError: nothing is left; the first reason.
    """
    planned: list[tuple[Task, str]] = []
    errors: dict[str, E2FashionError] = {}
    for entity in dict.fromkeys(config.entity):
        try:
            column = entity_column(entity, encoder.entities, catalogue)
            by_fibre = column in config.fibre_columns
            task = build_task(catalogue, entity, column, config.split, config.min_examples, by_fibre)
        except E2FashionError as error:
            errors[f"'{entity}'"] = error
            continue
        for kind in dict.fromkeys(config.features):
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


def check_config(config: ProbeConfig) -> None:
    """Raise an E2FashionError for a value that makes no sense, by its key."""
    if not config.entity:
        raise E2FashionError("entity is empty: name the tag columns to probe, as in entity=brand,season.")
    if not config.features:
        raise E2FashionError("features is empty: write global, region or both.")
    if not config.strengths or min(config.strengths) <= 0:
        raise E2FashionError(
            f"strengths is {list(config.strengths)}; give numbers above 0: without any the fit has no minimum."
        )
    for name, value in (("draws", config.draws), ("shots", min(config.shots, default=1))):
        if value < 1:
            raise E2FashionError(f"{name} is {value}; give a number from 1.")
    if config.tolerance <= 0 or config.max_iterations < 1:
        raise E2FashionError(
            f"tolerance={config.tolerance}, max_iterations={config.max_iterations}: both must be above 0."
        )


def choose_fit(problem: LogisticProblem, val: Tensor, val_labels: Tensor, config: ProbeConfig) -> ChosenFit:
    """Fit every strength, the strongest first, and keep the one with the best accuracy on ``val`` (V, C)."""
    best: tuple[float, LogisticFit] | None = None
    unconverged = 0
    for fit in problem.path(config.strengths, config.tolerance, config.max_iterations):
        unconverged += not fit.converged
        score = float(accuracy(val_labels, fit.predict(val)))
        if best is None or score > best[0]:
            best = (score, fit)
    assert best is not None  # check_config has seen that there is a strength
    return ChosenFit(best[1], best[0], unconverged)


@dataclass(frozen=True)
class _Row:
    """One row of the table: estimates by metric, and what goes into ``extra``."""

    shots: int | str
    estimates: dict[str, Estimate]
    extra: dict[str, Any]


def _probe_task(inputs: dict[str, Tensor], task: Task, config: ProbeConfig, device: torch.device) -> list[_Row]:
    rows = {name: task.splits[name].rows for name in inputs}
    labels = {name: task.splits[name].labels for name in inputs}
    standardize = Standardizer.of(inputs[TRAIN][rows[TRAIN]])
    ready = {name: standardize(item[rows[name]]) for name, item in inputs.items()}
    classes, truth = len(task.classes), labels[config.split]
    most_frequent = torch.bincount(labels[TRAIN], minlength=classes).argmax()
    majority = summarize_classes(truth, most_frequent.expand(len(truth)), classes)

    def predict(chosen: Tensor) -> tuple[ChosenFit, Tensor]:
        problem = LogisticProblem(ready[TRAIN][chosen].to(device), labels[TRAIN][chosen].to(device), classes)
        fitted = choose_fit(problem, ready[VAL], labels[VAL], config)
        return fitted, fitted.fit.predict(ready[config.split])

    fitted, predicted = predict(torch.arange(len(rows[TRAIN])))
    _warn_at_edge(fitted, task, config)
    probed = [
        _Row(
            ALL,
            summarize_classes(truth, predicted, classes, config.resamples, config.seed),
            {
                "strength": fitted.fit.strength,
                "converged": fitted.fit.converged,
                "iterations": fitted.fit.iterations,
                "gradient": fitted.fit.gradient,
                "unconverged_fits": fitted.unconverged,
                "val_accuracy": fitted.val_accuracy,
                "majority": {name: estimate.value for name, estimate in majority.items()},
            },
        )
    ]
    for shots in dict.fromkeys(config.shots):
        draws = [predict(draw_shots(labels[TRAIN], shots, config.seed + draw)) for draw in range(config.draws)]
        values = [summarize_classes(truth, predicted, classes) for _, predicted in draws]
        short = int((torch.bincount(labels[TRAIN], minlength=classes) < shots).sum())
        probed.append(_over_draws(shots, values, [fitted for fitted, _ in draws], short))
    return probed


def draw_shots(labels: Tensor, shots: int, seed: int) -> Tensor:
    """Indices (M,) of ``shots`` random examples of every class among int64 labels (N,); all of a class with fewer."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    by_class = order[labels[order].argsort(stable=True)]
    counts = torch.bincount(labels)
    starts = counts.cumsum(0) - counts
    within = torch.arange(len(labels)) - starts.repeat_interleave(counts)
    return by_class[within < shots].sort().values


def _over_draws(shots: int, values: Sequence[dict[str, Estimate]], fits: Sequence[ChosenFit], short: int) -> _Row:
    by_draw = pd.DataFrame([{name: estimate.value for name, estimate in value.items()} for value in values])
    extra = {
        "draws": len(values),
        "deviation": by_draw.std().fillna(0.0).to_dict(),
        "short_classes": short,
        "strength": [fit.fit.strength for fit in fits],
        "converged": all(fit.fit.converged for fit in fits),
        "unconverged_fits": sum(fit.unconverged for fit in fits),
    }
    return _Row(shots, {name: Estimate(float(by_draw[name].mean())) for name in values[0]}, extra)


def _warn_at_edge(fitted: ChosenFit, task: Task, config: ProbeConfig) -> None:
    strength = fitted.fit.strength
    if len(config.strengths) > 1 and strength in (min(config.strengths), max(config.strengths)):
        warnings.warn(
            f"probe of {task.entity}: val chose the strength {strength:g} at the edge of the grid; widen strengths",
            stacklevel=2,
        )


def _records(
    rows: Sequence[_Row], task: Task, kind: str, context: RecordContext, config: ProbeConfig, how: Mapping[str, Any]
) -> list[ResultRecord]:
    labelled, train = task.splits[config.split], task.splits[TRAIN]
    shared = {
        **how,
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
        "min_examples": config.min_examples,
        "strengths": ",".join(f"{strength:g}" for strength in sorted(config.strengths, reverse=True)),
        "tolerance": config.tolerance,
        "probe_seed": config.seed,
    }
    return [
        PROBE.record(
            context,
            metric,
            *estimate,
            queries=len(labelled.rows),
            candidates=float(len(task.classes)),
            extra={**shared, **row.extra, "shots": str(row.shots)},
        )
        for row in rows
        for metric, estimate in row.estimates.items()
    ]
