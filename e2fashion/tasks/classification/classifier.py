"""Zero-shot classification of images by any encoder: by the whole image, by an entity's region, or by both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from e2fashion.encoder import Encoder, ImageInput
from e2fashion.features import check_kinds
from e2fashion.similarity import is_tokenwise, token_similarity
from e2fashion.types import E2FashionError

REGION_WEIGHT = 0.5
"""The region's share in ``both`` where none is chosen; :func:`.classify.choose_region_weight` chooses it on val."""

EmbedTexts = Callable[[Sequence[str]], Tensor]
"""Texts to L2-normalized embeddings (N, C), as ``Encoder.embed_texts``."""

SLOT = "{}"

Labels = Sequence[str] | Mapping[str, str]
"""Names of classes, or names with the text that replaces each in a template."""


def named_labels(labels: Labels) -> tuple[list[str], list[str]]:
    """The names of the classes, and the text of each in a template.

    Raises:
        E2FashionError: one text instead of a list of them.
    """
    if isinstance(labels, str):
        raise E2FashionError(f"labels is the text '{labels}'; give a list of names, as in ['shirt', 'shoe']")
    names = list(labels)
    return names, [labels[name] for name in names] if isinstance(labels, Mapping) else names


def fill_templates(labels: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Every label in every template, label by label.

    Raises:
        E2FashionError: no labels, a label twice or empty, no templates, or a template without its slot ``{}``.
    """
    if isinstance(templates, str):
        raise E2FashionError(f"templates is the text '{templates}'; give a list of them, as in ['{templates}']")
    if not labels:
        raise E2FashionError("there are no labels: give the names of the classes to choose from")
    counts = Counter(labels)
    if doubled := next((label for label in labels if counts[label] > 1), None):
        raise E2FashionError(f"the label '{doubled}' occurs more than once: each class needs another name")
    if not all(label.strip() for label in labels):
        raise E2FashionError("a label is empty: each class needs a name")
    if not templates:
        raise E2FashionError(f"there are no templates: '{SLOT}' alone is the plain label")
    for template in templates:
        if SLOT not in template:
            raise E2FashionError(f"the template '{template}' has no slot: write {SLOT} where the label goes")
    return [template.replace(SLOT, label) for label in labels for template in templates]


def class_embeddings(embed_texts: EmbedTexts, labels: Sequence[str], templates: Sequence[str] = (SLOT,)) -> Tensor:
    """One L2-normalized embedding per label, the mean over its templates (CLIP's ensemble): (labels, C) fp32.

    Of a model that compares tokens: the label's tokens (labels, L, C), with one template.

    Raises:
        E2FashionError: several templates for such a model, whose tokens have no mean.
    """
    embeds = embed_texts(fill_templates(labels, templates)).float()
    if is_tokenwise(embeds):
        if len(templates) > 1:
            raise E2FashionError(
                f"{len(templates)} templates for a model that compares tokens, which cannot be averaged: give one"
            )
        return embeds
    means = rearrange(embeds, "(labels templates) c -> labels templates c", templates=len(templates)).mean(1)
    return F.normalize(means, dim=-1)


def label_scores(image_embeds: Tensor, label_embeds: Tensor) -> Tensor:
    """Similarity of every image and every label: (N, C) and (labels, C), normalized, to cosines (N, labels) fp32.

    Or tokens (N, P, C) and (labels, L, C), compared as :mod:`e2fashion.similarity` says.
    """
    if not is_tokenwise(label_embeds):
        return image_embeds @ label_embeds.T
    parts = [token_similarity(rows, label_embeds) for rows in image_embeds.split(16)]
    return torch.cat(parts) if parts else torch.empty(0, len(label_embeds))


@dataclass(frozen=True)
class LabelEmbeds:
    """Embeddings of L labels: as the whole image's text (L, C), and as the entity's tag (L, C).

    Each is None where it is not compared; the first are tokens (L, T, C) for a model that compares those.
    """

    whole: Tensor | None
    tag: Tensor | None

    def scores(self, images: Tensor | None, regions: Tensor | None, region_weight: float = REGION_WEIGHT) -> Tensor:
        """Cosines (N, L) of images (N, C) and of their entity's regions (N, C).

        Of both the mean, in which the region has the share ``region_weight``. Softmax over it is the normalized
        geometric mean of the two softmaxes.
        """
        return weighted_scores(*self.parts(images, regions), region_weight)

    def parts(self, images: Tensor | None, regions: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """The cosines (N, L) of images and of regions; None for what is not compared."""
        whole = label_scores(images, self.whole) if self.whole is not None and images is not None else None
        tag = label_scores(regions, self.tag) if self.tag is not None and regions is not None else None
        return whole, tag

    def indistinct(self) -> int:
        """How many labels have the embedding of an earlier one, so that no image can distinguish them.

        This happens to labels whose words are not in the tokenizer's vocabulary.
        """
        compared = [embeds.flatten(1) for embeds in (self.whole, self.tag) if embeds is not None]
        rows = torch.cat(compared, dim=1).round(decimals=5)
        return len(rows) - len(rows.unique(dim=0))


def weighted_scores(whole: Tensor | None, tag: Tensor | None, region_weight: float) -> Tensor:
    """The one there is of two (N, L), or their mean in which ``tag`` has the share ``region_weight``."""
    if tag is None:
        assert whole is not None  # one of the two is compared
        return whole
    return tag if whole is None else (1 - region_weight) * whole + region_weight * tag


def image_embeds(
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
    """Raise an E2FashionError for a share outside 0 to 1."""
    if not 0 <= weight <= 1:
        raise E2FashionError(f"region_weight is {weight:g}; give the region's share in features=both, from 0 to 1.")


def region_index(encoder: Encoder, entity: str | None) -> int:
    """The index of an entity among the encoder's; of its only one where none is named.

    Raises:
        E2FashionError: the encoder has no entities, or none of that name, or several and none is named.
    """
    names = [item.name for item in encoder.entities]
    if entity in names:
        return names.index(entity)
    if entity is None and len(names) == 1:
        return 0
    if not names:
        raise E2FashionError(
            f"'{encoder.name}' has no region features: it was trained without entities. Write features='global'."
        )
    problem = "which entity's region is meant" if entity is None else f"no entity '{entity}'"
    raise E2FashionError(f"'{encoder.name}': {problem}; name one of its entities: {', '.join(names)}.")


def embed_labels(
    encoder: Encoder,
    labels: Sequence[str],
    features: str = "global",
    templates: Sequence[str] = (SLOT,),
    region_templates: Sequence[str] = (SLOT,),
) -> LabelEmbeds:
    """What ``features`` compares with images: each label's mean over the templates, normalized.

    Regions have separate templates: in training a region is matched with the bare tag, an image with a whole text.

    Raises:
        E2FashionError: unknown features, or what :func:`fill_templates` refuses.
    """
    check_kinds([features], (), encoder)
    whole = class_embeddings(encoder.embed_texts, labels, templates) if features != "region" else None
    tag = class_embeddings(encoder.embed_tags, labels, region_templates) if features != "global" else None
    return LabelEmbeds(whole, tag)


@dataclass(frozen=True)
class Classification:
    """``labels``: the nearest one of each of N images; ``scores`` (N, L): cosines to all, in the order of ``names``.

    ``templates`` are those that the scores come from.
    """

    labels: list[str]
    scores: Tensor
    names: tuple[str, ...]
    templates: tuple[str, ...]


@dataclass(frozen=True)
class ZeroShotClassifier:
    """Any encoder as a classifier of images by names that it was never trained on."""

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
        """The nearest label of each image.

        Args:
            images: images in memory or their files, as they are.
            labels: names of the classes, or a mapping of names to the texts that go into the templates.
            templates: texts with a slot ``{}``; a label's embedding is the mean over them. They change the results.
            features: ``global``; of an E2 also ``region`` (that of ``entity``) or ``both`` (a mean of the scores).
            entity: whose region; may be left out of an E2 with one entity.
            region_templates: as ``templates``, for what regions are compared with.
            batch_size: images that are embedded at once.
            region_weight: the region's share in ``both``; ``e2fashion classify`` chooses it on val.

        Raises:
            E2FashionError: no labels, a label twice or empty, a template without a slot, a share beyond 0 to 1,
                region features of an encoder without that entity, or a file that is missing or holds no image.
        """
        names, texts = named_labels(labels)
        check_kinds([features], (), self.encoder)
        check_region_weight(region_weight)
        index = region_index(self.encoder, entity) if features != "global" else 0
        embeds = embed_labels(self.encoder, texts, features, templates, region_templates)
        whole, regions = image_embeds(self.encoder, images, [features], batch_size)
        scores = embeds.scores(whole, None if regions is None else regions[:, index], region_weight)
        used = templates if features == "global" else region_templates if features == "region" else None
        listed = dict.fromkeys(used if used is not None else (*templates, *region_templates))
        return Classification([names[best] for best in scores.argmax(-1)], scores, tuple(names), tuple(listed))
