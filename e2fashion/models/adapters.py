"""E2 or CLIP behind the interface of OpenAI's ``clip`` package, which captioning and retrieval code expects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPProcessor

from e2fashion.models.from_clip import checked_source
from e2fashion.models.modeling_e2 import E2Model

Preprocess = Callable[[Image.Image], Tensor]
Tokenize = Callable[[str | Sequence[str]], Tensor]


class OpenAIStyleEncoder(nn.Module):
    """``encode_image`` and ``encode_text`` give plain tensors that are **not** normalised, as in OpenAI's package."""

    def __init__(self, model: E2Model) -> None:
        super().__init__()
        self.model = model

    @property
    def logit_scale(self) -> Tensor:
        """Log of the inverse temperature, ()."""
        return self.model.logit_scale

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the weights."""
        return self.model.dtype

    @property
    def context_length(self) -> int:
        """Longest text in tokens."""
        return self.model.config.text_config.max_position_embeddings

    def encode_image(self, image: Tensor) -> Tensor:
        """Normalised pixels (B, 3, H, W) to features (B, C)."""
        return self.model.get_image_features(image.to(self.dtype), complete_states=False).pooler_output

    def encode_text(self, text: Tensor) -> Tensor:
        """Token ids (B, L), padded with anything behind the end token, to features (B, C)."""
        return self.model.get_text_features(text, complete_states=False).pooler_output

    def encode_regions(self, image: Tensor) -> Tensor:
        """Normalised pixels (B, 3, H, W) to region features (B, E, C); not in OpenAI's package."""
        return self.model.get_region_features(image.to(self.dtype))

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Logits per image (B, N) and per text (N, B), from cosine similarities."""
        images = nn.functional.normalize(self.encode_image(image), dim=-1)
        texts = nn.functional.normalize(self.encode_text(text), dim=-1)
        logits = self.logit_scale.exp() * images @ texts.t()
        return logits, logits.t()


def load(
    name_or_folder: str | Path, device: torch.device | str = "cpu", **options: Any
) -> tuple[OpenAIStyleEncoder, Preprocess, Tokenize]:
    """An encoder in evaluation mode with its image and text preparation, from an E2 or CLIP folder or a hub name.

    ``preprocess`` makes one picture (3, H, W) float32; ``tokenize`` makes texts (N, L) int64, cut to the context length
    with the end token kept. ``options`` go to ``E2Model.from_pretrained``.

    Raises:
        E2FashionError: a path that is not a model's folder.
    """
    source = checked_source(name_or_folder)
    model = E2Model.from_pretrained(source, **options)
    processor = CLIPProcessor.from_pretrained(source)
    encoder = OpenAIStyleEncoder(model).to(device).eval()

    def preprocess(picture: Image.Image) -> Tensor:
        return processor.image_processor(picture.convert("RGB"), return_tensors="pt")["pixel_values"][0]

    def tokenize(texts: str | Sequence[str]) -> Tensor:
        batch = [texts] if isinstance(texts, str) else list(texts)
        return processor.tokenizer(
            batch, padding=True, truncation=True, max_length=encoder.context_length, return_tensors="pt"
        )["input_ids"]

    return encoder, preprocess, tokenize
