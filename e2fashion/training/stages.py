"""The stages of a run: one fit each, from the best model of the former stages."""

from __future__ import annotations

import copy
import logging
import shutil
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.datamodule import CatalogueDataModule
from e2fashion.disk import atomic_folder
from e2fashion.encoder import Encoder
from e2fashion.losses.gather import is_distributed
from e2fashion.models.from_clip import added_parameters, new_parameter_names
from e2fashion.models.modeling_e2 import E2Model
from e2fashion.run_folder import RunFolder, peak_memory_mb
from e2fashion.training import build
from e2fashion.training.callbacks import BestModel
from e2fashion.training.config import RunConfig, StageConfig
from e2fashion.training.fit import (
    Machine,
    fit_stage,
    is_first_process,
    lost_process_reported,
    recorded_loggers,
    remove_checkpoints,
    restart_if_damaged,
)
from e2fashion.training.loggers import LogSettings
from e2fashion.training.lora import merged, without_adapted
from e2fashion.training.module import ContrastiveModule
from e2fashion.training.optimization import freeze_disconnected, scaled_to_batch, select_trainable
from e2fashion.training.samples import SampleFigures, SampleSheets
from e2fashion.training.sharding import WholeModel

logger = logging.getLogger(__name__)


@lost_process_reported()
def train_stages(config: RunConfig, catalogue: Catalogue, folder: RunFolder, progress: bool) -> None:
    """Train every stage that is not done according to the record, each from the best model so far.

    Raises:
        E2FashionError: as :func:`fit_stage`, or another process of the run is gone.
    """
    stages = {name: stage for name, stage in config.train.stages.items() if stage is not None}
    done: dict[str, Any] = folder.read_record().get("stages", {})
    left = [name for name in stages if not done.get(name, {}).get("done")]
    if not left:
        return
    template = build.build_template(config, catalogue)
    transform = build.build_transform(config)
    tokenizer = build.build_tokenizer(config, build.training_texts(config, catalogue, template))
    data = build.build_datamodule(config, catalogue, template, transform, tokenizer)
    for name in left:
        stage = stages[name]
        pl.seed_everything(config.seed, workers=True, verbose=False)
        model = build.build_model(config, tokenizer, folder.model if done and folder.model.is_dir() else None)
        text = config.text
        encoder = Encoder(model, tokenizer, transform, template, config.name, text.context_length, text.overflow)
        if name == left[0] and is_first_process():
            if data.stream is None:
                counts = data.text_counts("train", encoder.text_stretched_from)
                logger.info("texts of train: %s", counts.sentence())
                folder.update_record(texts=counts.record())
            else:
                facts = {"files": len(data.stream.shards), "products": len(data.stream)}
                logger.info("train is a stream of %(files)d files with %(products)d products", facts)
                folder.update_record(stream=facts | {"fingerprint": data.stream.fingerprint})
        if _choose_parameters(config, model, stage) and stage.epochs:
            done[name] = _train_stage(name, stage, config, encoder, data, folder, done, progress)
        else:
            reason = "nothing to train" if stage.epochs else "no epochs"
            logger.info("stage %s skipped: %s", name, reason)
            done[name] = {"done": True, "skipped": reason}
        if is_first_process():
            folder.update_record(
                stages=done,
                parameters=model.num_parameters(),
                added_parameters=added_parameters(model),
                added_percent=added_percent(model),
                patches=(config.image.size // model.config.vision_config.patch_size) ** 2,
                seed=config.seed,
                peak_memory_mb=round(peak_memory_mb()),
            )
            remove_checkpoints(folder.path, name)
        # All processes read the best model of this stage, which the first one writes.
        if is_distributed():
            torch.distributed.barrier()
    if is_first_process() and not folder.model.is_dir():
        with atomic_folder(folder.model) as fresh:
            replace(encoder, model=merged(encoder.model)).save_pretrained(fresh)


def _train_stage(
    name: str,
    stage: StageConfig,
    config: RunConfig,
    encoder: Encoder,
    data: CatalogueDataModule,
    folder: RunFolder,
    done: dict[str, Any],
    progress: bool,
) -> dict[str, Any]:
    """Fit one stage and install its best model; returns its entry for the record."""
    first, spent, started = is_first_process(), done.get(name, {}).get("seconds", 0.0), time.perf_counter()
    best_before = max((entry["best"] for entry in done.values() if "best" in entry), default=float("-inf"))

    def save(folder: Path) -> None:
        replace(encoder, model=merged(encoder.model)).save_pretrained(folder)

    best = BestModel(folder.checkpoints / name / "best", save, "SumR", best_before)
    learning_rate, optimizer = stage.learning_rate, config.train
    if optimizer.scale_lr:
        batch = config.loader.batch_size * config.processes
        learning_rate, warmup = scaled_to_batch(learning_rate, optimizer.warmup_steps, batch, optimizer.reference_batch)
        logger.info("batch of %d products: learning rate %.3g, warm-up steps %d", batch, learning_rate, warmup)
        optimizer = replace(optimizer, warmup_steps=warmup)
    # With parts of the model on every process, the encoder has a whole copy on the CPU for saving and figures.
    trained = cast(E2Model, copy.deepcopy(encoder.model) if config.train.strategy == "fsdp" else encoder.model)
    callbacks = _sample_figures(config, encoder, data, folder.figures / name)
    if trained is not encoder.model:
        callbacks.append(WholeModel(cast(E2Model, encoder.model)))
    module = ContrastiveModule(
        trained,
        build.build_loss(config),
        learning_rate,
        optimizer,
        encoder.transform,
        config.seed,
        nonfinite_report=folder.path / "nonfinite_batch.json",
        chunk_size=config.train.chunk_size,
        temperature_end=stage.temperature_end,
    )
    restart_if_damaged(folder, name, best.folder)
    try:
        with recorded_loggers(LogSettings.of(config.logging, config.name, config), folder, name) as loggers:
            fit_stage(
                module,
                data,
                config.train,
                stage.epochs,
                folder.path,
                name,
                best,
                extra_callbacks=callbacks,
                loggers=loggers,
                machine=Machine(config.accelerator, config.devices, config.nodes, config.train.strategy),
                progress=progress,
            )
    finally:
        seconds = round(spent + time.perf_counter() - started, 1)
        if first:  # a resumed run adds to it
            folder.update_record(stages=done | {name: {"seconds": seconds}})
    if first and best.folder.is_dir():
        with atomic_folder(folder.model) as fresh:
            shutil.copytree(best.folder, fresh, dirs_exist_ok=True)
    return {
        "done": True,
        "best": best.best,
        "best_epoch": best.best_epoch + 1,
        "seconds": seconds,
        "trained_parameters": sum(p.numel() for p in encoder.model.parameters() if p.requires_grad),
    }


def _sample_figures(config: RunConfig, encoder: Encoder, data: CatalogueDataModule, folder: Path) -> list[pl.Callback]:
    if not config.logging.figures_every:
        return []
    if find_spec("matplotlib") is None:
        logger.warning(
            "no sample figures: matplotlib is not installed. Install it with pip install 'e2fashion[report]', or set "
            "logging.figures_every=0"
        )
        return []
    sheets = SampleSheets(encoder, data.rows("val"), data.catalogue.split("val"))
    return [SampleFigures(sheets, folder, config.logging.figures_every)]


def added_percent(model: E2Model) -> float:
    """Parameters that E2 adds, in percent of the CLIP with the same towers."""
    added = added_parameters(model)
    return round(100 * added / (model.num_parameters() - added), 2)


def _choose_parameters(config: RunConfig, model: E2Model, stage: StageConfig) -> list[str]:
    new = stage.parameters == "new"
    names = new_parameter_names(model) if new else [name for name, _ in model.named_parameters()]
    trained = select_trainable(model, without_adapted(model, names, model.added_prefixes), stage.freeze)
    return freeze_disconnected(model, build.build_loss(config), trained)
