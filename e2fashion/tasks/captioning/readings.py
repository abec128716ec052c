"""The rungs of DeCap's ladder: what is told of a picture, from its own embedding to a mixture of the memory's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

from torch import Tensor

from e2fashion.tasks.captioning.memory import SupportMemory
from e2fashion.tasks.captioning.noise import shift
from e2fashion.tasks.captioning.projection import TEMPERATURE, project
from e2fashion.types import E2FashionError


@dataclass(frozen=True)
class ReadingMaterial:
    """What a way of reading may need: the memory, the temperature of the projection, the modality offset (C,)."""

    memory: SupportMemory
    temperature: float = TEMPERATURE
    offset: Tensor | None = None


Reading = Callable[[Tensor], Tensor]
"""Image embeddings (N, C), L2-normalised, to those that the decoder goes on from."""


def _direct(material: ReadingMaterial) -> Reading:
    return lambda embeds: embeds


def _shifted(material: ReadingMaterial) -> Reading:
    offset = material.offset
    if offset is None:
        raise E2FashionError(
            "reading=shifted needs the offset between texts and pictures, which this decoder was trained without: "
            "train it with modality_offset=true."
        )
    return lambda embeds: shift(embeds, offset)


def _projected(material: ReadingMaterial) -> Reading:
    return lambda embeds: project(embeds, material.memory.embeds, material.temperature)


NEAREST = "nearest"
"""The nearest caption of the memory as it is (CLIPRe): a rung without a decoder."""

READINGS: dict[str, Callable[[ReadingMaterial], Reading]] = {
    "direct": _direct,
    "shifted": _shifted,
    "project": _projected,
}


def reading_named(name: str, material: ReadingMaterial) -> Reading:
    """The reading ``name``.

    Raises:
        E2FashionError: an unknown name, or ``shifted`` without an offset.
    """
    if name not in READINGS:
        known = [*READINGS, NEAREST]
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise E2FashionError(f"reading '{name}' does not exist: choose from {', '.join(known)}{hint}")
    return READINGS[name](material)
