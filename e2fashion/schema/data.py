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


@dataclass
class CheckConfig:
    """What ``data check`` looks for in the catalogue ``data``, and where its report goes.

    ``against`` is another catalogue, say one for pretraining, whose train split should share nothing with val and test.
    ``output`` null is ``runs/check/<catalogue>``. With findings of severity ``fail_on`` or graver the command ends with
    exit code 3. ``tokenizer``, ``template`` and ``context_length`` are those of ``data describe``.
    """

    data: str = MISSING
    against: str | None = None
    output: str | None = None
    fail_on: Literal["look", "leak", "broken", "never"] = "leak"
    near_bits: int = 6
    near_pixels: float = 0.07
    near_text: float = 0.9
    skew: float = 0.2
    source_column: str | None = None
    seed: int = 0
    shown: int = 10
    tokenizer: str | None = None
    template: str = "{description}"
    context_length: int | None = None
