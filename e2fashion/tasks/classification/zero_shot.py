"""Zero-shot classification: the label whose text lies nearest to the picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from e2fashion.similarity import is_tokenwise, token_similarity
from e2fashion.types import E2FashionError

EmbedTexts = Callable[[Sequence[str]], Tensor]
"""Texts to L2-normalised embeddings (N, C), as ``Encoder.embed_texts``."""

SLOT = "{}"

Labels = Sequence[str] | Mapping[str, str]
"""Names of classes, or names with the words that stand for each in a template."""


def named_labels(labels: Labels) -> tuple[list[str], list[str]]:
    """The names of the classes, and the words that stand for each.

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
    if doubled := next((label for label in labels if list(labels).count(label) > 1), None):
        raise E2FashionError(f"the label '{doubled}' occurs more than once: each class needs a name of its own")
    if not all(label.strip() for label in labels):
        raise E2FashionError("a label is empty: each class needs a name")
    if not templates:
        raise E2FashionError(f"there are no templates: '{SLOT}' alone is the plain label")
    for template in templates:
        if SLOT not in template:
            raise E2FashionError(f"the template '{template}' has no slot: write {SLOT} where the label goes")
    return [template.replace(SLOT, label) for label in labels for template in templates]


def class_embeddings(embed_texts: EmbedTexts, labels: Sequence[str], templates: Sequence[str] = (SLOT,)) -> Tensor:
    """One L2-normalised embedding per label, the mean over its templates (CLIP's ensemble): (labels, C) fp32.

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
    """How near every label is to every picture: (N, C) and (labels, C), normalised, to cosines (N, labels) fp32.

    Or tokens (N, P, C) and (labels, L, C), compared as :mod:`e2fashion.similarity` says.
    """
    if not is_tokenwise(label_embeds):
        return image_embeds @ label_embeds.T
    parts = [token_similarity(rows, label_embeds) for rows in image_embeds.split(16)]
    return torch.cat(parts) if parts else torch.empty(0, len(label_embeds))
