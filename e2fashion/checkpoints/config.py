"""Every key of the conversion of checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from omegaconf import MISSING

Layout = Literal["folder", "openai", "open_clip", "e2_official"]
Source = Literal["folder", "openai", "open_clip", "open_clip_siglip", "e2_official"]


@dataclass
class ConvertConfig:
    """A checkpoint of another layout as a model folder, or a model folder in another layout."""

    checkpoint: str = MISSING
    """With ``source``: file of a state dict; with ``target``: run folder, model folder, or hub name of a CLIP."""
    source: Source = "folder"
    """Layout of the checkpoint; ``folder`` is ours, that of Transformers."""
    target: Layout = "folder"
    """Layout to write; one of the two must be ``folder``."""
    output: str = MISSING
    """The folder to write."""
    tokenizer: str | None = None
    """Folder or hub name of the tokenizer, which no state dict holds; ``none``: images only. Needed with ``source``."""
    activation: Literal["quick_gelu", "gelu", "gelu_pytorch_tanh"] | None = None
    """Activation of the MLPs; null: as the layout or its configuration says, an error where neither does (a SigLIP:
    ``gelu``)."""
    config: str | None = None
    """open_clip's configuration; null: ``open_clip_config.json`` next to the checkpoint."""
    vision_heads: int | None = None
    """Attention heads of the image tower; null: the configuration's, else heads of width 64. Source: CLIP."""
    text_heads: int | None = None
    """Attention heads of the text tower; null: likewise. Source: CLIP."""
    fusion_layers: list[int] = field(default_factory=lambda: [8, 11])
    """Layers behind which an official E2 fuses, which its state dict does not say. Source: official code."""
    resize: Literal["squeeze", "crop", "pad"] | None = None
    """How an image becomes square; null: the configuration's way, else ``crop``. Source: CLIP."""
    template: str | None = None
    """Template of the global text; null: the official code's for ``e2_official``, else ``{description}``. Source:
    official code."""
    check: str | None = None
    """Safetensors file of features that the original computed, to compare with; null: no comparison."""
    tolerance: float = 1e-3
    """Largest difference to those features in a component of unit vectors; fp16 needs 1e-3."""
    lossy: bool = False
    """Write an E2 as a plain CLIP, without tokens, fusion blocks and regions."""
    overwrite: bool = False
    """Replace a conversion that is already in ``output``."""
