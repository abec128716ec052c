"""Every key of a training run: model, text, pictures, batches, loss and stages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from omegaconf import MISSING

from e2fashion.schema.common import Accelerator, joined_later
from e2fashion.schema.logs import RunLoggingConfig
from e2fashion.types import TextOverflow


@dataclass
class EntityConfig:
    """A tag entity: the catalogue column it reads (null: the one of its own name) and its selection tokens.

    Two tokens an entity are the paper's choice.
    """

    column: str | None = None
    tokens: int = 2


@dataclass
class TextEntityConfig:
    """A tag that joins the text's feature: the catalogue column it reads (null: the one of its own name)."""

    column: str | None = None


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
    tokenizer: Literal["bpe", "word"] = "bpe"
    vocabulary: int = 8192


@dataclass
class ModelConfig:
    """The encoder. ``entities: {}`` and ``fusion_layers: []`` are plain CLIP.

    ``checkpoint`` is a folder or a hub name of any CLIP; null builds the towers of ``scratch``.
    ``fusion_layers`` counts finished transformer layers: 8 puts a block behind the eighth layer (official: 8, 11).
    ``drop_patches: false`` and ``token_gate`` (a number far below zero) insert E2 into a pretrained CLIP so that its
    image features are what they were (ours); null is the official model.
    ``similarity: tokens`` compares every patch with every token of the text (FILIP) instead of one vector each.
    ``text_entities`` are tags that join the text's feature through maps of their own (EI-CLIP, our reading).
    """

    checkpoint: str | None = None
    entities: dict[str, EntityConfig | None] = field(default_factory=dict)
    fusion_layers: list[int] = field(default_factory=list)
    selection: Literal["hard", "soft", "random"] = "hard"
    noise: Literal["gumbel", "none"] = "gumbel"
    temperature: float = 1.0
    patches_per_token: int = 1
    drop_patches: bool = True
    token_gate: float | None = None
    attention: Literal["sdpa", "eager"] = "sdpa"
    projection_init: Literal["clip", "random"] = "clip"
    similarity: Literal["global", "tokens"] = "global"
    text_entities: dict[str, TextEntityConfig | None] = field(default_factory=dict)
    scratch: ScratchConfig = field(default_factory=ScratchConfig)


@dataclass
class TextConfig:
    """The global text of a product: ``{description}`` and ``{<tag column>}`` joined by what stands between them.

    A missing tag goes with its separator. Of texts longer than ``context_length`` tokens ``overflow: truncate`` cuts
    the end and ``first_sentences`` keeps the description's first whole sentences; ``stretch`` gives a checkpoint's text
    encoder ``context_length`` positions, more than it had (as Long-CLIP).
    """

    template: str = "{description}"
    context_length: int = 77
    overflow: TextOverflow = joined_later("truncate")


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
    tag's value. ``token_keep`` and ``half_precision_gather`` bound the work of ``model.similarity: tokens``, as FILIP
    does at large batch (0.25, true): the share of the most active tokens, and bf16 between processes.
    """

    region_weight: float = 0.5
    region_targets: Literal["diagonal", "same_value"] = "diagonal"
    token_keep: float = 1.0
    half_precision_gather: bool = False


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
    checkpoint_every_steps: int = 200
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    stages: dict[str, StageConfig | None] = field(default_factory=dict)


@dataclass
class RunConfig:
    """Everything a training run depends on.

    ``data`` is a prepared catalogue, ``output`` the run folder, ``threads`` the processor threads (null: all).
    ``devices`` processes on each of ``nodes`` machines train together, each on batches of its own.
    ``logging`` is no part of what it computes.
    ``evaluate_splits`` are read once at the end by every protocol of ``protocols``, separated by commas.
    """

    name: str = "run"
    seed: int = 0
    data: str = MISSING
    output: str = "runs/${name}"
    threads: int | None = None
    accelerator: Accelerator = "auto"
    devices: int = 1
    nodes: int = 1
    model: ModelConfig = field(default_factory=ModelConfig)
    text: TextConfig = field(default_factory=TextConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    logging: RunLoggingConfig = field(default_factory=RunLoggingConfig)
    protocols: str = "full"
    evaluate_splits: str = "val"

    @property
    def processes(self) -> int:
        """How many processes train together; each brings a batch of its own to the loss."""
        return self.devices * self.nodes
