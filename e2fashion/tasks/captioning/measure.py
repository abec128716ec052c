"""Captions of a split: the texts behind them, what a decoder tells, and the records of how the two compare."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.text import DESCRIPTION, TextTemplate
from e2fashion.disk import write_text
from e2fashion.metrics.bootstrap import bootstrap, interval, weighted_means
from e2fashion.metrics.captioning import CLIP_SCORE, CaptionScores
from e2fashion.records import RunIdentity, declare
from e2fashion.tasks.captioning.entity_prompt import join_tags
from e2fashion.tasks.captioning.memory import MemoryEntry
from e2fashion.types import E2FashionError, ResultRecord

CAPTIONING = declare(
    "captioning",
    identified_by=(
        *("caption_method", "caption_tokenizer", "caption_length", "memory_size", "memory_text", "temperature"),
        *("beams", "length_penalty", "noise_variance", "prompt", "clip_score_encoder"),
    ),
    reports=("implementation", "left_out"),
)


@dataclass(frozen=True)
class ProductTexts:
    """A product in words: the distinct texts and captions of its views, and the tags of the prompt, as one text."""

    product_id: str
    entries: tuple[MemoryEntry, ...]
    prompt: str = ""

    @property
    def captions(self) -> tuple[str, ...]:
        """What may be told of it, each once."""
        return tuple(dict.fromkeys(entry.caption for entry in self.entries))


def product_texts(
    catalogue: Catalogue, split: str, caption: TextTemplate, text: TextTemplate, prompt_columns: Sequence[str] = ()
) -> list[ProductTexts]:
    """Every product of a split in its order; one without a caption has no entries.

    Raises:
        E2FashionError: a template or the prompt names a column that the catalogue lacks.
    """
    for template in (caption, text):
        template.validate(catalogue.tag_columns)
    if unknown := [column for column in prompt_columns if column not in catalogue.tag_columns]:
        raise E2FashionError(
            f"The prompt reads the column '{unknown[0]}', which the catalogue {catalogue.path} lacks. Its columns: "
            f"{', '.join(catalogue.tag_columns)}."
        )
    columns = sorted({*caption.columns, *text.columns, *prompt_columns})
    entries: dict[str, dict[MemoryEntry, None]] = {}
    prompts: dict[str, str] = {}
    for row in catalogue.split(split).select_columns(["product_id", DESCRIPTION, *columns]):
        product, told = row["product_id"], caption.render(row, row[DESCRIPTION]).strip()
        own = entries.setdefault(product, {})
        if told:
            own.setdefault(MemoryEntry(text.render(row, row[DESCRIPTION]), told))
        prompts.setdefault(product, join_tags([row[column] for column in prompt_columns]))
    return [ProductTexts(product, tuple(own), prompts[product]) for product, own in entries.items()]


def training_tags(catalogue: Catalogue, columns: Mapping[str, str]) -> dict[str, list[str]]:
    """The distinct tags of train by entity (its column), in the order of their letters."""
    found = {}
    for entity, column in columns.items():
        found[entity] = sorted({tag.strip() for tag in catalogue.split("train")[column] if tag and tag.strip()})
        if not found[entity]:
            raise E2FashionError(f"The column '{column}' of train holds no tag: leave '{entity}' out of the prompt.")
    return found


@dataclass(frozen=True)
class Told:
    """A product's true captions and what was told of it, behind which prompt."""

    product_id: str
    truth: tuple[str, ...]
    caption: str
    prompt: str = ""


def save_told(file: Path, told: Sequence[Told]) -> None:
    """One JSON object a line."""
    write_text(file, "".join(json.dumps(vars(item), ensure_ascii=False) + "\n" for item in told))


def read_told(file: Path) -> list[Told]:
    """What :func:`save_told` wrote."""
    if not file.is_file():
        raise E2FashionError(f"there are no captions at {file}: run `e2fashion caption evaluate` first")
    lines = file.read_text(encoding="utf-8").splitlines()
    return [Told(**(values | {"truth": tuple(values["truth"])})) for values in map(json.loads, lines)]


@dataclass(frozen=True)
class CaptionContext:
    """What a caption record says beside its numbers: the method as tables call it, how the picture was read, and with
    which settings; ``left_out`` counts products without a caption."""

    method: str
    reading: str
    encoder: str
    split: str
    run: RunIdentity
    data_fingerprint: str
    caption: str
    left_out: int = 0
    settings: dict[str, Any] = field(default_factory=dict)


def caption_records(
    scores: CaptionScores, number: int, context: CaptionContext, clip_score: tuple[str, Tensor] | None = None
) -> list[ResultRecord]:
    """One record a metric, with N, tokenizer and implementation; 95 % intervals where a metric is a mean over items.

    ``clip_score`` is the name of its fixed encoder and the values (N,).
    """
    items = dict(scores.items)
    values = dict(scores.values)
    if clip_score is not None:
        items[CLIP_SCORE] = clip_score[1]
        values[CLIP_SCORE] = float(clip_score[1].mean())
    records = []
    for metric, value in values.items():
        low, high = _interval(items[metric]) if metric in items else (None, None)
        extra = {
            "caption_method": context.method,
            "caption_tokenizer": scores.tokenizer,
            "implementation": scores.implementation,
            "left_out": context.left_out,
            **context.settings,
        }
        if metric == CLIP_SCORE and clip_score is not None:
            extra |= {"caption_tokenizer": "", "implementation": "ours", "clip_score_encoder": clip_score[0]}
        records.append(
            CAPTIONING.record(
                context.run.context(context.encoder, context.split, context.data_fingerprint, context.caption),
                metric,
                value,
                low,
                high,
                protocol=context.reading,
                queries=number,
                extra=extra,
            )
        )
    return records


def _interval(values: Tensor) -> tuple[float, float]:
    """Bootstrap over items; the words' weights in CIDEr stay those of the whole set."""
    unit = torch.arange(len(values))
    low, high = interval(bootstrap(weighted_means(values[:, None], unit, len(values)), len(values)))
    return float(low), float(high)


def told_by(products: Sequence[ProductTexts], captions: Sequence[str], prompts: Sequence[str]) -> Iterator[Told]:
    """Products with what was told of them."""
    for product, caption, prompt in zip(products, captions, prompts, strict=True):
        yield Told(product.product_id, product.captions, caption, prompt)
