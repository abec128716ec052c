"""Training of a caption decoder on texts alone: it reconstructs each text from the encoder's embedding of it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from e2fashion.arithmetic import build_device, resolve_precision, set_threads
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.text import TextTemplate
from e2fashion.disk import checked_name
from e2fashion.encoder import Encoder, EncoderIdentity
from e2fashion.features import cached_features
from e2fashion.hub import StoredSource
from e2fashion.measuring import load_named_encoder
from e2fashion.options import identity_values
from e2fashion.run_folder import RunFolder, peak_memory_mb
from e2fashion.tasks.captioning.captioner import identity_of_encoder
from e2fashion.tasks.captioning.config import CaptionFitConfig, CaptionTrainConfig
from e2fashion.tasks.captioning.decoder import build_decoder
from e2fashion.tasks.captioning.memory import (
    MemoryEntry,
    ProductTexts,
    SupportMemory,
    distinct_entries,
    memory_key,
    open_memory,
    product_texts,
    prompt_columns,
    training_tags,
)
from e2fashion.tasks.captioning.storage import (
    SCRATCH,
    DecoderFacts,
    PrefixFacts,
    StoredDecoder,
    load_language_model,
    save_decoder,
)
from e2fashion.tasks.captioning.tokens import CaptionData, CaptionTokens, Spelling, TrainingExample, TrainingExamples
from e2fashion.training.callbacks import BestModel
from e2fashion.training.checks import check_bounds
from e2fashion.training.config import OptimizerConfig
from e2fashion.training.fit import (
    Machine,
    fit_stage,
    recorded_loggers,
    recorded_run,
    remove_checkpoints,
    restart_if_damaged,
)
from e2fashion.training.loggers import LogSettings, check_loggers
from e2fashion.training.optimization import build_optimizer, linear_with_warmup
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

SCORE = "score"
"""Chooses the epoch: minus the loss on val."""
STAGE = "captions"
NOT_IDENTITY = ("name", "encoder", "data", "output", "memory", "threads", "accelerator", "logging")


def train_decoder(config: CaptionTrainConfig, progress: bool = True) -> RunFolder:
    """Train a decoder, or resume or return the one in the folder; the epoch with the least loss on val is kept.

    Raises:
        E2FashionError: a mistake in the configuration or the data, another decoder in the folder, a loss that is not
            finite, or an interrupt (the message gives the command that resumes).
    """
    set_threads(config.threads)
    check_caption_config(config)
    catalogue = Catalogue.load(config.data)
    device = build_device(config.accelerator)
    precision = resolve_precision(config.train.precision, device)
    config = replace(config, train=replace(config.train, precision=precision.value))
    folder = RunFolder(Path(config.output))
    with folder.locked():
        record = folder.read_record()
        path = StoredSource.recall(config.encoder, record.get("encoder_place"), folder.path, "the encoder")
        encoder = load_named_encoder(path)
        identity = identity_of_encoder(encoder)
        columns = {entity.name: entity.column for entity in encoder.entities}
        columns = prompt_columns(config.prompt_entities, columns, catalogue)
        run = caption_identity(config, catalogue.fingerprint, identity)
        differs = "its settings or its catalogue differ"
        if record.get("encoder_fingerprint", identity.fingerprint) != identity.fingerprint:
            differs = f"the encoder is '{record['encoder']}' there and '{identity.name}' here"
        folder.open(run, catalogue.fingerprint, device, differs)
        folder.update_record(
            encoder=identity.name,
            encoder_fingerprint=identity.fingerprint,
            encoder_place=StoredSource.remembered(config.encoder, folder.path, path),
        )
        with recorded_run(folder, config, {"precision": precision}, "caption train"):
            encoder.to(device)
            training = _Training(config, catalogue, encoder, identity, columns, folder, progress)
            if record.get("done") and record.get("identity") == run:
                training.repair_memories()
            else:
                training.run()
            folder.list_finished()
    return folder


def caption_identity(config: CaptionTrainConfig, data_fingerprint: str, encoder: EncoderIdentity) -> str:
    """Twelve hexadecimal digits, equal for decoders that are trained alike on the same texts and encoder."""
    values = {key: value for key, value in identity_values(config).items() if key not in NOT_IDENTITY}
    content = json.dumps([values, data_fingerprint, encoder.fingerprint], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def check_caption_config(config: CaptionTrainConfig) -> None:
    """Raise an E2FashionError for a number out of range, or a language model that the method does not use."""
    checked_name("name", config.name)
    of_train = ("train.epochs", "train.batch_size", "train.checkpoint_every_steps")
    from_zero = ("train.learning_rate", "train.warmup_steps", "train.label_smoothing", "noise_variance")
    check_bounds(config, {1: (*of_train, "prompt_length", "memory_size", "mapper.length"), 0: from_zero})
    check_loggers(config.logging.to, config.logging.online)
    if config.method == "decap" and config.lm != SCRATCH:
        raise E2FashionError(
            f"lm is '{config.lm}', but DeCap's language model is trained from scratch: write lm={SCRATCH}, or "
            "method=capdec."
        )


class CaptionModule(pl.LightningModule):
    """Cross-entropy of captions; ``decoder`` maps a batch to its loss and reads ``training``.

    All randomness of a step comes from (seed, step), so that a resumed run equals an uninterrupted one.
    """

    def __init__(self, decoder: nn.Module, config: CaptionFitConfig, seed: int) -> None:
        super().__init__()
        self.decoder = decoder
        self.config = config
        self.seed = seed
        self._losses: list[tuple[float, int]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """One loss.

        Raises:
            E2FashionError: it is not finite.
        """
        torch.manual_seed(self.seed * 1_000_003 + self.global_step)
        loss: Tensor = self.decoder(batch)
        if not torch.isfinite(loss):
            raise E2FashionError(
                f"The loss became {float(loss)} at step {self.global_step}: lower train.learning_rate, or set "
                "train.gradient_clip=1.0."
            )
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch))
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Collect the loss on texts of val, without noise, smoothing and dropout."""
        self._losses.append((float(self.decoder(batch)), int(batch.targets.sum())))

    def on_validation_epoch_end(self) -> None:
        """The mean over all val tokens chooses the epoch."""
        tokens = sum(number for _, number in self._losses)
        loss = sum(value * number for value, number in self._losses) / tokens
        self._losses = []
        self.log("val/loss", loss, prog_bar=True)
        self.log(SCORE, -loss, logger=False)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW with a linear decay after a warm-up (DeCap, CapDec)."""
        adamw = OptimizerConfig(weight_decay=self.config.weight_decay)
        optimizer = build_optimizer(self.decoder, adamw, self.config.learning_rate)
        data: pl.LightningDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        steps = len(data.train_dataloader()) * (self.trainer.max_epochs or 0)
        schedule = LambdaLR(optimizer, linear_with_warmup(self.config.warmup_steps, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@dataclass(frozen=True)
class _Training:
    """The steps of one training; ``columns`` are those of the prompt's entities."""

    config: CaptionTrainConfig
    catalogue: Catalogue
    encoder: Encoder
    identity: EncoderIdentity
    columns: Mapping[str, str]
    folder: RunFolder
    progress: bool

    def run(self) -> None:
        """Train, and record the result."""
        config, products = self.config, self.products()
        pl.seed_everything(config.seed, workers=True, verbose=False)
        language_model, tokenizer = None, self.encoder.tokenizer
        if config.lm != SCRATCH:
            language_model, tokenizer = load_language_model(config.lm)
        tokens = CaptionTokens(tokenizer, config.length, config.prompt_length, config.stop)
        train, memory = self.examples(products["train"], tokens)
        val, _ = self.examples(products["val"], tokens)
        decoder = build_decoder(config, tokens, self.identity.dimension, language_model)
        captions = train.memory.captions
        facts = DecoderFacts(
            method=config.method,
            encoder=self.identity,
            prefix=PrefixFacts(**asdict(config.mapper), kind="linear" if config.method == "decap" else "transformer"),
            language_model=config.lm,
            length=config.length,
            caption=self.config.caption,
            text=self.text,
            memory=os.path.relpath(memory, self.folder.model),
            noise_variance=config.noise_variance,
            prompt_tags=training_tags(self.catalogue, self.columns),
            prompt_length=config.prompt_length,
            stop=config.stop,
            # A GPT-2's tokenizer keeps spaces; that of a CLIP does not.
            spelling=dict(Spelling.of(captions).joined) if language_model is None else {},
        )
        if cut := tokens.count_cut(captions):
            logger.info("%d of %d training captions are cut at length=%d tokens", cut, len(train.memory), config.length)
        best = self.fit(StoredDecoder(decoder, tokens, facts, self.offset(train)), train, val)
        counts = {
            "products": len(products["train"]),
            "without_caption": sum(not item.entries for item in products["train"]),
            "memory": len(train.memory),
            "lessons": len(train),
            "cut": cut,
        }
        self.folder.update_record(
            done=True,
            method=facts.title,
            best=best.best,
            best_epoch=best.best_epoch + 1,
            parameters=sum(parameter.numel() for parameter in decoder.parameters()),
            seed=config.seed,
            peak_memory_mb=round(peak_memory_mb()),
            captions=counts,
        )
        remove_checkpoints(self.folder.path, STAGE)

    def repair_memories(self) -> None:
        """Embed the memories of a finished training again if they are damaged."""
        for products in self.products().values():
            self.memory(products)

    @property
    def text(self) -> str:
        """The template of what the encoder embeds."""
        return self.config.text or self.encoder.template.template

    def products(self) -> dict[str, list[ProductTexts]]:
        """The texts of train and val."""
        templates = TextTemplate(self.config.caption), TextTemplate(self.text)
        columns = list(self.columns.values())
        return {split: product_texts(self.catalogue, split, *templates, columns) for split in ("train", "val")}

    def memory(self, products: Sequence[ProductTexts]) -> tuple[SupportMemory, list[MemoryEntry], Path]:
        """The memory of a split's texts, each embedded once, its entries, and its folder."""
        memories = Path(self.config.memory) if self.config.memory else self.folder.path / "memory"
        entries = distinct_entries((entry for item in products for entry in item.entries), self.config.memory_size)
        memory = open_memory(memories, entries, self.identity, self.encoder.embed_texts, self.progress)
        return memory, entries, memories / memory_key(entries, self.identity)

    def examples(self, products: Sequence[ProductTexts], tokens: CaptionTokens) -> tuple[TrainingExamples, Path]:
        """A split's captions with the memory that embeds them, and that memory's folder."""
        memory, entries, path = self.memory(products)
        row_of = {entry: row for row, entry in enumerate(entries)}
        listed = [TrainingExample(row_of[e], item.prompt) for item in products for e in item.entries if e in row_of]
        return TrainingExamples(memory, listed, tokens), path

    def offset(self, train: TrainingExamples) -> Tensor | None:
        """Mean text minus mean image of train (C,), if wanted; which image has which text plays no part."""
        if not self.config.modality_offset:
            return None
        features = self.folder.path / "features"
        images = cached_features(self.encoder, self.catalogue, "train", features, progress=self.progress).image
        return train.mean_embed() - images.mean(0)

    def fit(self, stored: StoredDecoder, train: TrainingExamples, val: TrainingExamples) -> BestModel:
        """Fit, and keep the epoch with the least loss on val; the time counts even after an interrupt."""
        config = self.config.train
        before = self.folder.read_record().get("seconds", 0.0)
        started = time.perf_counter()
        best = BestModel(self.folder.model, partial(save_decoder, stored), SCORE)
        restart_if_damaged(self.folder, STAGE, best.folder)
        try:
            log_settings = LogSettings.of(self.config.logging, self.config.name, self.config)
            with recorded_loggers(log_settings, self.folder, STAGE) as loggers:
                fit_stage(
                    CaptionModule(stored.decoder, config, self.config.seed),
                    CaptionData(train, val, config.batch_size, self.config.seed),
                    config,
                    config.epochs,
                    self.folder.path,
                    STAGE,
                    best,
                    loggers=loggers,
                    machine=Machine(self.config.accelerator),
                    progress=self.progress,
                )
        finally:
            self.folder.update_record(seconds=round(before + time.perf_counter() - started, 1))
        return best
