"""Captions of a split compared with the true ones: one record per metric for each reading and baseline."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.text import TextTemplate
from e2fashion.disk import file_name, read_lines, stored_as, write_lines
from e2fashion.encoder import Encoder
from e2fashion.features import SplitFeatures, cached_features
from e2fashion.measuring import identity_of_run, load_named_encoder, to_device
from e2fashion.metrics.bootstrap import Estimate, mean_estimate
from e2fashion.metrics.captioning import CLIP_SCORE, NO_JAVA, CaptionScores, caption_scores, clip_scores, has_java
from e2fashion.options import Inference
from e2fashion.records import RecordContext, RunIdentity, declare
from e2fashion.run_folder import git_commit
from e2fashion.tasks.captioning.captioner import Captioner, identity_of_encoder, open_decoder
from e2fashion.tasks.captioning.config import CaptionEvaluateConfig
from e2fashion.tasks.captioning.memory import product_texts
from e2fashion.types import E2FashionError, ResultRecord

logger = logging.getLogger(__name__)

CAPTIONING = declare(
    "captioning",
    identified_by=(
        *("caption_method", "caption_tokenizer", "caption_length", "memory_size", "memory_text", "temperature"),
        *("beams", "length_penalty", "noise_variance", "prompt", "clip_score_encoder"),
    ),
    reports=("implementation", "left_out"),
)
NEAREST_CAPTION = "nearest caption (CLIPRe)"
MOST_FREQUENT = "most frequent caption"


@dataclass(frozen=True)
class ProductCaption:
    """A product's true captions and the generated one, with its prompt."""

    product_id: str
    truth: tuple[str, ...]
    caption: str
    prompt: str = ""


def save_captions(file: Path, captions: Sequence[ProductCaption]) -> None:
    """One JSON object per line, with a checksum."""
    write_lines(file, map(vars, captions))


def read_captions(file: Path) -> list[ProductCaption]:
    """The content of a file that :func:`save_captions` wrote.

    Raises:
        E2FashionError: it is missing or damaged.
    """
    if not file.is_file():
        raise E2FashionError(f"there are no captions at {file}: run `e2fashion caption evaluate` first")
    remedy = "Run `e2fashion caption evaluate` again."
    return [stored_as(ProductCaption, values, str(file), remedy) for values in read_lines(file, remedy)]


def captions_file(results: Path, split: str, reading: str) -> Path:
    """The file of one reading's captions next to a records file; an empty reading is the most frequent caption."""
    name = f"{split}-{reading or 'most_frequent'}"
    return results.parent / "captions" / f"{file_name(name)}.jsonl"


def most_frequent_caption(captions: Sequence[str]) -> str:
    """The most frequent of ``captions``, the first of equally frequent ones.

    Raises:
        E2FashionError: every caption is empty, or there are none.
    """
    counted = Counter(caption for caption in captions if caption.strip())
    if not counted:
        raise E2FashionError("There are no captions to count: every one is empty.")
    return counted.most_common(1)[0][0]


def evaluate_captions(config: CaptionEvaluateConfig, progress: bool = True) -> tuple[Path, list[ResultRecord]]:
    """Measure every reading and baseline; the records, and the file where they belong, with captions next to it.

    Products without a caption are left out and counted.

    Raises:
        E2FashionError: a mistake in the configuration, or a decoder, encoder or catalogue that cannot be read.
    """
    if not config.reading:
        raise E2FashionError("reading is empty: give project, direct, shifted or nearest.")
    if config.tokenizer == "ptb" and config.clip_score is None and not has_java():
        raise E2FashionError(NO_JAVA)
    catalogue = Catalogue.load(config.data)
    catalogue.split(config.split)
    judge = load_named_encoder(config.clip_score) if config.clip_score else None
    opened = open_decoder(config)
    facts, encoder = opened.stored.facts, opened.encoder
    by_image = opened.prompt_from_image(config.prompt_from)
    if judge is not None and identity_of_encoder(judge).fingerprint == facts.encoder.fingerprint:
        raise E2FashionError(
            f"clip_score names '{judge.name}', the encoder that the captions are made from: CLIPScore would measure "
            "how well it agrees with itself. Name a separate one."
        )
    results = Path(config.output) if config.output else opened.run.results
    captioners = {reading: opened.captioner(reading, config) for reading in config.reading}
    templates = TextTemplate(facts.caption), TextTemplate(facts.text)
    listed = product_texts(catalogue, config.split, *templates)
    kept = [row for row, product in enumerate(listed) if product.entries]
    if not kept:
        raise E2FashionError(f"There are no captions on {config.split}: every product's is empty.")
    products = [listed[row] for row in kept]
    features = _features(encoder, catalogue, config, results, progress)
    embeds = features.image[kept]
    regions = {name: region[kept] for name, region in features.regions.items()}
    prompts = opened.prompts(embeds, regions, by_image)
    judged = None if judge is None else _features(judge, catalogue, config, results, progress).image[kept]
    records: list[ResultRecord] = []

    def measure(
        captions: Sequence[str],
        method: str,
        reading: str,
        model: str,
        run: RunIdentity,
        settings: Mapping[str, Any],
        prompts: Sequence[str] | None = None,
    ) -> None:
        rows = zip(products, captions, prompts or [""] * len(products), strict=True)
        saved = [ProductCaption(item.product_id, item.captions, caption, prompt) for item, caption, prompt in rows]
        save_captions(captions_file(results, config.split, reading), saved)
        scores = caption_scores([item.truth for item in saved], captions, config.tokenizer, config.meteor)
        for reason in dict.fromkeys(scores.missing.values()):
            logger.warning("%s", reason)
        clip_score = None
        if judge is not None and judged is not None:
            clip_score = (judge.name, clip_scores(judged, judge.embed_texts(list(captions))))
        context = run.context(model, config.split, catalogue.fingerprint, facts.caption)
        extra = {"caption_method": method, "left_out": len(listed) - len(products), **settings}
        records.extend(caption_records(scores, len(products), context, reading, extra, clip_score))

    none = RunIdentity("", git_commit(), 0)
    if config.baselines:
        texts = [caption for item in product_texts(catalogue, "train", *templates) for caption in item.captions]
        measure([most_frequent_caption(texts)] * len(products), MOST_FREQUENT, "", "", none, {})
    length = facts.length if config.length is None else config.length
    shared = {"caption_length": length, "memory_size": len(opened.memory), "memory_text": facts.text}
    generation = {
        "beams": config.beams,
        "length_penalty": config.length_penalty,
        "noise_variance": facts.noise_variance,
        "prompt": opened.prompt_title(by_image),
    }
    run = identity_of_run(opened.run)
    for reading, captioner in captioners.items():
        if not isinstance(captioner, Captioner):
            # Of no run of ours, but of this seed's encoder.
            measure(
                captioner.caption(embeds), NEAREST_CAPTION, reading, encoder.name, replace(none, seed=run.seed), shared
            )
            continue
        settings = shared | generation
        if reading == "project":
            settings["temperature"] = config.temperature
        captions = captioner.caption(embeds, prompts, progress)
        measure(captions, facts.title, reading, encoder.name, run, settings, prompts)
    return results, records


def caption_records(
    scores: CaptionScores,
    number: int,
    context: RecordContext,
    reading: str,
    extra: Mapping[str, Any],
    clip_score: tuple[str, Tensor] | None = None,
) -> list[ResultRecord]:
    """One record per metric, with N, tokenizer and implementation; 95 % intervals of metrics that are means of items.

    ``clip_score`` is the name of its fixed encoder and the values (N,).
    """
    items, values = dict(scores.items), dict(scores.values)
    if clip_score is not None:
        items[CLIP_SCORE] = clip_score[1]
        values[CLIP_SCORE] = float(clip_score[1].mean())
    records = []
    for metric, value in values.items():
        estimate = Estimate(value)
        if metric in items:  # weights of words in CIDEr stay those of the whole set
            estimate = mean_estimate(items[metric])._replace(value=value)
        made_by = {"caption_tokenizer": scores.tokenizer, "implementation": scores.implementation}
        if metric == CLIP_SCORE and clip_score is not None:
            made_by = {"caption_tokenizer": "", "implementation": "ours", "clip_score_encoder": clip_score[0]}
        record = CAPTIONING.record(
            context, metric, *estimate, protocol=reading, queries=number, extra={**extra, **made_by}
        )
        records.append(record)
    return records


def _features(
    encoder: Encoder, catalogue: Catalogue, config: CaptionEvaluateConfig, results: Path, progress: bool
) -> SplitFeatures:
    to_device(encoder, config.accelerator)
    folder, inference = results.parent / "features", Inference(workers=config.workers)
    return cached_features(encoder, catalogue, config.split, folder, inference, progress)
