"""E2 or CLIP behind the interface of OpenAI's ``clip`` package, which captioning and retrieval code expects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from e2fashion.data.decode import read_pixels
from e2fashion.data.transforms import ImageTransform, normalize
from e2fashion.encoder import Encoder, ImageInput, load_encoder, require_single_vectors
from e2fashion.models.modeling_e2 import E2Model
from e2fashion.types import E2FashionError


@dataclass(frozen=True)
class Preprocess:
    """A picture, or its file, to normalised pixels (3, H, W) float32: upright, on white, square as in training."""

    transform: ImageTransform

    def __call__(self, picture: ImageInput) -> Tensor:
        """See the class."""
        square = self.transform(read_pixels(picture))
        return normalize(square[None], self.transform.mean, self.transform.std)[0]


@dataclass(frozen=True)
class VisualFacts:
    """What code reads from OpenAI's ``model.visual``: pixels of a side, and the width C of the joint space."""

    input_resolution: int
    output_dim: int


class OpenAIStyleModel(nn.Module):
    """``encode_image`` and ``encode_text`` give plain tensors that are **not** normalised, as in OpenAI's package."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        require_single_vectors(encoder, "the interface of OpenAI's clip")
        self.model = encoder.model
        self.tokenizer = encoder.tokenizer
        self.context_length = encoder.context_length
        self.visual = VisualFacts(encoder.transform.size, encoder.dimension)
        # The last layer alone for the tokens that are read: the same features for less work.
        self._options: dict[str, Any] = {"complete_states": False} if isinstance(encoder.model, E2Model) else {}

    @property
    def logit_scale(self) -> Tensor:
        """Log of the inverse temperature, ()."""
        return self.model.logit_scale

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the weights."""
        return self.model.dtype

    @property
    def vocab_size(self) -> int:
        """Number of distinct tokens."""
        return len(self.tokenizer)

    def encode_image(self, image: Tensor) -> Tensor:
        """Normalised pixels (B, 3, H, W) to features (B, C)."""
        return self.model.get_image_features(pixel_values=image.to(self.dtype), **self._options).pooler_output

    def encode_text(self, text: Tensor) -> Tensor:
        """Token ids (B, L), padded with anything behind the end token, to features (B, C)."""
        return self.model.get_text_features(input_ids=text.long(), **self._options).pooler_output

    def encode_regions(self, image: Tensor) -> Tensor:
        """Normalised pixels (B, 3, H, W) to region features (B, E, C); not in OpenAI's package.

        Raises:
            E2FashionError: a plain CLIP, which has no regions.
        """
        if not isinstance(self.model, E2Model) or not self.model.config.vision_config.entity_list:
            raise E2FashionError("this model has no entities, so no regions to encode: load an E2")
        return self.model.get_region_features(image.to(self.dtype))

    def tokenize(self, texts: str | Sequence[str], context_length: int | None = None, truncate: bool = False) -> Tensor:
        """Texts to token ids (N, L) int64 between start and end token, zeros behind; L is ``context_length``.

        Raises:
            E2FashionError: a text is longer, and ``truncate`` (which keeps the end token) is False.
        """
        listed = [texts] if isinstance(texts, str) else list(texts)
        length = self.context_length if context_length is None else context_length
        ids = torch.zeros(len(listed), length, dtype=torch.int64)
        for row, text in zip(ids, listed, strict=True):
            tokens = self.tokenizer(text, truncation=truncate, max_length=length if truncate else None, verbose=False)
            found = tokens["input_ids"]
            if len(found) > length:
                raise E2FashionError(
                    f"'{text[:60]}' has {len(found)} tokens, and the context length is {length}: shorten it, or give "
                    "truncate=True"
                )
            row[: len(found)] = torch.tensor(found)
        return ids

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Logits per image (B, N) and per text (N, B), from cosine similarities."""
        images = nn.functional.normalize(self.encode_image(image), dim=-1)
        texts = nn.functional.normalize(self.encode_text(text), dim=-1)
        logits = self.logit_scale.exp() * images @ texts.t()
        return logits, logits.t()


def load(name: str, device: torch.device | str = "cpu") -> tuple[OpenAIStyleModel, Preprocess]:
    """A model in evaluation mode and its ``preprocess``, as ``clip.load`` gives them.

    ``name`` is a run folder, a model folder, or the hub name of any CLIP. Texts go through ``model.tokenize``.

    Raises:
        E2FashionError: there is no model, or it compares tokens (FILIP).
    """
    encoder = load_encoder(str(name))
    return OpenAIStyleModel(encoder).to(device).eval(), Preprocess(encoder.transform)
