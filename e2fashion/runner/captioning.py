"""``caption train``: teach a decoder to tell texts from their embeddings."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from torch import Tensor, nn

from e2fashion import build
from e2fashion.config import save_config, split_names
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.text import TextTemplate
from e2fashion.eval.captioning import ProductTexts, product_texts, training_tags
from e2fashion.eval.encoder import Encoder
from e2fashion.eval.features import cached_features
from e2fashion.models.from_clip import checked_source
from e2fashion.modules.callbacks import BestModel, RunInterruptedError
from e2fashion.modules.captioning import SCORE, CaptionData, CaptionItems, CaptionModule
from e2fashion.modules.fit import FitSettings, fit_stage
from e2fashion.modules.loggers import check_loggers
from e2fashion.modules.optimizers import OptimizerSettings
from e2fashion.run_folder import RunFolder, peak_memory_mb
from e2fashion.runner.common import config_of_place, load_named_encoder, set_threads
from e2fashion.schema import CaptionTrainConfig, identity_values
from e2fashion.tasks.captioning import (
    CaptionTokens,
    DecoderFacts,
    LanguageModelShape,
    PrefixShape,
    StoredDecoder,
    distinct_entries,
    open_memory,
    save_decoder,
)
from e2fashion.tasks.captioning.entity_prompt import check_prompt_entities
from e2fashion.tasks.captioning.loading import identity_of_encoder
from e2fashion.tasks.captioning.memory import memory_key
from e2fashion.tasks.captioning.noise import modality_offset
from e2fashion.tasks.captioning.spelling import Spelling
from e2fashion.tasks.captioning.storage import SCRATCH, load_language_model
from e2fashion.tasks.captioning.teaching import Lesson, Lessons, build_decoder, mean_rows
from e2fashion.tasks.encoder import EncoderIdentity
from e2fashion.training import recorded_loggers
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

STAGE = "captions"
NOT_IDENTITY = ("name", "encoder", "data", "output", "memory", "threads", "accelerator", "logging")


def caption_train(place: Path, overrides: Sequence[str] = (), progress: bool = True) -> str:
    """Train the decoder of a configuration file, or go on with that of a folder."""
    config = config_of_place(CaptionTrainConfig, place, overrides)
    folder = train_decoder(config, progress)
    record = folder.read_record()
    return (
        f"{folder.path}: {record['method']} for the encoder '{record['encoder']}', best epoch {record['best_epoch']} "
        f"by its loss on val, {-record['best']:.3f} per token; {record['seconds']:.0f} s"
    )


def train_decoder(config: CaptionTrainConfig, progress: bool = True) -> RunFolder:
    """Train what is not trained yet; the decoder of the epoch with the least loss on val stays in ``model/``.

    Raises:
        E2FashionError: a mistake in the configuration or the data, another decoder in the folder, a loss that is not
            finite, or an interrupt (the message says how to go on).
    """
    set_threads(config.threads)
    check_caption_config(config)
    catalogue = Catalogue.load(config.data)
    device = build.build_device(config.accelerator)
    encoder = load_named_encoder(config.encoder)
    identity = identity_of_encoder(encoder)
    entities = split_names(config.prompt_entities)
    check_prompt_entities(entities, [entity.name for entity in encoder.entities], encoder.name)
    folder = RunFolder(Path(config.output))
    run = caption_identity(config, catalogue.fingerprint, identity)
    there = folder.read_record()
    other = ""
    if there.get("encoder_fingerprint", identity.fingerprint) != identity.fingerprint:
        other = f"the encoder is '{there['encoder']}' there and '{identity.name}' here"
    folder.open(run, catalogue.fingerprint, device, other or "its settings or its catalogue differ")
    folder.update_record(encoder=identity.name, encoder_fingerprint=identity.fingerprint)
    save_config(config, folder.config)
    if there.get("done") and there.get("identity") == run:
        return folder
    handler = folder.log_to_file()
    try:
        cast(nn.Module, encoder.model).to(device)
        _fit(config, catalogue, encoder, identity, folder, progress)
    except RunInterruptedError as interruption:
        raise RunInterruptedError(f"interrupted. Go on with: e2fashion caption train {folder.path}") from interruption
    except E2FashionError as error:
        handler.handle(logger.makeRecord(logger.name, logging.ERROR, "", 0, str(error), (), None))
        raise
    finally:
        logging.getLogger("e2fashion").removeHandler(handler)
        handler.close()
    return folder


def caption_identity(config: CaptionTrainConfig, data_fingerprint: str, encoder: EncoderIdentity) -> str:
    """Twelve hexadecimal digits, equal for decoders taught alike from the same texts and encoder."""
    values = {key: value for key, value in identity_values(config).items() if key not in NOT_IDENTITY}
    content = json.dumps([values, data_fingerprint, encoder.fingerprint], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def check_caption_config(config: CaptionTrainConfig) -> None:
    """Raise an E2FashionError for a number out of range, or a language model that the method does not read."""
    bounds = {
        "train.epochs": (config.train.epochs, 1),
        "train.batch_size": (config.train.batch_size, 1),
        "train.learning_rate": (config.train.learning_rate, 0),
        "train.warmup_steps": (config.train.warmup_steps, 0),
        "train.label_smoothing": (config.train.label_smoothing, 0),
        "train.checkpoint_every_steps": (config.train.checkpoint_every_steps, 1),
        "noise_variance": (config.noise_variance, 0),
        "prompt_length": (config.prompt_length, 1),
        "memory_size": (config.memory_size, 1),
        "mapper.length": (config.mapper.length, 1),
    }
    for key, (value, least) in bounds.items():
        if value < least:
            raise E2FashionError(f"{key} is {value}; give a number from {least}.")
    check_loggers(config.logging.to, config.logging.online)
    if config.method == "decap" and config.lm != SCRATCH:
        raise E2FashionError(
            f"lm is '{config.lm}', but DeCap's language model is trained from scratch: write lm={SCRATCH}, or "
            "method=capdec."
        )


def _fit(
    config: CaptionTrainConfig,
    catalogue: Catalogue,
    encoder: Encoder,
    identity: EncoderIdentity,
    folder: RunFolder,
    progress: bool,
) -> None:
    pl.seed_everything(config.seed, workers=True, verbose=False)
    caption, text = TextTemplate(config.caption), TextTemplate(config.text or encoder.template.template)
    columns = {entity.name: entity.column for entity in encoder.entities}
    prompted = {entity: columns[entity] for entity in split_names(config.prompt_entities)}
    products = {
        split: product_texts(catalogue, split, caption, text, list(prompted.values())) for split in ("train", "val")
    }
    language_model, tokenizer = None, encoder.tokenizer
    if config.lm != SCRATCH:
        language_model, tokenizer = load_language_model(config.lm, checked_source)
    tokens = CaptionTokens(tokenizer, config.length, config.prompt_length, config.stop)
    places = Path(config.memory) if config.memory else folder.path / "memory"
    lessons, keys = {}, {}
    for split, listed in products.items():
        entries = distinct_entries((entry for item in listed for entry in item.entries), config.memory_size)
        memory = open_memory(places, entries, identity, encoder.embed_texts, progress)
        row_of = {entry: row for row, entry in enumerate(entries)}
        taught = [Lesson(row_of[e], item.prompt) for item in listed for e in item.entries if e in row_of]
        lessons[split], keys[split] = Lessons(memory, taught, tokens), memory_key(entries, identity)
    train, val = lessons["train"], lessons["val"]
    kind = "linear" if config.method == "decap" else "transformer"
    prefix = PrefixShape(kind, **asdict(config.mapper))  # type: ignore[arg-type]
    stored = StoredDecoder(
        build_decoder(
            tokens,
            identity.dimension,
            prefix,
            LanguageModelShape(**asdict(config.model)),
            language_model,
            bool(prompted),
            config.noise_variance,
            config.train.label_smoothing,
        ),
        tokens,
        DecoderFacts(
            method=config.method,
            encoder=identity,
            prefix=prefix,
            language_model=config.lm,
            length=config.length,
            caption=caption.template,
            text=text.template,
            memory=os.path.relpath(places / keys["train"], folder.model),
            noise_variance=config.noise_variance,
            prompt_tags=training_tags(catalogue, prompted),
            prompt_length=config.prompt_length,
            stop=config.stop,
            # A GPT-2's tokenizer keeps blanks; that of a CLIP does not.
            spelling=dict(Spelling.of(train.memory.captions).joined) if language_model is None else {},
        ),
        _offset(config, catalogue, encoder, train, folder, progress),
    )
    cut = tokens.count_cut(train.memory.captions)
    if cut:
        logger.info("%d of %d training captions are cut at length=%d tokens", cut, len(train.memory), config.length)
    before = folder.read_record().get("seconds", 0.0)
    started = time.perf_counter()
    best = BestModel(folder.model, partial(save_decoder, stored), SCORE)
    settings = OptimizerSettings(
        "adamw", config.train.learning_rate, (0.9, 0.999), config.train.weight_decay, config.train.warmup_steps
    )
    try:
        with recorded_loggers(build.build_log_settings(config), folder, STAGE) as loggers:
            fit_stage(
                CaptionModule(stored.decoder, settings, config.seed),
                CaptionData(
                    CaptionItems(train, train.batch), CaptionItems(val, val.batch), config.train.batch_size, config.seed
                ),
                FitSettings(
                    epochs=config.train.epochs,
                    precision=config.train.precision,
                    accelerator=config.accelerator,
                    gradient_clip=config.train.gradient_clip,
                    checkpoint_every_steps=config.train.checkpoint_every_steps,
                    progress=progress,
                ),
                folder.path,
                STAGE,
                best,
                loggers=loggers,
            )
    finally:
        folder.update_record(seconds=round(before + time.perf_counter() - started, 1))
    folder.update_record(
        done=True,
        method=stored.facts.title,
        best=best.best,
        best_epoch=best.best_epoch + 1,
        parameters=sum(parameter.numel() for parameter in stored.decoder.parameters()),
        seed=config.seed,
        peak_memory_mb=round(peak_memory_mb()),
        captions=_counts(products["train"]) | {"memory": len(train.memory), "lessons": len(train), "cut": cut},
    )
    (folder.checkpoints / STAGE / "last.ckpt").unlink(missing_ok=True)


def _offset(
    config: CaptionTrainConfig,
    catalogue: Catalogue,
    encoder: Encoder,
    train: Lessons,
    folder: RunFolder,
    progress: bool,
) -> Tensor | None:
    """Mean text minus mean picture of train, where it is asked for: which picture has which text plays no part."""
    if not config.modality_offset:
        return None
    pictures = cached_features(encoder, catalogue, "train", folder.path / "features", progress=progress).image
    return modality_offset(pictures, mean_rows(train.memory.embeds, train.rows))


def _counts(products: Sequence[ProductTexts]) -> dict[str, Any]:
    return {"products": len(products), "without_caption": sum(not item.entries for item in products)}
