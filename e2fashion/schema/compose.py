"""Every key of text-guided retrieval."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from omegaconf import MISSING

from e2fashion.schema.common import Computing


@dataclass
class ComposeConfig(Computing):
    """Search by a picture and a text with one encoder or several (``model``, ``name``: separated by commas).

    ``task`` ``other_colour`` reads a catalogue, ``fashion_iq`` the data set's own folder. Captions are the nearest
    texts of ``memory``: a catalogue's train split, or a text file (null: of ``other_colour`` the catalogue itself); or
    what the caption ``decoder`` of each model tells.
    Null for ``split`` and ``tuning_split`` is test and val, of FashionIQ val and train. A null ``weight`` is chosen.
    """

    model: str = MISSING
    data: str = MISSING
    task: Literal["other_colour", "fashion_iq"] = "other_colour"
    arms: str = "image,text,sum,concat,slots"
    name: str | None = None
    split: str | None = None
    tuning_split: str | None = None
    both_orders: bool = True
    weight: float | None = None
    weights: list[float] = field(default_factory=lambda: [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    memory: str | None = None
    decoder: str | None = None
    reading: str = "project"
    protect_column: str = "brand"
    lm: str | None = None
    lm_tokens: int = 60
    answers: str | None = None
    line_columns: str = "brand,gender,article_type"
    line_name: bool = True
    colour_column: str = "colour"
    instruction: str = "in {}"
    categories: str = "dress,shirt,toptee"
    galleries: str = "original,val"
    images: str | None = None
    tuning_triplets: int = 500
    pad_aspect: float | None = 1.25
    figure_queries: int = 6
    figure_arms: str = "slots"
    resamples: int = 1000
    resize: Literal["squeeze", "crop", "pad"] | None = None
    size: int | None = None
    batch_size: int = 64
    output: str | None = None
