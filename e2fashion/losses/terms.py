"""Further terms of the training loss, each with a weight, by name or from a user's own package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor

from e2fashion.extensions import ExtensionPoint
from e2fashion.types import Batch


class LossTerm(Protocol):
    """A dataclass whose fields are its options, and whose call is the term.

    ``reads_regions`` says whether the term reads ``region_embeds`` of the model's output, which is None for the others:
    what nothing reads is frozen.
    """

    reads_regions: ClassVar[bool]

    def __call__(self, output: Any, batch: Batch) -> Tensor:
        """The unweighted term () of a batch, with gradient.

        ``output`` is the model's (:class:`e2fashion.models.outputs.E2Output`): ``image_embeds`` and ``text_embeds``
        (B, C), ``region_embeds`` and ``tag_embeds`` (B, E, C), all L2-normalized, and ``logit_scale`` (). With several
        processes both hold the products of this one.
        """
        ...


@dataclass(frozen=True)
class WeightedTerm:
    """A term and its weight in the sum."""

    term: LossTerm
    weight: float = 1.0


LOSS_TERMS: dict[str, type[LossTerm]] = {}
"""Terms by name. The global and the regional ones are :class:`e2fashion.losses.contrastive.ContrastiveLoss` itself."""

TERM_POINT = ExtensionPoint("loss term", "e2fashion.loss_terms", ("__call__", "reads_regions"))
