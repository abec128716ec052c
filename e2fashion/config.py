"""The schema of every configuration, and how a file plus ``key=value`` overrides becomes one.

A file may name ``base: [relative paths]``; bases are merged in order, then the file, then the overrides, each
strictly against the schema. Nothing here knows a model or a data set: :mod:`e2fashion.build` does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from omegaconf import MISSING


@dataclass
class EntityConfig:
    """A tag entity: the catalogue column it reads and the number of its selection tokens (2 in the paper)."""

    column: str = MISSING
    tokens: int = 2


@dataclass
class TowerConfig:
    """Shape of one transformer that is trained from scratch."""

    layers: int = 6
    width: int = 192
    heads: int = 3


@dataclass
class ScratchConfig:
    """A CLIP built from nothing; read only when ``model.checkpoint`` is null.

    ``vocabulary`` bounds the tokenizer that is trained on the training captions; ``tokenizer`` says whether a
    token is a piece of a word (byte-level BPE, as CLIP's) or a whole word.
    """

    vision: TowerConfig = field(default_factory=TowerConfig)
    text: TowerConfig = field(default_factory=lambda: TowerConfig(layers=4))
    patch_size: int = 16
    projection_dim: int = 192
    activation: str = "quick_gelu"
    dropout: float = 0.0
    tokenizer: Literal["bpe", "word"] = "bpe"
    vocabulary: int = 8192


@dataclass
class ModelConfig:
    """The encoder. ``entities: {}`` and ``fusion_layers: []`` are plain CLIP.

    ``checkpoint`` is a folder or a hub name of any CLIP; null builds the towers of ``scratch``.
    ``fusion_layers`` counts finished transformer layers: 8 puts a block behind the eighth layer (official: 8, 11).
    """

    checkpoint: str | None = None
    entities: dict[str, EntityConfig | None] = field(default_factory=dict)
    fusion_layers: list[int] = field(default_factory=list)
    selection: Literal["hard", "soft", "random"] = "hard"
    noise: Literal["gumbel", "none"] = "gumbel"
    temperature: float = 1.0
    patches_per_token: int = 1
    projection_init: Literal["clip", "random"] = "clip"
    scratch: ScratchConfig = field(default_factory=ScratchConfig)


@dataclass
class TextConfig:
    """The global text of a product: ``{description}`` and ``{<tag column>}`` joined; a missing tag goes with its separator."""

    template: str = "{description}"
    context_length: int = 77


@dataclass
class ImageConfig:
    """How a picture becomes a square of ``size`` pixels, and how training varies it.

    ``crop_scale`` is the smallest share of the picture's area that a random crop keeps; 1.0 crops nothing.
    """

    size: int = 224
    resize: Literal["squeeze", "crop", "pad"] = "crop"
    flip: bool = False
    crop_scale: float = 1.0


@dataclass
class LoaderConfig:
    """Batches and the processes that make them. ``cache_gb`` keeps resized pictures in memory up to that size."""

    batch_size: int = 64
    evaluation_batch_size: int = 128
    workers: int = 0
    cache_gb: float = 2.0


@dataclass
class LossConfig:
    """Weight of the regional terms (0.5 in the paper, 0.0 is CLIP-FT) and what counts as a positive there.

    ``diagonal`` (official code): only the product itself. ``same_value`` (ours): every product that shares the
    tag's value.
    """

    region_weight: float = 0.5
    region_targets: Literal["diagonal", "same_value"] = "diagonal"


@dataclass
class StageConfig:
    """One fit with a fresh optimiser. ``parameters: new`` trains only what a CLIP checkpoint does not bring."""

    epochs: int = MISSING
    learning_rate: float = MISSING
    parameters: Literal["all", "new"] = "all"
    freeze: list[str] = field(default_factory=list)


@dataclass
class TrainConfig:
    """Optimiser, schedule and stages (trained in the order in which they are written)."""

    optimizer: Literal["adam", "adamw"] = "adamw"
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    weight_decay: float = 1e-4
    warmup_steps: int = 100
    gradient_clip: float | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    stages: dict[str, StageConfig | None] = field(default_factory=dict)
