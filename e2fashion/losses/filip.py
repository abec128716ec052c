"""FILIP's global term: InfoNCE or the sigmoid loss over the token similarities of both directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from e2fashion.losses.functional import info_nce_of_logits, sigmoid_of_logits
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
    chunk_size: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.keep <= 1.0:
            raise E2FashionError(f"token_keep is {self.keep}: choose a share above 0.0, at most 1.0 (all tokens)")

    def __call__(self, image: Tensor, text: Tensor, logit_scale: Tensor, logit_bias: Tensor | None = None) -> Tensor:
        """Images (B, P, C) and texts (B, L, C) to ().

        Raises:
            E2FashionError: they are not tokens.
        """
        if not (is_tokenwise(image) and is_tokenwise(text)):
            raise E2FashionError(
                f"the global term compares tokens (B, T, C), the embeddings have shapes {tuple(image.shape)} and "
                f"{tuple(text.shape)}: use a model with similarity 'tokens', or no TokenContrast"
            )
        return token_info_nce(
            image, text, logit_scale, self.keep, self.gather, self.half_precision, logit_bias, self.chunk_size
        )


def token_info_nce(
    image: Tensor,
    text: Tensor,
    logit_scale: Tensor,
    keep: float = 1.0,
    gather: bool = True,
    half_precision: bool = False,
    logit_bias: Tensor | None = None,
    chunk_size: int | None = None,
) -> Tensor:
    """InfoNCE of images (B, P, C) and texts (B, L, C) by their tokens, L2-normalized and zero where absent: ().

    The similarities of the two directions differ, see :mod:`e2fashion.similarity`; products run in autocast's precision
    (fp32 without autocast), means and softmax in fp32. With a ``logit_bias`` () it is the mean of the two directions'
    sigmoid losses (:func:`~e2fashion.losses.functional.sigmoid_share`).

    FILIP reduces the cost of large batches in two ways, both off by default: ``keep`` is the share of each item's
    tokens to compare, those most similar to any token of the other modality on this process (FILIP: 0.25);
    ``half_precision`` exchanges tokens between processes as bf16. ``gather`` contrasts with the products of all ranks,
    as in :class:`~e2fashion.losses.contrastive.ContrastiveLoss`. ``chunk_size`` is the number of items whose products
    with all others are in memory at a time (None: all); they are computed again for the gradient.
    """
    image, text = most_active(image, text, keep), most_active(text, image, keep)
    scale = logit_scale.float().exp()
    distributed, first = gather and is_distributed(), 0
    if distributed:
        rows = row_counts(image[:, 0])
        first = sum(rows[: this_rank()])
        all_images, all_texts = (_gathered(tokens, rows, half_precision) for tokens in (image, text))
        (image_to_text,) = _in_chunks(lambda part: (token_similarity(part, all_texts),), image, chunk_size)
        (text_to_image,) = _in_chunks(lambda part: (token_similarity(part, all_images),), text, chunk_size)
    else:
        image_to_text, back = _in_chunks(lambda part: _both_directions(part, text), image, chunk_size)
        text_to_image = back.mT
    if logit_bias is None:
        loss = info_nce_of_logits(scale * image_to_text, scale * text_to_image, first)
    else:
        directions = (scale * item + logit_bias.float() for item in (image_to_text, text_to_image))
        loss = torch.stack([sigmoid_of_logits(logits, first=first) for logits in directions]).mean()
    return sum_over_ranks(loss) if distributed else loss


def _both_directions(image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    """Similarities of images to texts and of texts to images, a row per image in both: (M, N)."""
    image_to_text, text_to_image = token_similarities(image, text)
    return image_to_text, text_to_image.mT


def _in_chunks(
    compare: Callable[[Tensor], tuple[Tensor, ...]], items: Tensor, chunk_size: int | None
) -> tuple[Tensor, ...]:
    """The rows that ``compare`` yields for ``items``, ``chunk_size`` of them at a time."""
    if chunk_size is None or chunk_size >= len(items):
        return compare(items)
    parts = [checkpoint(compare, part, use_reentrant=False) for part in items.split(chunk_size)]
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


def _gathered(tokens: Tensor, rows: list[int], half_precision: bool) -> Tensor:
    """The tokens of all ranks, padded to the longest item: (B, T, C) -> (sum of rows, longest T, C)."""
    tokens = pad_tokens(tokens, largest_over_ranks(tokens.shape[1], tokens.device))
    return gather_rows(tokens.to(torch.bfloat16) if half_precision else tokens, rows).to(tokens.dtype)
