"""Checks of a run before any work, for errors that would otherwise show only later."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from e2fashion.arithmetic import build_device
from e2fashion.config import flat
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.loader import TagSwap
from e2fashion.data.text import DESCRIPTION
from e2fashion.disk import checked_name
from e2fashion.losses.terms import NO_SELECTION
from e2fashion.tasks.retrieval.protocols import protocol_named
from e2fashion.training import build
from e2fashion.training.config import RunConfig
from e2fashion.training.loggers import check_loggers
from e2fashion.training.lora import check_lora
from e2fashion.training.module import refuse_accumulation
from e2fashion.types import E2FashionError, Entity

#: The least value of the numbers of a run.
AT_LEAST: dict[int, tuple[str, ...]] = {
    1: (
        *("devices", "nodes", "image.size", "loader.batch_size", "loader.evaluation_batch_size"),
        *("loader.shuffle_buffer", "loader.open_files", "train.reference_batch", "train.checkpoint_every_steps"),
    ),
    0: ("loader.workers", "train.warmup_steps", "train.weight_decay", "logging.figures_every"),
}


def check_bounds(config: Any, bounds: Mapping[int, Sequence[str]]) -> None:
    """Raise an E2FashionError for the first number of a configuration that is below its bound; keys are dotted."""
    values = flat(asdict(config))
    for least, keys in bounds.items():
        for key in keys:
            if values[key] < least:
                raise E2FashionError(f"{key} is {values[key]}; give a number from {least}.")


def check_run(config: RunConfig, catalogue: Catalogue) -> None:
    """Check a run's configuration against the catalogue and the machine.

    Raises:
        E2FashionError: an invalid name, a number out of range, no stage, an unknown split, protocol or column, a
            precision that the machine lacks, or a logger that is not installed.
    """
    checked_name("name", config.name)
    stages = {f"train.stages.{name}": stage for name, stage in config.train.stages.items() if stage is not None}
    if not stages:
        raise E2FashionError("The run has no train.stages: add one, as in `train.stages.main.epochs=10`.")
    of_stages = [f"{key}.{name}" for name in ("epochs", "learning_rate") for key in stages]
    check_bounds(config, AT_LEAST | {0: (*AT_LEAST[0], *of_stages)})
    _check_chunks(config)
    _check_strategy(config)
    for key, stage in stages.items():
        if stage.temperature_end is not None and not stage.temperature_end > 0:
            raise E2FashionError(f"{key}.temperature_end is {stage.temperature_end}: give a number above 0, or null.")
    check_lora(config.model.lora)
    if not 0.0 < config.train.layer_decay <= 1.0:
        raise E2FashionError(f"train.layer_decay is {config.train.layer_decay}: give a factor above 0, at most 1.")
    check_loggers(config.logging.to, config.logging.online)
    if len(config.train.betas) != 2:
        raise E2FashionError(f"train.betas is {config.train.betas}; give two numbers, as in train.betas=[0.9,0.999].")
    for split in dict.fromkeys([*([] if config.stream else ["train"]), "val", *config.evaluate_splits]):
        if split not in catalogue.split_names:
            raise E2FashionError(
                f"The catalogue {catalogue.path} has no split '{split}'; it has: {', '.join(catalogue.split_names)}. "
                f"A run trains on train, chooses its best epoch on val, and evaluates evaluate_splits="
                f"{','.join(config.evaluate_splits)}: prepare the catalogue with these splits."
            )
    if (products := catalogue.manifest.splits["val"]["products"]) < config.processes:
        raise E2FashionError(
            f"The val split of the catalogue {catalogue.path} has {products} products, fewer than the "
            f"{config.processes} processes that share them (devices={config.devices}, nodes={config.nodes}). Train "
            f"with {products} processes at most, or prepare the catalogue with a larger val_fraction."
        )
    for protocol in config.protocols:
        protocol_named(protocol)
    if config.text.overflow == "stretch" and config.model.checkpoint is None:
        raise E2FashionError(
            "text.overflow is stretch, but model.checkpoint is null: a text encoder from scratch is built with "
            f"text.context_length={config.text.context_length} positions. Set text.overflow=truncate."
        )
    selects = any(entity.tokens for entity in build.build_entities(config.model)) and config.model.fusion_layers
    if build.build_loss(config).reads_selection and not selects:
        raise E2FashionError(NO_SELECTION)
    template = build.build_template(config, catalogue)
    check_entities(build.build_entities(config.model), catalogue)
    check_entities(build.build_text_entities(config.model), catalogue, "text_entities")
    build.build_stream(config, template)
    if config.loss.terms.get("text_pooling") is not None and config.processes > 1:
        raise E2FashionError(
            f"loss.terms.text_pooling compares the products of one process, but devices={config.devices} and nodes="
            f"{config.nodes} are {config.processes}: each would lack the negatives of the others. Train on one, or set "
            "loss.terms.text_pooling=null."
        )
    if config.loss.terms.get("swapped_tags") is not None:
        TagSwap(template)
    if (column := config.loader.group_by) is not None and column not in catalogue.tag_columns:
        raise E2FashionError(
            f"loader.group_by is '{column}', which the catalogue '{catalogue.path}' lacks. Its tag columns: "
            f"{', '.join(catalogue.tag_columns) or 'none'}. Name one of them, or set loader.group_by=null."
        )
    if config.nodes > 1 and not {"RANK", "SLURM_PROCID"} & os.environ.keys():
        raise E2FashionError(
            f"nodes is {config.nodes}, but the rank of this machine is unknown. Start the command on every "
            f"machine with `torchrun --nnodes={config.nodes} --nproc-per-node={config.devices} ... -m e2fashion train "
            "...`, or with `srun` in a SLURM job."
        )
    if config.train.precision == "fp16" and build_device(config.accelerator).type == "cpu":
        raise E2FashionError("train.precision is fp16, which needs a GPU. On a CPU use train.precision=bf16 or fp32.")


def _check_chunks(config: RunConfig) -> None:
    size, batch, accumulated = config.train.chunk_size, config.loader.batch_size, config.train.accumulate_grad_batches
    if size is not None and not 1 <= size <= batch:
        raise E2FashionError(
            f"train.chunk_size is {size}, loader.batch_size is {batch}: give a part of the batch, from 1 to {batch}, "
            "or null to encode the batch at once."
        )
    if size is None or accumulated * size != batch:
        refuse_accumulation("train.accumulate_grad_batches", accumulated)


def _check_strategy(config: RunConfig) -> None:
    if config.train.strategy != "fsdp":
        return
    if config.processes == 1:
        raise E2FashionError(
            f"train.strategy is fsdp, which gives several processes parts of the model, but devices={config.devices} "
            f"and nodes={config.nodes} are one process. Set devices or nodes, or train.strategy=auto."
        )
    if config.train.compile:
        raise E2FashionError("train.strategy is fsdp, whose layers cannot be compiled here. Set train.compile=false.")
    if config.train.precision == "fp16":
        raise E2FashionError(
            "train.strategy is fsdp, for which the gradients of fp16 are not scaled here. Set train.precision=bf16."
        )


def check_entities(entities: Iterable[Entity], catalogue: Catalogue, key: str = "entities") -> None:
    """Check that every entity's column exists in the catalogue; ``description`` counts (official code).

    Raises:
        E2FashionError: a missing column; the message states how to leave the entity out.
    """
    for entity in entities:
        if entity.column not in (*catalogue.tag_columns, DESCRIPTION):
            raise E2FashionError(
                f"Entity '{entity.name}' reads the column '{entity.column}', which the catalogue '{catalogue.path}' "
                f"lacks. Its tag columns: {', '.join(catalogue.tag_columns) or 'none'}. Name another one with "
                f"model.{key}.{entity.name}.column=<column>, or leave it out with model.{key}.{entity.name}=null."
            )
