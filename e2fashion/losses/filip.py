"""FILIP's global term: symmetric InfoNCE over the token similarities of both directions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from e2fashion.losses.functional import info_nce_of_logits
from e2fashion.losses.gather import (
    gather_rows,
    is_distributed,
    largest_over_ranks,
    row_counts,
    sum_over_ranks,
    this_rank,
)
from e2fashion.similarity import is_tokenwise, most_active, pad_tokens, token_similarities, token_similarity
from e2fashion.types import E2FashionError


@dataclass(frozen=True)
class TokenContrast:
    """:func:`token_info_nce` with its options, as the global term of a contrastive loss.

    Raises:
        E2FashionError: ``keep`` is not in (0, 1].
    """

    keep: float = 1.0
    gather: bool = True
    half_precision: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.keep <= 1.0:
            raise E2FashionError(f"token_keep is {self.keep}: choose a share above 0.0, at most 1.0 (all tokens)")

    def __call__(self, image: Tensor, text: Tensor, logit_scale: Tensor) -> Tensor:
        """Images (B, P, C) and texts (B, L, C) to ().

        Raises:
            E2FashionError: they are not tokens.
        """
        if not (is_tokenwise(image) and is_tokenwise(text)):
            raise E2FashionError(
                f"the global term compares tokens (B, T, C), the embeddings have shapes {tuple(image.shape)} and "
                f"{tuple(text.shape)}: use a model with similarity 'tokens', or no TokenContrast"
            )
        return token_info_nce(image, text, logit_scale, self.keep, self.gather, self.half_precision)


def token_info_nce(
    image: Tensor,
    text: Tensor,
    logit_scale: Tensor,
    keep: float = 1.0,
    gather: bool = True,
    half_precision: bool = False,
) -> Tensor:
    """InfoNCE of images (B, P, C) and texts (B, L, C) by their tokens, L2-normalized and zero where absent: ().

    The similarities of the two directions differ, see :mod:`e2fashion.similarity`; products run in autocast's precision
    (fp32 without autocast), means and softmax in fp32.

    FILIP reduces the cost of large batches in two ways, both off by default: ``keep`` is the share of each item's
    tokens to compare, those most similar to any token of the other modality on this process (FILIP: 0.25);
    ``half_precision`` exchanges tokens between processes as bf16. ``gather`` contrasts with the products of all ranks,
    as in :class:`~e2fashion.losses.contrastive.ContrastiveLoss`.
    """
    image, text = most_active(image, text, keep), most_active(text, image, keep)
    scale = logit_scale.float().exp()
    if not (gather and is_distributed()):
        image_to_text, text_to_image = token_similarities(image, text)
        return info_nce_of_logits(scale * image_to_text, scale * text_to_image)
    rows = row_counts(image[:, 0])
    all_images, all_texts = (_gathered(tokens, rows, half_precision) for tokens in (image, text))
    image_to_text, text_to_image = token_similarity(image, all_texts), token_similarity(text, all_images)
    return sum_over_ranks(
        info_nce_of_logits(scale * image_to_text, scale * text_to_image, first=sum(rows[: this_rank()]))
    )


def _gathered(tokens: Tensor, rows: list[int], half_precision: bool) -> Tensor:
    """The tokens of all ranks, padded to the longest item: (B, T, C) -> (sum of rows, longest T, C)."""
    tokens = pad_tokens(tokens, largest_over_ranks(tokens.shape[1], tokens.device))
    return gather_rows(tokens.to(torch.bfloat16) if half_precision else tokens, rows).to(tokens.dtype)
