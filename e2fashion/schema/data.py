"""Every key of making and describing a catalogue."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from omegaconf import MISSING


@dataclass
class PrepareConfig:
    """How a source becomes a catalogue; the source's own options stand beside these keys.

    ``on_error: skip`` counts and lists what is unfit in ``skipped.csv``. The fractions make the splits where the
    source brings none. ``dominant_fibre: {fibre: composition}`` adds the tag ``fibre``, read off ``composition``.
    """

    source: str = MISSING
    output: str = MISSING
    on_error: Literal["stop", "skip"] = "stop"
    split_seed: int = 0
    val_fraction: float = 0.1
    test_fraction: float = 0.1
    max_text_characters: int = 4000
    max_pixels: int = 50_000_000
    dominant_fibre: dict[str, str] = field(default_factory=dict)
    overwrite: bool = False


@dataclass
class DescribeConfig:
    """What ``data describe`` counts. ``tokenizer`` is a run folder, a model folder or a hub name.

    Null counts words and punctuation marks, of which no CLIP tokenizer makes fewer tokens. ``context_length`` null is
    the tokenizer's own, else CLIP's 77.
    """

    catalogue: str = MISSING
    tokenizer: str | None = None
    template: str = "{description}"
    context_length: int | None = None
