"""Every key of every configuration, with its type, its default and where that comes from.

:mod:`e2fashion.config` reads files against these classes; :mod:`e2fashion.build` makes objects of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from omegaconf import MISSING

Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps"]


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

    A missing tag goes with its separator. Longer texts are cut at ``context_length`` tokens, the end token kept.
    """

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
    protocols: str = "full"
    evaluate_splits: str = "val"

    @property
    def processes(self) -> int:
        """How many processes train together; each brings a batch of its own to the loss."""
        return self.devices * self.nodes


@dataclass
class EvaluateConfig:
    """One evaluation of one encoder: our run or model folder, or any CLIP checkpoint by folder or hub name.

    ``text`` overrides the template that the model was trained with (null: the model's own, else the description);
    ``with_tags: false`` drops the tags from it. ``split``, ``protocol`` may name several, separated by commas.
    ``selection`` says how the patches are found whose place is compared with the tags' true regions, where a catalogue
    knows them: ``tokens`` (of models that have some), ``attention``, ``occlusion`` (dear); empty: not at all.
    ``resize`` and ``size`` override the processor's way of making a square. ``output`` is the records file
    (null: ``results.jsonl`` of the run folder, else of ``runs/evaluate/<model>``), ``candidates`` the folder of the
    lists that ``sample_100`` draws (null: ``candidates`` beside the records; a catalogue's own lists are read).
    """

    model: str = MISSING
    data: str = MISSING
    protocol: str = "full"
    split: str = "val"
    name: str | None = None
    text: str | None = None
    with_tags: bool = True
    selection: str = "tokens"
    resize: Literal["squeeze", "crop", "pad"] | None = None
    size: int | None = None
    queries: int | None = None
    draws: int = 1
    fill: Literal["report", "top_up"] = "report"
    seed: int = 0
    batch_size: int = 128
    workers: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    accelerator: Accelerator = "auto"
    threads: int | None = None
    output: str | None = None
    candidates: str | None = None


@dataclass
class ProbeConfig:
    """A linear probe of one encoder: how well its image features tell the values of each ``entity`` apart.

    ``entity`` and ``features`` (``global``, ``region``, ``both``) may name several, separated by commas, and so may
    ``shots``, the examples per class of the few-shot curve (empty: none). ``output`` is the records file (null:
    ``results.jsonl`` of the run folder, else of ``runs/probe/<model>``); features are kept beside it.
    """

    model: str = MISSING
    data: str = MISSING
    entity: str = MISSING
    features: str = "global"
    split: str = "test"
    name: str | None = None
    min_examples: int = 10
    fibre_columns: str = "composition"
    shots: str = ""
    draws: int = 5
    strengths: list[float] = field(default_factory=lambda: [1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5])
    tolerance: float = 1e-4
    max_iterations: int = 1000
    resamples: int = 1000
    seed: int = 0
    resize: Literal["squeeze", "crop", "pad"] | None = None
    size: int | None = None
    batch_size: int = 128
    workers: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    accelerator: Accelerator = "auto"
    threads: int | None = None
    output: str | None = None


@dataclass
class PrepareConfig:
    """How a source becomes a catalogue; the source's own options stand beside these keys.

    ``on_error: skip`` counts and lists what is unfit in ``skipped.csv``. The fractions make the splits where the
    source brings none.
    """

    source: str = MISSING
    output: str = MISSING
    on_error: Literal["stop", "skip"] = "stop"
    split_seed: int = 0
    val_fraction: float = 0.1
    test_fraction: float = 0.1
    max_text_characters: int = 4000
    max_pixels: int = 50_000_000
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
class CompareConfig:
    """Several runs trained on one catalogue, and the report that sets them side by side.

    ``overrides`` reach every run, as ``train.precision=bf16`` would.
    """

    data: str = MISSING
    output: str = "runs/compare"
    split: str = "test"
    gallery_products: int = 6


@dataclass
class AblationConfig:
    """A base run, the rows that differ from it, and the seeds that each row is trained with.

    ``base`` is a run configuration, relative to the file that names it. A row maps dotted keys of a run to values:
    ``soft: {model.selection: soft, model.noise: none}``; ``model.entities.*.tokens`` means every entity of the base.
    Rows named in ``optional`` are left out, and listed, where the base lacks what they remove. Differences are
    against the row ``baseline``. ``reuse`` names folders whose finished runs of the same identity count as done.
    """

    data: str = MISSING
    base: str = MISSING
    rows: dict[str, Any] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    baseline: str | None = None
    optional: list[str] = field(default_factory=list)
    split: str = "val"
    name: str | None = None
    output: str = "runs/ablate/${name}"
    reuse: list[str] = field(default_factory=list)
