"""``caption train``: teach a decoder to tell texts from their embeddings."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import nn

from e2fashion.arithmetic import Choice, build_device, log_arithmetic, resolve_precision, set_threads
from e2fashion.config import save_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.disk import checked_name
from e2fashion.encoder import EncoderIdentity
from e2fashion.hub import StoredPlace
from e2fashion.measuring import load_named_encoder
from e2fashion.options import identity_values
from e2fashion.run_folder import RunFolder
from e2fashion.tasks.captioning.config import CaptionTrainConfig
from e2fashion.tasks.captioning.entity_prompt import check_prompt_entities
from e2fashion.tasks.captioning.fit import CaptionTraining
from e2fashion.tasks.captioning.loading import identity_of_encoder
from e2fashion.tasks.captioning.storage import SCRATCH
from e2fashion.training.callbacks import RunInterruptedError
from e2fashion.training.loggers import check_loggers
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

NOT_IDENTITY = ("name", "encoder", "data", "output", "memory", "threads", "accelerator", "logging")


def caption_train(config: CaptionTrainConfig, progress: bool = True) -> str:
    """Train a decoder, or go on with one."""
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
    device = build_device(config.accelerator)
    precision = resolve_precision(config.train.precision, device)
    config = replace(config, train=replace(config.train, precision=precision.value))
    folder = RunFolder(Path(config.output))
    with folder.locked():
        _train_alone(config, catalogue, folder, device, {"precision": precision}, progress)
    return folder


def _train_alone(
    config: CaptionTrainConfig,
    catalogue: Catalogue,
    folder: RunFolder,
    device: torch.device,
    arithmetic: dict[str, Choice],
    progress: bool,
) -> None:
    """Train as the only writer of the folder, unless the same decoder lies there finished."""
    there = folder.read_record()
    place = StoredPlace.recall(config.encoder, there.get("encoder_place"), folder.path, "the encoder")
    encoder = load_named_encoder(place)
    identity = identity_of_encoder(encoder)
    check_prompt_entities(config.prompt_entities, [entity.name for entity in encoder.entities], encoder.name)
    run = caption_identity(config, catalogue.fingerprint, identity)
    other = ""
    if there.get("encoder_fingerprint", identity.fingerprint) != identity.fingerprint:
        other = f"the encoder is '{there['encoder']}' there and '{identity.name}' here"
    folder.open(run, catalogue.fingerprint, device, other or "its settings or its catalogue differ")
    folder.update_record(
        encoder=identity.name,
        encoder_fingerprint=identity.fingerprint,
        encoder_place=StoredPlace.remembered(config.encoder, folder.path, place),
    )
    save_config(config, folder.config)
    if there.get("done") and there.get("identity") == run:
        return
    handler = folder.log_to_file()
    try:
        log_arithmetic(arithmetic)
        cast(nn.Module, encoder.model).to(device)
        CaptionTraining(config, catalogue, encoder, identity, folder, progress).run()
    except RunInterruptedError as interruption:
        message = f"interrupted. Go on with: e2fashion caption train {folder.path}"
        raise RunInterruptedError(message, interruption.number) from interruption
    except E2FashionError as error:
        handler.handle(logger.makeRecord(logger.name, logging.ERROR, "", 0, str(error), (), None))
        raise
    finally:
        logging.getLogger("e2fashion").removeHandler(handler)
        handler.close()


def caption_identity(config: CaptionTrainConfig, data_fingerprint: str, encoder: EncoderIdentity) -> str:
    """Twelve hexadecimal digits, equal for decoders taught alike from the same texts and encoder."""
    values = {key: value for key, value in identity_values(config).items() if key not in NOT_IDENTITY}
    content = json.dumps([values, data_fingerprint, encoder.fingerprint], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def check_caption_config(config: CaptionTrainConfig) -> None:
    """Raise an E2FashionError for a number out of range, or a language model that the method does not read."""
    checked_name("name", config.name)
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
