"""The contrast of texts with what they read of images (a control)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from e2fashion.losses.functional import info_nce_of_logits, sigmoid_of_logits
from e2fashion.types import Batch, E2FashionError


@dataclass
class TextPooled:
    """InfoNCE, or the sigmoid loss, of texts and the image features that are pooled for them, after FLAIR.

    The score of image m and text n is the cosine of the text with what it reads of the image
    (:class:`e2fashion.models.text_pooling.TextPooling`). Negatives are both, as in CLIP's loss: for a text, *other
    images under that text*, which all answer the same query, so that only their content distinguishes them; for an
    image, *the same image under other texts*, so that a text that finds nothing in it must score low. Equal texts are
    positives of each other. A run of several processes is refused: each would lack the negatives of the others.
    """

    reads_regions: ClassVar[bool] = False

    def __call__(self, output: Any, batch: Batch) -> Tensor:
        """The term () of a batch.

        Raises:
            E2FashionError: the model pools nothing.
        """
        similarities = getattr(output, "pooled_similarities", None)
        if similarities is None:
            raise E2FashionError(
                "the loss term 'text_pooling' needs a model that pools patches for texts, in training: build it with "
                "E2Config(text_pooling=True), or train from scratch or from a CLIP with loss.terms.text_pooling"
            )
        logits = output.logit_scale.float().exp() * similarities
        if output.logit_bias is None:
            return info_nce_of_logits(logits, logits.mT, value=batch.text_group)
        return sigmoid_of_logits(logits + output.logit_bias.float(), value=batch.text_group)
