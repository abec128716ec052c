"""Everything that gives pictures captions: one method, from image embeddings to texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from e2fashion.tasks.captioning.decoder import CaptionDecoder
from e2fashion.tasks.captioning.generate import Decoding, generate
from e2fashion.tasks.captioning.memory import SupportMemory, checked_embeds
from e2fashion.tasks.captioning.projection import nearest
from e2fashion.tasks.captioning.readings import Reading
from e2fashion.tasks.captioning.tokens import CaptionTokens, in_batches
from e2fashion.terminal import progress_bar
from e2fashion.types import E2FashionError


class CaptionsPictures(Protocol):
    """What tells a picture from its embedding."""

    def caption(self, image_embeds: Tensor) -> list[str]:
        """A caption for each of ``image_embeds`` (N, C), normalised or not."""
        ...


@dataclass(frozen=True)
class NearestCaption:
    """The caption of the memory whose text lies nearest to the picture (CLIPRe): nothing is trained."""

    memory: SupportMemory

    def caption(self, image_embeds: Tensor) -> list[str]:
        """A caption of the memory for each of ``image_embeds`` (N, C)."""
        rows = nearest(checked_embeds(image_embeds, self.memory.encoder.name), self.memory.embeds)
        return [self.memory.captions[row] for row in rows.tolist()]


@dataclass(frozen=True)
class MostFrequentCaption:
    """The same caption for every picture: what a number is worth that does not look."""

    text: str

    @classmethod
    def of(cls, captions: Sequence[str]) -> MostFrequentCaption:
        """The most frequent of ``captions``, the first of equally frequent ones.

        Raises:
            E2FashionError: there are none.
        """
        counted = Counter(caption for caption in captions if caption.strip())
        if not counted:
            raise E2FashionError("There are no captions to count: every one is empty.")
        return cls(counted.most_common(1)[0][0])

    def caption(self, image_embeds: Tensor) -> list[str]:
        """The caption, once for each of ``image_embeds`` (N, C)."""
        return [self.text] * len(image_embeds)


@dataclass(frozen=True)
class Captioner:
    """A decoder and the way in which it reads a picture's embedding.

    ``reading`` is one of :data:`~e2fashion.tasks.captioning.readings.READINGS`; the decoder computes where it is.
    """

    decoder: CaptionDecoder
    tokens: CaptionTokens
    reading: Reading
    decoding: Decoding
    encoder: str
    batch_size: int = 64

    def caption(self, image_embeds: Tensor, prompts: Sequence[str] | None = None, progress: bool = False) -> list[str]:
        """A caption for each of ``image_embeds`` (N, C); ``prompts`` (N) stand before them where there are some."""
        read = self.reading(checked_embeds(image_embeds, self.encoder))
        before = self.tokens.prompts(prompts if prompts is not None else [""] * len(read))
        training = self.decoder.training
        self.decoder.eval()
        found: list[str] = []
        with progress_bar(total=len(read), desc="captions", unit="picture", shown=progress) as bar:
            for rows in in_batches(len(read), self.batch_size):
                told = generate(
                    self.decoder, read[rows], before[rows], self.tokens.start, self.tokens.ends, self.decoding
                )
                found += self.tokens.texts(told)
                bar.update(len(told))
        self.decoder.train(training)
        return found
