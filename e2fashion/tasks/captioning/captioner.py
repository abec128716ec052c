"""Everything that gives pictures captions: one method, from image embeddings to texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from e2fashion.tasks.captioning.memory import SupportMemory, checked_embeds
from e2fashion.tasks.captioning.projection import nearest
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
