"""Every key of captioning: training a decoder on texts, telling pictures, measuring what it tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from omegaconf import MISSING

from e2fashion.schema.common import Accelerator, Computing
from e2fashion.schema.logs import LoggingConfig


@dataclass
class CaptionModelConfig:
    """Shape of the language model from scratch (``lm: scratch``); the defaults are DeCap's."""

    layers: int = 4
    heads: int = 4
    width: int = 768
    dropout: float = 0.1


@dataclass
class CaptionMapperConfig:
    """CapDec's mapper, from an embedding to ``length`` tokens; ``method: decap`` has none."""

    length: int = 40
    layers: int = 8
    heads: int = 8


@dataclass
class CaptionFitConfig:
    """Optimiser (AdamW, linear decay) and length of the training; the defaults are DeCap's."""

    epochs: int = 20
    learning_rate: float = 1e-5
    warmup_steps: int = 1000
    batch_size: int = 128
    weight_decay: float = 0.01
    label_smoothing: float = 0.1
    gradient_clip: float | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    checkpoint_every_steps: int = 500


@dataclass
class CaptionTrainConfig:
    """A caption decoder taught from texts alone: each is told again from its own embedding.

    ``encoder`` is a run folder, a model folder or the hub name of any CLIP. ``method`` is ``decap`` (one linear prefix
    token, language model from scratch) or ``capdec`` (transformer mapper); ``lm`` is a folder or hub name of a GPT-2,
    or ``scratch``. ``caption`` is the template of what is told, ``text`` of what the encoder embeds (null: its own).
    ``length`` bounds a caption in tokens; ``stop`` is a mark behind which it ends too. ``prompt_entities`` are E2's
    entities, separated by commas, whose tags stand before the caption. ``modality_offset`` keeps the difference between
    the mean text and the mean picture of train, for ``reading=shifted``. ``memory`` is the folder of support memories
    (null: ``memory`` in the output).
    """

    name: str = "decap"
    encoder: str = MISSING
    data: str = MISSING
    output: str = "runs/caption/${name}"
    memory: str | None = None
    seed: int = 0
    threads: int | None = None
    accelerator: Accelerator = "auto"
    method: Literal["decap", "capdec"] = "decap"
    lm: str = "scratch"
    caption: str = "{description}"
    text: str | None = None
    length: int = 60
    stop: str | None = None
    prompt_entities: str = ""
    prompt_length: int = 24
    memory_size: int = 500_000
    noise_variance: float = 0.0
    modality_offset: bool = False
    model: CaptionModelConfig = field(default_factory=CaptionModelConfig)
    mapper: CaptionMapperConfig = field(default_factory=CaptionMapperConfig)
    train: CaptionFitConfig = field(default_factory=CaptionFitConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)


@dataclass
class CaptionRunConfig(Computing):
    """Pictures told by a trained decoder.

    ``encoder`` is where the one it was trained with lies (null: where it lay then). ``reading`` is ``project``,
    ``direct``, ``shifted`` or ``nearest``; ``length`` null is the decoder's own. ``output`` is a CSV file (null: none).
    """

    decoder: str = MISSING
    encoder: str | None = None
    reading: str = "project"
    temperature: float = 100.0
    beams: int = 1
    length: int | None = None
    length_penalty: float = 1.0
    batch_size: int = 64
    output: str | None = None


@dataclass
class CaptionEvaluateConfig(Computing):
    """Captions of a split and how they compare with the true ones.

    ``reading`` may name several, separated by commas: ``direct``, ``shifted``, ``project``, ``nearest`` (CLIPRe).
    ``baselines`` measures the most frequent caption of train too. ``tokenizer`` is COCO's (``ptb``, needs Java) or
    ``words``. ``clip_score`` names a separate, fixed encoder for CLIPScore (null: none). ``output`` is the records file
    (null: ``results.jsonl`` of the decoder's run folder); captions are kept beside it.
    """

    decoder: str = MISSING
    data: str = MISSING
    encoder: str | None = None
    split: str = "test"
    reading: str = "project"
    temperature: float = 100.0
    beams: int = 1
    length: int | None = None
    length_penalty: float = 1.0
    baselines: bool = True
    tokenizer: Literal["ptb", "words"] = "ptb"
    meteor: bool = True
    clip_score: str | None = None
    batch_size: int = 64
    workers: int = 0
    output: str | None = None
