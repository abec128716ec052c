"""Every key of captioning: training a decoder on texts, captioning images, measuring the captions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from omegaconf import MISSING

from e2fashion.options import Accelerator, Computing, FitConfig, LoggingConfig, formerly_text

Reading = Literal["project", "direct", "shifted", "nearest"]
"""How an image embedding enters a decoder that was trained on text embeddings."""
PromptSource = Literal["auto", "regions", "image"]
"""Which embeddings of an image choose the tags of its prompt."""


@dataclass
class CaptionModelConfig:
    """Shape of the language model that is trained from scratch (``lm: scratch``)."""

    layers: int = 4
    """Transformer layers. Source: DeCap."""
    heads: int = 4
    """Attention heads. Source: DeCap."""
    width: int = 768
    """Width of the transformer. Source: DeCap."""
    dropout: float = 0.1
    """Dropout of embeddings, attention and residuals. Source: DeCap."""


@dataclass
class CaptionMapperConfig:
    """The mapper from an embedding to prefix tokens; ``method: decap`` has none."""

    length: int = 40
    """Prefix tokens, and as many learned constants after them. Source: CapDec."""
    layers: int = 8
    """Transformer layers. Source: CapDec."""
    heads: int = 8
    """Attention heads. Source: CapDec."""


@dataclass
class CaptionFitConfig(FitConfig):
    """Optimizer (AdamW, linear decay to zero) and length of the training."""

    epochs: int = 20
    """Passes over the texts; the epoch with the least loss on val is kept. Source: DeCap."""
    learning_rate: float = 1e-5
    """Learning rate after the warm-up. Source: DeCap."""
    warmup_steps: int = 1000
    """Steps of linear warm-up, at most a tenth of all steps. Source: DeCap."""
    batch_size: int = 128
    """Captions per step (published: 2 x 64). Source: DeCap."""
    weight_decay: float = 0.01
    """Weight decay of the weight matrices; biases and norms have none."""
    label_smoothing: float = 0.1
    """Label smoothing of the training's cross-entropy. Source: DeCap."""
    checkpoint_every_steps: int = 500
    """Steps between checkpoints to resume from."""


@dataclass
class CaptionTrainConfig:
    """A caption decoder trained on texts alone: it reconstructs each text from the encoder's embedding of it."""

    name: str = "decap"
    """Name of the decoder's folder."""
    encoder: str = MISSING
    """Run folder, model folder, or hub name of a CLIP."""
    data: str = MISSING
    """A prepared catalogue; only its texts are read."""
    output: str = "runs/caption/${name}"
    """Folder of the decoder."""
    memory: str | None = None
    """Folder of support memories, which decoders may share; null: ``memory/`` in ``output``."""
    seed: int = 0
    """Seed of weights, order, dropout and noise."""
    threads: int | None = None
    """CPU threads; null: all."""
    accelerator: Accelerator = "auto"
    """Device; ``auto`` uses a GPU if there is one."""
    method: Literal["decap", "capdec"] = "decap"
    """``decap``: one linear prefix token; ``capdec``: a transformer mapper."""
    lm: str = "scratch"
    """``scratch``, or folder or hub name of a GPT-2 (``method: capdec``). Source: DeCap."""
    caption: str = "{description}"
    """Template of the captions to reconstruct."""
    text: str | None = None
    """Template of what the encoder embeds; null: the one that it was trained with."""
    length: int = 60
    """The most tokens of a caption, end token included (published: 20, 67)."""
    stop: str | None = None
    """A string after which a caption ends too (CapDec: ``.``); null: none. Source: DeCap."""
    prompt_entities: list[str] = formerly_text()
    """Entities of the encoder, or tag columns, whose tags precede the caption."""
    prompt_length: int = 24
    """The most tokens of that prompt."""
    memory_size: int = 500_000
    """The most captions of the memory and of the training; of more, a seeded sample. Source: DeCap."""
    noise_variance: float = 0.0
    """Variance per dimension of the noise on training embeddings (CapDec: 0.016 at C = 512). Source: DeCap."""
    modality_offset: bool = False
    """Keep the mean text embedding minus the mean image embedding of train, for ``reading=shifted``. Source: CapDec."""
    model: CaptionModelConfig = field(default_factory=CaptionModelConfig)
    """Shape of the language model of ``lm: scratch``."""
    mapper: CaptionMapperConfig = field(default_factory=CaptionMapperConfig)
    """The mapper of ``method: capdec``."""
    train: CaptionFitConfig = field(default_factory=CaptionFitConfig)
    """Optimizer (AdamW, linear decay to zero) and length of the training."""
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    """Loggers in addition to ``logs/csv``, which is always written (docs/logging.md)."""


@dataclass
class Decoding:
    """How a decoder generates captions."""

    temperature: float = 100.0
    """Factor of the similarities before the softmax of ``project``. Source: DeCap."""
    beams: int = 1
    """Beams of the search; 1 is greedy (CapDec: 5). Source: DeCap."""
    length: int | None = None
    """The most tokens of a caption; null: as in training."""
    length_penalty: float = 1.0
    """Beams are compared by their log probability divided by length to this power. Source: CapDec."""
    batch_size: int = 64
    """Images per step."""
    prompt_from: PromptSource = "auto"
    """What the tags of a prompt are nearest to: the ``regions`` of the encoder's entities, the whole ``image``, or
    ``auto``: regions, and the image for tags without any."""


@dataclass
class TrainedDecoder(Decoding, Computing):
    """A trained decoder with its encoder, and how it generates captions."""

    decoder: str = MISSING
    """Folder of a finished ``caption train``."""
    encoder: str | None = None
    """Current path of the decoder's encoder; null: the path it had in training."""


@dataclass
class CaptionRunConfig(TrainedDecoder):
    """Captions of images by a trained decoder."""

    images: list[str] = MISSING
    """Images and folders of images to caption; the further arguments."""
    reading: Reading = "project"
    """How an image embedding enters the decoder: ``project`` (onto the memory), ``direct``, ``shifted`` (by the
    modality offset), ``nearest`` (CLIPRe: the nearest caption of the memory, without the decoder). Source: DeCap."""
    output: str | None = None
    """CSV file of images and captions; null: none."""


@dataclass
class CaptionEvaluateConfig(TrainedDecoder):
    """Captions of a split, compared with the true ones."""

    data: str = MISSING
    """A prepared catalogue."""
    split: str = "test"
    """``train``, ``val`` or ``test``."""
    reading: list[Reading] = field(default_factory=lambda: ["project"])
    """How image embeddings enter the decoder, as in ``caption run``; each is measured. Source: DeCap."""
    baselines: bool = True
    """Also measure the most frequent caption of train, given to every image."""
    tokenizer: Literal["ptb", "words"] = "ptb"
    """``ptb`` is COCO's and needs Java; scores with ``words`` compare only with each other. Source: field."""
    meteor: bool = True
    """Whether to compute METEOR, which needs Java, seconds and 2 GB. Source: field."""
    clip_score: str | None = None
    """A separate, fixed encoder for CLIPScore; null: none."""
    workers: int = 0
    """Processes that prepare images; 0: the main process."""
    output: str | None = None
    """Records file, captions next to it; null: ``results.jsonl`` of the decoder's run folder."""
