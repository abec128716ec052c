"""``caption run`` and ``caption evaluate``: tell pictures with a trained decoder, and measure what it tells."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from torch import Tensor, nn

from e2fashion.arithmetic import build_device, set_threads
from e2fashion.config import load_config, split_names
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.image_files import COMMON_FORMATS, find_images
from e2fashion.data.text import TextTemplate
from e2fashion.disk import file_name, open_text
from e2fashion.encoder import Encoder
from e2fashion.escape import visible
from e2fashion.features import SplitFeatures, cached_features
from e2fashion.hub import StoredPlace
from e2fashion.measuring import identity_of, load_named_encoder, to_device
from e2fashion.metrics.captioning import NO_JAVA, caption_scores, clip_scores, has_java
from e2fashion.records import RunIdentity, append_records, read_records
from e2fashion.run_folder import RunFolder, git_commit
from e2fashion.tables import to_markdown
from e2fashion.tasks.captioning.captioner import Captioner, MostFrequentCaption
from e2fashion.tasks.captioning.config import CaptionEvaluateConfig, CaptionRunConfig, CaptionTrainConfig
from e2fashion.tasks.captioning.entity_prompt import embed_tag_texts, predicted_prompts
from e2fashion.tasks.captioning.generate import Decoding
from e2fashion.tasks.captioning.loading import captioner_of, decoder_folder, identity_of_encoder, memory_place
from e2fashion.tasks.captioning.measure import (
    CaptionContext,
    caption_records,
    product_texts,
    save_told,
    told_by,
)
from e2fashion.tasks.captioning.memory import SupportMemory, check_same_encoder, load_memory
from e2fashion.tasks.captioning.storage import StoredDecoder, load_decoder
from e2fashion.tasks.captioning.tables import NEAREST_METHOD, OWN_CAPTION, caption_tables
from e2fashion.types import E2FashionError, ResultRecord

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Opened:
    """A decoder with its encoder and its memory, each checked against the others."""

    folder: RunFolder
    stored: StoredDecoder
    memory: SupportMemory
    encoder: Encoder

    def decoding(self, config: CaptionRunConfig | CaptionEvaluateConfig) -> Decoding:
        length = self.stored.facts.length if config.length is None else config.length
        if length > self.stored.facts.length:
            raise E2FashionError(
                f"length is {length}, but the decoder was trained for captions of {self.stored.facts.length} tokens."
            )
        return Decoding(length, config.beams, config.length_penalty)

    def prompts(self, regions: dict[str, Tensor]) -> list[str] | None:
        """The tags nearest to the regions (N, C) of every picture; None of a decoder without prompts."""
        tags = self.stored.facts.prompt_tags
        return predicted_prompts(regions, embed_tag_texts(tags, self.encoder.embed_tags)) if tags else None


def _open(config: CaptionRunConfig | CaptionEvaluateConfig) -> _Opened:
    set_threads(config.threads)
    if config.batch_size < 1:
        raise E2FashionError(f"batch_size is {config.batch_size}; give a number from 1.")
    device = build_device(config.accelerator)
    run = RunFolder(Path(config.decoder))
    folder = decoder_folder(run.path)
    stored = load_decoder(folder)
    place = config.encoder
    if place is None:
        if not run.config.is_file():
            raise E2FashionError(
                f"'{run.path}' does not say where its encoder '{stored.facts.encoder.name}' lies: give it as "
                "encoder=<folder>."
            )
        # The record says where it lay; older ones do not, and the configuration says what was written then.
        written = {"source": load_config(CaptionTrainConfig, run.config).encoder}
        place = StoredPlace.read(run.read_record().get("encoder_place") or written).find(
            run.path, f"the encoder '{stored.facts.encoder.name}' of {run.path}", "Give encoder=<folder or hub name>."
        )
    encoder = load_named_encoder(place)
    cast(nn.Module, encoder.model).to(device)
    identity = identity_of_encoder(encoder)
    check_same_encoder(f"the caption decoder {run.path}", stored.facts.encoder, identity)
    stored.decoder.to(device)
    return _Opened(run, stored, load_memory(memory_place(stored, folder), identity), encoder)


def caption_run(config: CaptionRunConfig, progress: bool = True) -> str:
    """Tell pictures, or all pictures of folders, one line each; ``output`` keeps them as CSV."""
    files = _files([Path(place) for place in config.images])
    opened = _open(config)
    captioner = captioner_of(
        opened.stored,
        opened.memory,
        config.reading,
        config.temperature,
        opened.decoding(config),
        config.batch_size,
    )
    prompts = None
    if opened.stored.facts.prompt_tags and isinstance(captioner, Captioner):
        embeds, regions = opened.encoder.embed_images_and_regions(files, config.batch_size)
        names = [entity.name for entity in opened.encoder.entities]
        prompts = opened.prompts(dict(zip(names, regions.unbind(1), strict=True)))
    else:
        embeds = opened.encoder.embed_images(files, config.batch_size)
    told = (
        captioner.caption(embeds, prompts, progress) if isinstance(captioner, Captioner) else captioner.caption(embeds)
    )
    if config.output:
        with open_text(Path(config.output)) as stream:
            csv.writer(stream).writerows([("picture", "caption"), *zip(files, told, strict=True)])
    return "\n".join(f"{visible(str(file))}\t{visible(caption)}" for file, caption in zip(files, told, strict=True))


def _files(places: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for place in places:
        if not place.is_dir():
            found.append(place)
            continue
        inside = find_images(place)
        if inside.ignored:
            logger.warning("%s: %s", place, inside.words())
        if not inside.files:
            raise E2FashionError(f"The folder {place} holds no image ({COMMON_FORMATS}).")
        found += inside.files
    if not found:
        raise E2FashionError("Give pictures to tell: `e2fashion caption run <decoder> <picture or folder> ...`.")
    return found


def caption_evaluate(config: CaptionEvaluateConfig, progress: bool = True) -> str:
    """Measure the captions of a split, append the records and show them as a table."""
    results, records = caption_evaluation(config, progress)
    append_records(results, records)
    tables = map(to_markdown, caption_tables(read_records(results)))
    return f"{len(records)} records appended to {results}\n\n" + "\n".join(tables)


def caption_evaluation(config: CaptionEvaluateConfig, progress: bool = True) -> tuple[Path, list[ResultRecord]]:
    """The records of every reading and baseline, and the file where they belong; captions are kept beside it.

    Products without a caption are left out and counted.
    """
    readings = split_names(config.reading)
    if not readings:
        raise E2FashionError("reading is empty: write direct, project, shifted or nearest.")
    if config.tokenizer == "ptb" and config.clip_score is None and not has_java():
        raise E2FashionError(NO_JAVA)
    catalogue = Catalogue.load(config.data)
    catalogue.split(config.split)
    judge = load_named_encoder(config.clip_score) if config.clip_score else None
    opened = _open(config)
    facts, decoding = opened.stored.facts, opened.decoding(config)
    if judge is not None and identity_of_encoder(judge).fingerprint == facts.encoder.fingerprint:
        raise E2FashionError(
            f"clip_score names '{judge.name}', the encoder that the captions are made from: CLIPScore would measure "
            "how well it agrees with itself. Name a separate one."
        )
    results = Path(config.output) if config.output else opened.folder.results
    captioners = {
        name: captioner_of(opened.stored, opened.memory, name, config.temperature, decoding, config.batch_size)
        for name in readings
    }
    listed = product_texts(catalogue, config.split, TextTemplate(facts.caption), TextTemplate(facts.text))
    kept = [row for row, product in enumerate(listed) if product.entries]
    if not kept:
        raise E2FashionError(f"There are no captions on {config.split}: every product's is empty.")
    products = [listed[row] for row in kept]
    features = _features(opened.encoder, catalogue, config, results, progress)
    embeds = features.image[kept]
    prompts = opened.prompts({name: region[kept] for name, region in features.regions.items()})
    seen = None if judge is None else _features(judge, catalogue, config, results, progress).image[kept]
    shared = {"caption_length": decoding.length, "memory_size": len(opened.memory), "memory_text": facts.text}
    records: list[ResultRecord] = []

    def measure(captions: Sequence[str], context: CaptionContext, before: Sequence[str] | None = None) -> None:
        told = list(told_by(products, captions, before if before is not None else [""] * len(products)))
        save_told(_told_file(results, context), told)
        scores = caption_scores([item.truth for item in told], captions, config.tokenizer, config.meteor)
        for reason in dict.fromkeys(scores.missing.values()):
            logger.warning("%s", reason)
        agreed = None
        if judge is not None and seen is not None:
            agreed = (judge.name, clip_scores(seen, judge.embed_texts(list(captions))))
        records.extend(caption_records(scores, len(products), context, agreed))

    def context(method: str, reading: str, encoder: str, run: RunIdentity, **settings: object) -> CaptionContext:
        return CaptionContext(
            method=method,
            reading=reading,
            encoder=encoder,
            split=config.split,
            run=run,
            data_fingerprint=catalogue.fingerprint,
            caption=facts.caption,
            left_out=len(listed) - len(products),
            settings=settings,
        )

    none = RunIdentity("", git_commit(), 0)
    if config.baselines:
        frequent = MostFrequentCaption.of(_training_captions(catalogue, facts.caption, facts.text))
        measure(frequent.caption(embeds), context(OWN_CAPTION, "", "", none))
    for name, captioner in captioners.items():
        if not isinstance(captioner, Captioner):
            measure(captioner.caption(embeds), context(NEAREST_METHOD, name, opened.encoder.name, none, **shared))
            continue
        settings = shared | {
            "beams": decoding.beams,
            "length_penalty": decoding.length_penalty,
            "noise_variance": facts.noise_variance,
            "prompt": facts.prompt,
        }
        if name == "project":
            settings["temperature"] = config.temperature
        run = identity_of(opened.folder.read_record())
        captions = captioner.caption(embeds, prompts, progress)
        measure(captions, context(facts.title, name, opened.encoder.name, run, **settings), prompts)
    return results, records


def _features(
    encoder: Encoder, catalogue: Catalogue, config: CaptionEvaluateConfig, results: Path, progress: bool
) -> SplitFeatures:
    to_device(encoder, config.accelerator)
    return cached_features(
        encoder, catalogue, config.split, results.parent / "features", workers=config.workers, progress=progress
    )


def _training_captions(catalogue: Catalogue, caption: str, text: str) -> list[str]:
    texts = product_texts(catalogue, "train", TextTemplate(caption), TextTemplate(text))
    return [caption for product in texts for caption in product.captions]


def _told_file(results: Path, context: CaptionContext) -> Path:
    words = [context.split, context.reading or "most_frequent"]
    return results.parent / "captions" / f"{file_name('-'.join(words))}.jsonl"
