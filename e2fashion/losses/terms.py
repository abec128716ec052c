"""What an additional weighted term of the training loss is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor

from e2fashion.types import Batch


class LossTerm(Protocol):
    """A dataclass whose fields are the options of the term that it computes when called.

    ``reads_regions``: whether the term reads ``region_embeds`` of the model's output, which is None for other terms.
    Parameters that no term depends on are frozen.
    """

    reads_regions: ClassVar[bool]

    def __call__(self, output: Any, batch: Batch) -> Tensor:
        """The unweighted term () of a batch, with gradient.

        ``output`` is the model's (:class:`e2fashion.models.modeling_e2.E2Output`): ``image_embeds`` and ``text_embeds``
        (B, C), ``region_embeds`` and ``tag_embeds`` (B, E, C), all L2-normalized, and ``logit_scale`` (). With several
        processes, ``output`` and ``batch`` have the products of this process.
        """
        ...


@dataclass(frozen=True)
class WeightedTerm:
    """A term and its weight in the sum."""

    term: LossTerm
    weight: float = 1.0
