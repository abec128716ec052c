"""Every key of the conversion of checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from omegaconf import MISSING

Layout = Literal["folder", "openai", "open_clip", "e2_official"]


@dataclass
class ConvertConfig:
    """A checkpoint from one layout into another; one of ``source`` and ``target`` is our ``folder``.

    ``tokenizer`` (a folder, a hub name, or ``none``), ``activation``, ``config``, ``vision_heads``, ``text_heads``,
    ``resize`` and ``template`` say what a state dict does not hold. ``check`` is a file of features that the original
    computed. ``lossy`` allows an E2 to be written as a plain CLIP.
    """

    checkpoint: str = MISSING
    source: Layout = "folder"
    target: Layout = "folder"
    output: str = MISSING
    tokenizer: str | None = None
    activation: Literal["quick_gelu", "gelu"] | None = None
    config: str | None = None
    vision_heads: int | None = None
    text_heads: int | None = None
    fusion_layers: list[int] = field(default_factory=lambda: [8, 11])
    resize: Literal["squeeze", "crop", "pad"] | None = None
    template: str | None = None
    check: str | None = None
    tolerance: float = 1e-3
    lossy: bool = False
    overwrite: bool = False
