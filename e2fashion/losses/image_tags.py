"""The tags of a product contrasted with the feature of its whole image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from einops import repeat
from torch import Tensor

from e2fashion.losses.contrastive import ContrastiveLoss
from e2fashion.losses.terms import LOSS_TERMS
from e2fashion.types import Batch


@dataclass
class ImageTags:
    """Mean over entities of the contrast of tags and image features, equal tags being positives (ours).

    Selection tokens are not involved: the term teaches the two towers which tags an image has.
    """

    reads_regions: ClassVar[bool] = False

    def __call__(self, output: Any, batch: Batch) -> Tensor:
        """The term () of a batch; zero without entities."""
        entities = output.tag_embeds.shape[1]
        loss = ContrastiveLoss([str(number) for number in range(entities)], 1.0, "same_value")
        return loss(
            image_embeds=output.image_embeds,
            text_embeds=output.text_embeds,
            region_embeds=repeat(output.image_embeds, "b c -> b e c", e=entities),
            tag_embeds=output.tag_embeds,
            tag_present=batch.tag_present[:, :entities],
            tag_value=batch.tag_value[:, :entities],
            logit_scale=output.logit_scale,
            logit_bias=output.logit_bias,
        ).total


LOSS_TERMS["image_tags"] = ImageTags
