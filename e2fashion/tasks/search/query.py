"""A text, a picture or both as one vector."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from e2fashion.encoder import Encoder, ImageInput, require_single_vectors
from e2fashion.types import E2FashionError


def encode_query(
    encoder: Encoder, text: str | None = None, image: ImageInput | None = None, weight: float = 0.5
) -> Tensor:
    """The L2-normalised ``weight`` x text + (1 - ``weight``) x picture, or of what is given the embedding: (1, C).

    Raises:
        E2FashionError: nothing is given, the text is blank, the weight is no share, or the encoder compares tokens.
    """
    require_single_vectors(encoder, "search")
    if text is not None and not text.strip():
        raise E2FashionError("the text of the query is empty: say what to look for")
    if text is None and image is None:
        raise E2FashionError("there is nothing to look for: give a text, a picture or both")
    if not 0.0 <= weight <= 1.0:
        raise E2FashionError(f"weight is {weight}; give the text's share, from 0 (picture alone) to 1 (text alone)")
    if image is None:
        return encoder.embed_texts(text or "")
    if text is None:
        return encoder.embed_images(image)
    return F.normalize(weight * encoder.embed_texts(text) + (1 - weight) * encoder.embed_images(image), dim=-1)
