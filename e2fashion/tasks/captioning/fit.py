"""The steps by which a caption decoder is taught: texts, lessons from their embeddings, the decoder, the fit."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.text import TextTemplate
from e2fashion.encoder import Encoder, EncoderIdentity
from e2fashion.features import cached_features
from e2fashion.models.loading import checked_source
from e2fashion.run_folder import RunFolder, peak_memory_mb
from e2fashion.tasks.captioning.config import CaptionTrainConfig
from e2fashion.tasks.captioning.decoder import LanguageModelShape, PrefixShape
from e2fashion.tasks.captioning.measure import ProductTexts, product_texts, training_tags
from e2fashion.tasks.captioning.memory import distinct_entries, memory_key, open_memory
from e2fashion.tasks.captioning.module import SCORE, CaptionData, CaptionItems, CaptionModule
from e2fashion.tasks.captioning.noise import modality_offset
from e2fashion.tasks.captioning.spelling import Spelling
from e2fashion.tasks.captioning.storage import SCRATCH, DecoderFacts, StoredDecoder, load_language_model, save_decoder
from e2fashion.tasks.captioning.teaching import Lesson, Lessons, build_decoder, mean_rows
from e2fashion.tasks.captioning.tokens import CaptionTokens
from e2fashion.training.callbacks import BestModel
from e2fashion.training.fit import Machine, fit_stage
from e2fashion.training.loggers import LogSettings
from e2fashion.training.resume import remove_checkpoints
from e2fashion.training.stages import begin_anew_if_damaged, recorded_loggers

logger = logging.getLogger(__name__)

STAGE = "captions"


@dataclass(frozen=True)
class CaptionTraining:
    """One training of a decoder: what it is made from, and its steps."""

    config: CaptionTrainConfig
    catalogue: Catalogue
    encoder: Encoder
    identity: EncoderIdentity
    folder: RunFolder
    progress: bool

    @cached_property
    def caption(self) -> TextTemplate:
        """What is told."""
        return TextTemplate(self.config.caption)

    @cached_property
    def text(self) -> TextTemplate:
        """What the encoder embeds."""
        return TextTemplate(self.config.text or self.encoder.template.template)

    @cached_property
    def prompted(self) -> dict[str, str]:
        """The columns of the entities whose tags stand before a caption."""
        columns = {entity.name: entity.column for entity in self.encoder.entities}
        return {entity: columns[entity] for entity in self.config.prompt_entities}

    @cached_property
    def memories(self) -> Path:
        """The folder of support memories."""
        return Path(self.config.memory) if self.config.memory else self.folder.path / "memory"

    def run(self) -> None:
        """Teach, and write what was taught and how into the run's record."""
        pl.seed_everything(self.config.seed, workers=True, verbose=False)
        products = {
            split: product_texts(self.catalogue, split, self.caption, self.text, list(self.prompted.values()))
            for split in ("train", "val")
        }
        language_model, tokenizer = None, self.encoder.tokenizer
        if self.config.lm != SCRATCH:
            language_model, tokenizer = load_language_model(self.config.lm, checked_source)
        tokens = CaptionTokens(tokenizer, self.config.length, self.config.prompt_length, self.config.stop)
        train, key = self.lessons(products["train"], tokens)
        val, _ = self.lessons(products["val"], tokens)
        stored = self.untaught(tokens, language_model, train, key)
        if cut := tokens.count_cut(train.memory.captions):
            shown = (cut, len(train.memory), self.config.length)
            logger.info("%d of %d training captions are cut at length=%d tokens", *shown)
        best = self.teach(stored, train, val)
        self.folder.update_record(
            done=True,
            method=stored.facts.title,
            best=best.best,
            best_epoch=best.best_epoch + 1,
            parameters=sum(parameter.numel() for parameter in stored.decoder.parameters()),
            seed=self.config.seed,
            peak_memory_mb=round(peak_memory_mb()),
            captions=_counts(products["train"]) | {"memory": len(train.memory), "lessons": len(train), "cut": cut},
        )
        remove_checkpoints(self.folder.path, STAGE)

    def lessons(self, products: Sequence[ProductTexts], tokens: CaptionTokens) -> tuple[Lessons, str]:
        """A split's captions with the memory that embeds them, each text once, and that memory's key."""
        entries = distinct_entries((entry for item in products for entry in item.entries), self.config.memory_size)
        memory = open_memory(self.memories, entries, self.identity, self.encoder.embed_texts, self.progress)
        row_of = {entry: row for row, entry in enumerate(entries)}
        taught = [Lesson(row_of[e], item.prompt) for item in products for e in item.entries if e in row_of]
        return Lessons(memory, taught, tokens), memory_key(entries, self.identity)

    def untaught(self, tokens: CaptionTokens, language_model: Any, train: Lessons, key: str) -> StoredDecoder:
        """The decoder before its first step, with the facts that are kept beside it."""
        config = self.config
        kind = "linear" if config.method == "decap" else "transformer"
        prefix = PrefixShape(kind, **asdict(config.mapper))  # type: ignore[arg-type]
        decoder = build_decoder(
            tokens,
            self.identity.dimension,
            prefix,
            LanguageModelShape(**asdict(config.model)),
            language_model,
            bool(self.prompted),
            config.noise_variance,
            config.train.label_smoothing,
        )
        facts = DecoderFacts(
            method=config.method,
            encoder=self.identity,
            prefix=prefix,
            language_model=config.lm,
            length=config.length,
            caption=self.caption.template,
            text=self.text.template,
            memory=os.path.relpath(self.memories / key, self.folder.model),
            noise_variance=config.noise_variance,
            prompt_tags=training_tags(self.catalogue, self.prompted),
            prompt_length=config.prompt_length,
            stop=config.stop,
            # A GPT-2's tokenizer keeps blanks; that of a CLIP does not.
            spelling=dict(Spelling.of(train.memory.captions).joined) if language_model is None else {},
        )
        return StoredDecoder(decoder, tokens, facts, self.offset(train))

    def offset(self, train: Lessons) -> Tensor | None:
        """Mean text minus mean picture of train, where it is asked for: which picture has which text plays no part."""
        if not self.config.modality_offset:
            return None
        features = self.folder.path / "features"
        pictures = cached_features(self.encoder, self.catalogue, "train", features, progress=self.progress).image
        return modality_offset(pictures, mean_rows(train.memory.embeds, train.rows))

    def teach(self, stored: StoredDecoder, train: Lessons, val: Lessons) -> BestModel:
        """Fit, and keep the epoch with the least loss on val; the time counts even where it is interrupted."""
        own = self.config.train
        before = self.folder.read_record().get("seconds", 0.0)
        started = time.perf_counter()
        best = BestModel(self.folder.model, partial(save_decoder, stored), SCORE)
        items = (CaptionItems(train, train.batch), CaptionItems(val, val.batch))
        begin_anew_if_damaged(self.folder, STAGE, best.folder)
        try:
            log_settings = LogSettings.of(self.config.logging, self.config.name, self.config)
            with recorded_loggers(log_settings, self.folder, STAGE) as loggers:
                fit_stage(
                    CaptionModule(stored.decoder, own, self.config.seed),
                    CaptionData(*items, own.batch_size, self.config.seed),
                    own,
                    own.epochs,
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


def _counts(products: Sequence[ProductTexts]) -> dict[str, Any]:
    return {"products": len(products), "without_caption": sum(not item.entries for item in products)}
