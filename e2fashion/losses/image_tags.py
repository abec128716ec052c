"""The contrast of tags with the feature of the whole image (a control)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from einops import repeat
from torch import Tensor

from e2fashion.losses.contrastive import ContrastiveLoss
from e2fashion.types import Batch, E2FashionError

LARGEST = 8
"""Entities whose subsets, all 255 of them, still cost little beside a training step."""

MIXER = 6364136223846793005
"""Odd 64-bit factor that keeps the identifiers of two sets of values apart (of Knuth's MMIX generator)."""


@dataclass
class ImageTags:
    """Mean over entities of the contrast of tags and image features, equal tags being positives (ours).

    Selection tokens are not involved: the term teaches the two towers which tags an image has.
    """

    reads_regions: ClassVar[bool] = False

    subsets: bool = False
    """Contrast every set of entities, the single ones included: its text feature is the normalized mean of its tags',
    and products with the same values of all of them are positives. The mean over all sets is the expectation of a
    random subset of the tags."""

    def __call__(self, output: Any, batch: Batch) -> Tensor:
        """The term () of a batch; zero without entities.

        Raises:
            E2FashionError: there are too many entities for all of their subsets.
        """
        entities = output.tag_embeds.shape[1]
        tags, present, value = output.tag_embeds, batch.tag_present[:, :entities], batch.tag_value[:, :entities]
        if self.subsets and entities:
            if entities > LARGEST:
                raise E2FashionError(
                    f"subsets of the loss term 'image_tags' contrasts every set of entities, and {entities} entities "
                    f"have {2**entities - 1:,}: name at most {LARGEST}, or set it to false"
                )
            chosen = [list(c) for size in range(1, entities + 1) for c in combinations(range(entities), size)]
            tags = torch.stack([F.normalize(tags[:, c].float().sum(1), dim=-1) for c in chosen], 1)
            present = torch.stack([present[:, c].all(1) for c in chosen], 1)
            value = torch.stack([_joint_value(value[:, c]) for c in chosen], 1)
        sets = tags.shape[1]
        loss = ContrastiveLoss([str(number) for number in range(sets)], 1.0, "same_value")
        return loss(
            image_embeds=output.image_embeds,
            text_embeds=output.text_embeds,
            region_embeds=repeat(output.image_embeds, "b c -> b s c", s=sets),
            tag_embeds=tags,
            tag_present=present,
            tag_value=value,
            logit_scale=output.logit_scale,
            logit_bias=output.logit_bias,
        ).total


def _joint_value(value: Tensor) -> Tensor:
    """Identifiers (B,) of rows of identifiers (B, n), int64: equal where all n are, on every rank."""
    joint = value[:, 0]
    for column in value[:, 1:].unbind(1):
        joint = joint * MIXER + column
    return joint
