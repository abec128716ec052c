"""The contrast of a product's text with the same text in which one tag is wrong (a control)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from e2fashion.types import Batch, E2FashionError


@dataclass
class SwappedTags:
    """Mean of ``-log softmax`` of an image's similarity with its text against that with its ``swapped`` text.

    The only negative of a product is its own text with one tag changed (:class:`e2fashion.data.swaps.TagSwap`), which
    cannot be true of another image of the batch as such texts of other products may. Products without one do not
    count. It costs a second pass of the texts, in one piece also with ``train.chunk_size``.
    """

    reads_regions: ClassVar[bool] = False
    reads_model: ClassVar[bool] = True

    def __call__(self, output: Any, batch: Batch, model: Any) -> Tensor:
        """The term () of a batch; zero without any swapped text.

        Raises:
            E2FashionError: the batch has no swapped texts, or the model's texts are encoded with tags.
        """
        if batch.swapped_input_ids is None or batch.swapped_present is None:
            raise E2FashionError(
                "the loss term 'swapped_tags' needs batches with swapped texts: give CatalogueDataModule "
                "swap_tags=True, as a run with loss.terms.swapped_tags does"
            )
        if model.reads_tags:
            raise E2FashionError(
                "the loss term 'swapped_tags' encodes texts alone, but model.text_entities adds tags to them: remove "
                "one of the two"
            )
        features = model.get_text_features(batch.swapped_input_ids, batch.swapped_attention_mask, return_dict=True)
        swapped = F.normalize(features.pooler_output.float(), dim=-1)
        ahead = (output.image_embeds.float() * (output.text_embeds.float() - swapped)).sum(-1)
        losses = F.softplus(-output.logit_scale.float().exp() * ahead)
        return losses.masked_fill(~batch.swapped_present, 0.0).sum() / batch.swapped_present.sum().clamp(min=1)
