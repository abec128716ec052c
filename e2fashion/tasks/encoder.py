"""What a task asks of an encoder; :class:`e2fashion.eval.encoder.Encoder` is one, over any CLIP or E2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from e2fashion.data.text import TextTemplate
from e2fashion.data.transforms import ImageTransform
from e2fashion.types import E2FashionError, Entity

#: A picture in memory, or the file that holds one.
Picture: TypeAlias = Image.Image | Path | str


class ImageTextEncoder(Protocol):
    """Pictures and texts in one space of C dimensions; every embedding is L2-normalised, fp32, on the CPU."""

    @property
    def name(self) -> str:
        """What tables and error messages call it."""

    @property
    def dimension(self) -> int:
        """Width C of the joint space."""

    @property
    def entities(self) -> tuple[Entity, ...]:
        """What the model searches pictures for; empty for a plain CLIP."""

    @property
    def template(self) -> TextTemplate:
        """How a product's tags and description become its text."""

    @property
    def transform(self) -> ImageTransform:
        """How a picture becomes a square."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of its text tower."""

    @property
    def context_length(self) -> int:
        """Longest text in tokens, start and end included."""

    @property
    def compares_tokens(self) -> bool:
        """Whether it embeds an item as tokens (N, T, C) instead of one vector (FILIP)."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all that its embeddings depend on."""

    def embed_images(self, images: Picture | Sequence[Picture], batch_size: int = 64) -> Tensor:
        """Pictures or their files to (N, C)."""

    def embed_squares(self, squares: Tensor) -> Tensor:
        """Pictures that ``transform`` has made square, uint8 (B, 3, S, S), to (B, C)."""

    def embed_texts(self, texts: str | Sequence[str], batch_size: int = 256) -> Tensor:
        """Texts as they are to (N, C)."""

    def embed_tags(self, tags: str | Sequence[str], batch_size: int = 256) -> Tensor:
        """Tag strings to (N, C), to compare with regions."""

    def embed_regions(self, images: Picture | Sequence[Picture], batch_size: int = 64) -> Tensor:
        """What each entity's tokens read in pictures: (N, E, C)."""

    def embed_images_and_regions(
        self, images: Picture | Sequence[Picture], batch_size: int = 64
    ) -> tuple[Tensor, Tensor]:
        """Both of the above, (N, C) and (N, E, C), by one pass of the image tower."""


@dataclass(frozen=True)
class EncoderIdentity:
    """Which encoder something was made with: its name for messages, the fingerprint of its weights, its width C."""

    name: str
    fingerprint: str
    dimension: int


def require_single_vectors(encoder: ImageTextEncoder, task: str) -> None:
    """Refuse an encoder that embeds an item as many vectors where ``task`` needs one.

    Raises:
        E2FashionError: it compares tokens.
    """
    if encoder.compares_tokens:
        raise E2FashionError(
            f"'{encoder.name}' compares patches with words (FILIP) and embeds no item as one vector, which {task} "
            "needs: give a model with similarity 'global'"
        )
