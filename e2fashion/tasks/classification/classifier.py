"""Zero-shot classification of pictures by any encoder: by the whole picture, by an entity's region, or by both."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from e2fashion.encoder import Encoder, ImageInput
from e2fashion.tasks.classification.zero_shot import SLOT, Labels, class_embeddings, label_scores, named_labels
from e2fashion.types import E2FashionError

FEATURES = ("global", "region", "both")
"""What of a picture is compared with a label: its embedding, its entity's region embedding, or a mean of the two."""

REGION_WEIGHT = 0.5
"""The region's share in ``both`` where nobody chose one; :mod:`e2fashion.tasks.classification.region_weight` does."""


@dataclass(frozen=True)
class LabelEmbeds:
    """Embeddings of L labels: as the whole picture's text (L, C), and as the entity's tag (L, C).

    Each is None where it is not compared; the first are tokens (L, T, C) for a model that compares those.
    """

    whole: Tensor | None
    tag: Tensor | None

    def scores(self, images: Tensor | None, regions: Tensor | None, region_weight: float = REGION_WEIGHT) -> Tensor:
        """Cosines (N, L) of pictures (N, C) and of their entity's regions (N, C).

        Of both the mean, in which the region has the share ``region_weight``. Softmax over it is the normalised
        geometric mean of the two softmaxes: the two agree or neither is sure.
        """
        return weighted_scores(*self.parts(images, regions), region_weight)

    def parts(self, images: Tensor | None, regions: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """The cosines (N, L) of pictures and of regions apart; None for what is not compared."""
        whole = label_scores(images, self.whole) if self.whole is not None and images is not None else None
        tag = label_scores(regions, self.tag) if self.tag is not None and regions is not None else None
        return whole, tag

    def indistinct(self) -> int:
        """How many labels have the embedding of an earlier one in all that is compared: no picture tells them apart.

        A tokenizer that lacks their words makes such labels.
        """
        compared = [own.flatten(1) for own in (self.whole, self.tag) if own is not None]
        rows = torch.cat(compared, dim=1).round(decimals=5)
        return len(rows) - len(rows.unique(dim=0))


def weighted_scores(whole: Tensor | None, tag: Tensor | None, region_weight: float) -> Tensor:
    """The one there is of two (N, L), or their mean in which ``tag`` has the share ``region_weight``."""
    if tag is None:
        assert whole is not None  # one of the two is compared
        return whole
    return tag if whole is None else (1 - region_weight) * whole + region_weight * tag


def picture_embeds(
    encoder: Encoder, images: ImageInput | Sequence[ImageInput], kinds: Collection[str], batch_size: int
) -> tuple[Tensor | None, Tensor | None]:
    """What ``kinds`` of features need: embeddings (N, C) and of regions (N, E, C); one pass even where both are."""
    whole, regional = bool(set(kinds) - {"region"}), bool(set(kinds) - {"global"})
    if whole and regional:
        return encoder.embed_images_and_regions(images, batch_size)
    if regional:
        return None, encoder.embed_regions(images, batch_size)
    return encoder.embed_images(images, batch_size), None


def check_region_weight(weight: float) -> None:
    """Raise an E2FashionError for a share that is none."""
    if not 0 <= weight <= 1:
        raise E2FashionError(f"region_weight is {weight:g}; give the region's share in features=both, from 0 to 1.")


def check_features(features: str) -> None:
    """Raise an E2FashionError for features that there are not."""
    if features not in FEATURES:
        raise E2FashionError(f"features is '{features}'; choose from {', '.join(FEATURES)}.")


def region_place(encoder: Encoder, entity: str | None) -> int:
    """The place of an entity among the encoder's; of its only one where none is named.

    Raises:
        E2FashionError: the encoder has no entities, or none of that name, or several and none is named.
    """
    names = [own.name for own in encoder.entities]
    if entity in names:
        return names.index(entity)
    if entity is None and len(names) == 1:
        return 0
    if not names:
        raise E2FashionError(
            f"'{encoder.name}' has no region features: it is a plain CLIP without entities. Write features='global'."
        )
    asked = "which entity's region is meant" if entity is None else f"no entity '{entity}'"
    raise E2FashionError(f"'{encoder.name}': {asked}; name one of its entities: {', '.join(names)}.")


def embed_labels(
    encoder: Encoder,
    words: Sequence[str],
    features: str = "global",
    templates: Sequence[str] = (SLOT,),
    region_templates: Sequence[str] = (SLOT,),
) -> LabelEmbeds:
    """What ``features`` compares with pictures: each label's mean over the templates, normalised.

    The tag's own templates are apart: in training a region meets the bare tag, a picture a whole text.

    Raises:
        E2FashionError: unknown features, or what :func:`.zero_shot.fill_templates` refuses.
    """
    check_features(features)
    whole = class_embeddings(encoder.embed_texts, words, templates) if features != "region" else None
    tag = class_embeddings(encoder.embed_tags, words, region_templates) if features != "global" else None
    return LabelEmbeds(whole, tag)


@dataclass(frozen=True)
class Classification:
    """``labels``: the nearest one of each of N pictures; ``scores`` (N, L): cosines to all, in the order of ``names``.

    ``templates`` are those that the scores come from.
    """

    labels: list[str]
    scores: Tensor
    names: tuple[str, ...]
    templates: tuple[str, ...]


@dataclass(frozen=True)
class ZeroShotClassifier:
    """Any encoder as a classifier of pictures by names that it was never trained to tell apart."""

    encoder: Encoder

    def classify(
        self,
        images: ImageInput | Sequence[ImageInput],
        labels: Labels,
        templates: Sequence[str] = (SLOT,),
        features: str = "global",
        entity: str | None = None,
        region_templates: Sequence[str] = (SLOT,),
        batch_size: int = 64,
        region_weight: float = REGION_WEIGHT,
    ) -> Classification:
        """The nearest label of each picture.

        Args:
            images: pictures in memory or their files, as they are.
            labels: names of the classes, or a mapping of names to the words that go into the templates.
            templates: texts with a slot ``{}``; a label's embedding is the mean over them. They change the results.
            features: ``global``; of an E2 also ``region`` (that of ``entity``) or ``both`` (a mean of the scores).
            entity: whose region; may be left out of an E2 with one entity.
            region_templates: as ``templates``, for what regions are compared with.
            batch_size: pictures that are embedded at once.
            region_weight: the region's share in ``both``; ``e2fashion classify`` chooses it on val.

        Raises:
            E2FashionError: no labels, a label twice or empty, a template without a slot, a share beyond 0 to 1,
                region features of an encoder without that entity, or a file that is missing or holds no picture.
        """
        names, words = named_labels(labels)
        check_features(features)
        check_region_weight(region_weight)
        place = region_place(self.encoder, entity) if features != "global" else 0
        embeds = embed_labels(self.encoder, words, features, templates, region_templates)
        whole, regions = picture_embeds(self.encoder, images, [features], batch_size)
        scores = embeds.scores(whole, None if regions is None else regions[:, place], region_weight)
        used = templates if features == "global" else region_templates if features == "region" else None
        listed = dict.fromkeys(used if used is not None else (*templates, *region_templates))
        return Classification([names[best] for best in scores.argmax(-1)], scores, tuple(names), tuple(listed))
