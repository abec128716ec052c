"""Tags of images by any encoder: for every entity the nearest value, or no answer; and ``tags.json``, its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from e2fashion.arithmetic import set_threads
from e2fashion.data.decode import read_squares
from e2fashion.data.image_files import ImageError, image_files
from e2fashion.disk import read_json, seal, stored_as, write_json
from e2fashion.encoder import Encoder, ImageInput, load_encoder
from e2fashion.measuring import to_device
from e2fashion.tasks.classification.classifier import (
    REGION_WEIGHT,
    SLOT,
    LabelEmbeds,
    embed_labels,
    image_embeds,
    region_index,
)
from e2fashion.tasks.classification.config import TagsPredictConfig
from e2fashion.types import E2FashionError

FEWEST_ANSWERS = 20
"""Of a threshold: fewer answered images than these say nothing about accuracy (ours)."""
NAME = "tags.json"
FORMAT = 1
REMEDY = "Fit it again."


@dataclass(frozen=True)
class TagValues:
    """The values of one entity to choose from, how they are compared, and when to abstain.

    ``features`` are ``global``, ``region`` or ``both``, in which the region has the share ``region_weight``. A value is
    answered when its probability is at least ``threshold``: 0.0 always answers, None never does.
    """

    entity: str
    values: tuple[str, ...]
    features: str = "global"
    templates: tuple[str, ...] = (SLOT,)
    region_templates: tuple[str, ...] = (SLOT,)
    threshold: float | None = 0.0
    region_weight: float = REGION_WEIGHT


@dataclass(frozen=True)
class PredictedTag:
    """``value`` is None where the encoder is not sure enough; ``best`` and its probability ``score`` always are."""

    value: str | None
    best: str
    score: float


def scale_and_bias(encoder: Encoder) -> tuple[float, float | None]:
    """The inverse temperature of a model's logits, and the bias of one that was trained with the sigmoid loss."""
    model: Any = encoder.model
    bias = getattr(model, "logit_bias", None)
    return float(model.logit_scale.detach().exp()), None if bias is None else float(bias.detach())


def tag_probabilities(scores: Tensor, scale: float, bias: float | None = None) -> Tensor:
    """Cosines (N, L) to the probabilities that training with the inverse temperature ``scale`` gives them.

    They are a softmax over the labels; with the ``bias`` of the sigmoid loss, each label's probability to fit at all.
    """
    return (scale * scores).softmax(-1) if bias is None else (scale * scores + bias).sigmoid()


def choose_threshold(score: Tensor, right: Tensor, accuracy: float, fewest: int = FEWEST_ANSWERS) -> float | None:
    """The lowest threshold from which on the share ``accuracy`` (0 to 1) of the answers is right; None without any.

    ``score`` (N,) are the probabilities of the best values and ``right`` (N,) bool whether they are true, of products
    of another split than the one that is reported. Equal scores are answered together, and never fewer than ``fewest``.

    Raises:
        E2FashionError: ``accuracy`` is not from 0 to 1.
    """
    if not 0 <= accuracy <= 1:
        raise E2FashionError(f"the accuracy to reach is {accuracy:g}; give a share from 0 to 1.")
    order = score.argsort(descending=True, stable=True)
    ordered, hits = score[order], right[order].double().cumsum(0)
    answered = torch.arange(1, len(score) + 1)
    ends = torch.ones(len(score), dtype=torch.bool)
    ends[:-1] = ordered[:-1] > ordered[1:]  # a threshold cannot separate equal scores
    enough = ends & (answered >= fewest) & (hits / answered >= accuracy - 1e-12)
    ranks = enough.nonzero().flatten()
    return float(ordered[ranks[-1]]) if len(ranks) else None


@dataclass
class TagPredictor:
    """Any encoder with the values of its entities; ``scale`` and ``bias`` are those of :func:`tag_probabilities`."""

    encoder: Encoder
    entities: Sequence[TagValues]
    scale: float = 100.0
    bias: float | None = None
    _embeds: dict[str, LabelEmbeds] = field(default_factory=dict, repr=False)

    def embeds(self, entity: TagValues) -> LabelEmbeds:
        """The embeddings of an entity's values, computed once."""
        if entity.entity not in self._embeds:
            self._embeds[entity.entity] = embed_labels(
                self.encoder, entity.values, entity.features, entity.templates, entity.region_templates
            )
        return self._embeds[entity.entity]

    def probabilities(self, entity: TagValues, images: Tensor | None, regions: Tensor | None) -> Tensor:
        """Of every value of an entity, from embeddings (N, C) of images and of the entity's regions: (N, L)."""
        scores = self.embeds(entity).scores(images, regions, entity.region_weight)
        return tag_probabilities(scores, self.scale, self.bias)

    def predict_tags(
        self, images: ImageInput | Sequence[ImageInput], batch_size: int = 64
    ) -> list[dict[str, PredictedTag]]:
        """For every image and entity the most probable value, or none below the entity's threshold.

        Raises:
            E2FashionError: region features that the encoder lacks, or a file that is missing or holds no image.
        """
        for entity in self.entities:  # refused before anything is encoded
            if entity.features != "global":
                region_index(self.encoder, entity.entity)
        return self.tags_of(*image_embeds(self.encoder, images, [item.features for item in self.entities], batch_size))

    def tags_of(self, images: Tensor | None, regions: Tensor | None) -> list[dict[str, PredictedTag]]:
        """As :meth:`predict_tags`, from embeddings of images (N, C) and regions (N, E, C)."""
        columns = []
        for entity in self.entities:
            region = None
            if entity.features != "global" and regions is not None:
                region = regions[:, region_index(self.encoder, entity.entity)]
            columns.append(answers(entity, self.probabilities(entity, images, region)))
        names = [item.entity for item in self.entities]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def answers(entity: TagValues, probabilities: Tensor) -> list[PredictedTag]:
    """The answer for every image, from (N, L)."""
    score, best = probabilities.max(-1)
    predicted = []
    for value, index in zip(score.tolist(), best.tolist(), strict=True):
        sure = entity.threshold is not None and value >= entity.threshold
        name = entity.values[index]
        predicted.append(PredictedTag(name if sure else None, name, value))
    return predicted


def predict_tags(config: TagsPredictConfig) -> tuple[list[tuple[str, dict[str, PredictedTag]]], list[str]]:
    """Every image of ``config`` with its tags, see :meth:`TagPredictor.predict_tags`; of a folder all images below it.

    With ``on_error=skip`` images that cannot be read are left out; the second result says why.

    Raises:
        E2FashionError: no images, one that cannot be read, or none that can, or a model without a ``tags.json``.
    """
    set_threads(config.threads)
    if not config.images:
        raise E2FashionError("Give the images whose tags are wanted: `e2fashion tags predict <model> shirt.jpg ...`.")
    images = list(map(str, image_files(map(Path, config.images))))
    predictor = load_tag_predictor(config.model, config.file, config.threshold)
    to_device(predictor.encoder, config.accelerator)
    skipped: dict[int, str] = {}
    tags: list[dict[str, PredictedTag]] = []
    for start in range(0, len(images), config.batch_size):
        batch = images[start : start + config.batch_size]
        skipping = skipped if config.on_error == "skip" else None
        try:
            squares = read_squares(batch, predictor.encoder.transform, skipping, start)
        except ImageError as error:
            others = "; or leave such images out with on_error=skip" if len(images) > 1 else ""
            raise ImageError(error.reason, error.value, error.remedy + others, error.file) from error
        if squares:
            tags += predictor.predict_tags(torch.stack(squares), config.batch_size)
    if not tags:
        raise E2FashionError(f"none of the {len(images)} images can be read; the first: {next(iter(skipped.values()))}")
    readable = [image for position, image in enumerate(images) if position not in skipped]
    return list(zip(readable, tags, strict=True)), list(skipped.values())


def save_tag_predictor(predictor: TagPredictor, encoder: Encoder, file: Path, made_on: Mapping[str, Any]) -> None:
    """Write a predictor, all or nothing; ``made_on`` says on what its thresholds were chosen."""
    content = {
        "format": FORMAT,
        "model": encoder.name,
        "model_fingerprint": encoder.fingerprint,
        "scale": predictor.scale,
        "bias": predictor.bias,
        **made_on,
        "entities": [asdict(entity) for entity in predictor.entities],
    }
    write_json(file, seal(content))


def load_tag_predictor(
    model: str | Encoder, file: str | Path | None = None, threshold: float | None = None
) -> TagPredictor:
    """The predictor of a model (loaded, or a run's folder) from its ``tags.json``.

    ``file`` None reads the one in the run's folder. ``threshold`` replaces every threshold; 0.0 always answers.

    Raises:
        E2FashionError: no such file, one that is broken or from another version, or one of another model.
    """
    path = Path(file) if file is not None else None
    if path is None:
        if not isinstance(model, str):
            raise E2FashionError(f"tags of the loaded model '{model.name}': name their file, as in file='{NAME}'.")
        path = Path(model) / NAME
    if not path.is_file():
        raise E2FashionError(
            f"There is no {path}: thresholds are chosen on val by `e2fashion tags fit <model> data=<catalogue>`."
        )
    encoder = load_encoder(model) if isinstance(model, str) else model
    content = _read(path)
    if content.model_fingerprint != encoder.fingerprint:
        raise E2FashionError(
            f"{path} belongs to the model '{content.model}', whose weights or way of making a square are not those "
            f"of '{encoder.name}'. Fit tags of this one: `e2fashion tags fit <model> data=<catalogue>`."
        )
    entities = content.entities
    if threshold is not None:
        entities = tuple(replace(entity, threshold=threshold) for entity in entities)
    return TagPredictor(encoder, entities, content.scale, content.bias)


@dataclass(frozen=True)
class _Content:
    """What :func:`load_tag_predictor` reads of the file."""

    model: str
    model_fingerprint: str
    scale: float
    entities: tuple[TagValues, ...]
    bias: float | None = None  # joined later: thresholds of before are those of a softmax


def _read(path: Path) -> _Content:
    content = read_json(path, REMEDY)
    if (version := content.get("format")) != FORMAT:
        raise E2FashionError(f"{path} has the format {version!r}, this version reads {FORMAT}. {REMEDY}")
    read = [item.name for item in fields(_Content)]
    return stored_as(_Content, {key: content[key] for key in read if key in content}, str(path), REMEDY)
