"""What identifies a training run: the part of its configuration that determines what it computes, and its data."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from typing import Any

from e2fashion.config import flat
from e2fashion.options import identity_values
from e2fashion.training.config import RunConfig

#: Keys that do not change what a run computes.
NOT_IDENTITY = (
    "name",
    "data",
    "stream",
    "output",
    "threads",
    "accelerator",
    "devices",
    "nodes",
    "logging",
    "protocols",
    "evaluate_splits",
)
NOT_IDENTITY_LOADER = ("workers", "cache_gb", "evaluation_batch_size")
#: The same gradient with less memory or time.
NOT_IDENTITY_TRAIN = ("chunk_size", "gradient_checkpointing", "accumulate_grad_batches", "compile", "strategy")


def run_identity(config: RunConfig, data_fingerprint: str) -> str:
    """Twelve hexadecimal digits that are equal exactly for runs that compute the same thing.

    Paths, names, threads, loader processes and loggers do not count; the fingerprints of the catalogues do, and so does
    the number of processes on all machines, which multiplies the batch. A key that was added to the schema later
    (:func:`e2fashion.options.joined_later`) counts only if it differs from its default.
    """
    from e2fashion.models.configuration_e2 import REGIONAL_FIELDS  # imports Transformers

    # Without entities it is plain CLIP, whatever the settings of selection.
    if not _without_null(config.model.entities):
        plain = RunConfig()
        named = {"temperature": "selection_temperature"}
        of_selection = set(REGIONAL_FIELDS) - {"entities", "projection_init"}
        keys = [key for key in vars(plain.model) if named.get(key, key) in of_selection]
        model = replace(config.model, **{key: getattr(plain.model, key) for key in keys})
        loss = replace(config.loss, region_weight=0.0, region_targets=plain.loss.region_targets)
        stages = {name: stage and replace(stage, temperature_end=None) for name, stage in config.train.stages.items()}
        config = replace(config, model=model, loss=loss, train=replace(config.train, stages=stages))
    parts: list[Any] = [_counting(identity_values(config), config), data_fingerprint]
    if config.stream:
        from e2fashion.data.stream import open_stream

        parts.append(open_stream(*config.stream).fingerprint)
    content = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def differences(one: RunConfig, other: RunConfig) -> dict[str, tuple[Any, Any]]:
    """The dotted keys in the identities of two runs that differ, with both values."""
    first, second = (flat(_counting(asdict(config), config)) for config in (one, other))
    keys = dict.fromkeys([*first, *second])
    return {key: (first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)}


def _counting(values: dict[str, Any], config: RunConfig) -> dict[str, Any]:
    """The part of a run's ``values`` that determines what it computes."""
    values = {key: value for key, value in values.items() if key not in NOT_IDENTITY}
    values["loader"] = {k: v for k, v in values["loader"].items() if k not in NOT_IDENTITY_LOADER}
    # Members set to null are removed.
    for key in ("entities", "text_entities"):
        values["model"][key] = _without_null(values["model"][key])
    if terms := _without_null(values["loss"].pop("terms", {})):
        values["loss"]["terms"] = terms
    values["train"] = {k: v for k, v in values["train"].items() if k not in NOT_IDENTITY_TRAIN}
    values["train"]["stages"] = _without_null(values["train"]["stages"])
    if config.processes != 1:
        values["devices"] = config.processes
    return values


def _without_null(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
