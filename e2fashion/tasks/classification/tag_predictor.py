"""Tags of pictures by any encoder: for every entity the nearest value, or no answer where it is not sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from e2fashion.encoder import Encoder, ImageInput
from e2fashion.tasks.classification.classifier import (
    REGION_WEIGHT,
    LabelEmbeds,
    embed_labels,
    picture_embeds,
    region_place,
)
from e2fashion.tasks.classification.zero_shot import SLOT
from e2fashion.types import E2FashionError

#: Of a threshold: fewer answered pictures than these say nothing about accuracy (ours).
FEWEST_ANSWERS = 20


@dataclass(frozen=True)
class TagValues:
    """The values of one entity to choose from, how they are compared, and when to keep silent.

    ``features`` as in :data:`.classifier.FEATURES`, and ``region_weight`` the region's share in
    ``both``. A value is answered when its probability is at least ``threshold``: 0.0 always answers, None never does.
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


def tag_probabilities(scores: Tensor, scale: float) -> Tensor:
    """Cosines (N, L) to the probabilities that training with the inverse temperature ``scale`` gives them."""
    return (scale * scores).softmax(-1)


def choose_threshold(score: Tensor, right: Tensor, accuracy: float, fewest: int = FEWEST_ANSWERS) -> float | None:
    """The lowest threshold from which on the share ``accuracy`` (0 to 1) of the answers is right; None without any.

    ``score`` (N,) are the probabilities of the best values and ``right`` (N,) bool whether they are true, of products
    that have no part in what is reported. Equal scores are answered together, and never fewer than ``fewest``.
    """
    if not 0 <= accuracy <= 1:
        raise E2FashionError(f"the accuracy to reach is {accuracy:g}; give a share from 0 to 1.")
    order = score.argsort(descending=True, stable=True)
    ordered, hits = score[order], right[order].double().cumsum(0)
    answered = torch.arange(1, len(score) + 1)
    ends = torch.ones(len(score), dtype=torch.bool)
    ends[:-1] = ordered[:-1] > ordered[1:]  # a threshold cannot part equal scores
    enough = ends & (answered >= fewest) & (hits / answered >= accuracy - 1e-12)
    places = enough.nonzero().flatten()
    return float(ordered[places[-1]]) if len(places) else None


@dataclass
class TagPredictor:
    """Any encoder with the values of its entities; ``scale`` is the inverse temperature of its probabilities."""

    encoder: Encoder
    entities: Sequence[TagValues]
    scale: float = 100.0
    _embeds: dict[str, LabelEmbeds] = field(default_factory=dict, repr=False)

    def embeds(self, entity: TagValues) -> LabelEmbeds:
        """The embeddings of an entity's values, computed once."""
        if entity.entity not in self._embeds:
            self._embeds[entity.entity] = embed_labels(
                self.encoder, entity.values, entity.features, entity.templates, entity.region_templates
            )
        return self._embeds[entity.entity]

    def probabilities(self, entity: TagValues, images: Tensor | None, regions: Tensor | None) -> Tensor:
        """Of every value of an entity, from embeddings (N, C) of pictures and of the entity's regions: (N, L)."""
        return tag_probabilities(self.embeds(entity).scores(images, regions, entity.region_weight), self.scale)

    def predict_tags(
        self, images: ImageInput | Sequence[ImageInput], batch_size: int = 64
    ) -> list[dict[str, PredictedTag]]:
        """For every picture and entity the most probable value, or none below the entity's threshold.

        Raises:
            E2FashionError: region features that the encoder lacks, or a file that is missing or holds no picture.
        """
        places = {
            own.entity: region_place(self.encoder, own.entity) for own in self.entities if own.features != "global"
        }
        whole, regions = picture_embeds(self.encoder, images, [own.features for own in self.entities], batch_size)
        columns = []
        for entity in self.entities:
            own = regions[:, places[entity.entity]] if regions is not None and entity.entity in places else None
            columns.append(answers(entity, self.probabilities(entity, whole, own)))
        return [
            dict(zip((own.entity for own in self.entities), row, strict=True)) for row in zip(*columns, strict=True)
        ]


def answers(entity: TagValues, probabilities: Tensor) -> list[PredictedTag]:
    """What is said of every picture, from (N, L)."""
    score, best = probabilities.max(-1)
    found = []
    for value, place in zip(score.tolist(), best.tolist(), strict=True):
        sure = entity.threshold is not None and value >= entity.threshold
        name = entity.values[place]
        found.append(PredictedTag(name if sure else None, name, value))
    return found
