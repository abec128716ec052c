"""The keys of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from omegaconf import MISSING

from e2fashion.options import Accelerator, FitConfig, RunLoggingConfig, joined_later
from e2fashion.types import Selection, Split, TextOverflow


@dataclass
class TextEntityConfig:
    """A tag that joins the text's feature."""

    column: str | None = None
    """Catalogue column of its tags; null: the one of the entity's name."""


@dataclass
class EntityConfig:
    """A tag entity with selection tokens."""

    column: str | None = None
    """Catalogue column of its tags; null: the one of the entity's name."""
    tokens: int = 2
    """Selection tokens; 0: the tags are contrasted with the feature of the whole image (a control). Source: paper."""
    fixed: bool = joined_later(False)
    """Each token reads one patch at a place that was drawn for it, the same in all images, instead of choosing."""


@dataclass
class TowerConfig:
    """Shape of one transformer that is trained from scratch."""

    layers: int = 6
    """Transformer layers."""
    width: int = 192
    """Width of the transformer."""
    heads: int = 3
    """Attention heads, a divisor of the width."""


@dataclass
class ScratchConfig:
    """A CLIP with random weights; used only when ``model.checkpoint`` is null."""

    vision: TowerConfig = field(default_factory=TowerConfig)
    """The image tower."""
    text: TowerConfig = field(default_factory=lambda: TowerConfig(layers=4))
    """The text tower."""
    patch_size: int = 16
    """Pixels along a patch; ``image.size`` must be a multiple of it."""
    projection_dim: int = 192
    """Dimension of the joint image-text space."""
    activation: str = "quick_gelu"
    """Activation of the MLPs. Source: CLIP."""
    tokenizer: Literal["bpe", "word"] = "bpe"
    """Tokens: ``bpe``, byte-level pieces of words as in CLIP, or whole words (for small data). Source: CLIP."""
    vocabulary: int = 8192
    """The most tokens of the tokenizer, which is trained on the training captions."""


@dataclass
class LoraConfig:
    """Low-rank adapters, trained in place of a tower's weights and added to them in every saved model.

    E2's own parts, the projections and the temperature are trained in full; the rest of a tower with adapters is
    frozen.
    """

    vision: int = 0
    """Rank of the adapters of the image tower; 0: none, its weights are trained. Source: ours."""
    text: int = 0
    """Rank of the adapters of the text tower. Source: ours."""
    layers: list[Literal["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]] = field(
        default_factory=lambda: ["q_proj", "v_proj"]
    )
    """Linear maps of every transformer layer that get an adapter. Source: LoRA."""


@dataclass
class ModelConfig:
    """The encoder."""

    checkpoint: str | None = None
    """Folder or hub name of a CLIP or a SigLIP; null builds ``model.scratch``."""
    entities: dict[str, EntityConfig | None] = field(default_factory=dict)
    """Tag entities with selection tokens, in the order of the regions; ``{}`` is plain CLIP. Source: paper."""
    fusion_layers: list[int] = field(default_factory=list)
    """Transformer layers (from 1) that are followed by a fusion block; the paper's are 8 and 11. Source: official
    code."""
    selection: Selection = "hard"
    """One patch per token (``hard``), a mixture of all (``soft``), or any patch (``random``, a control). Source:
    paper."""
    noise: Literal["gumbel", "none"] = "gumbel"
    """Noise on the selection's logits, in training only. Source: official code."""
    temperature: float = 1.0
    """Temperature of the selection's softmax. Source: official code."""
    patches_per_token: int = 1
    """A token reads the mean of its k best patches. Source: paper."""
    drop_patches: bool = True
    """Run the layers after the last fusion block without the patches; on a SigLIP always ``false``. With ``false`` and
    a strongly negative ``token_gate``, E2 starts with the image features of the pretrained CLIP. Source: official
    code."""
    token_gate: float | None = None
    """Initial value of a learned bias on the attention of CLS and patches to the selection tokens; -10 hides them;
    null: no bias, as in the official code."""
    value_layer: int | None = joined_later(None)
    """Finished layers behind which the patch states are taken that a token reads from the patch it picks; early ones
    hold little but the patch itself, 0: what enters the first layer; null: the states that the scores compare, as in
    the paper."""
    token_attention: Literal["all", "own"] = joined_later("all")
    """What selection tokens attend to until the last fusion block: everything, or each other alone (``own``), so that
    the patches they pick are all they see. Source: official code."""
    key_gradient: bool = joined_later(True)
    """Whether the gradient of the selection's scores reaches the patch states that they compare; false: choosing
    patches does not shape them. Source: official code."""
    value_gate: float | None = joined_later(None)
    """With ``value_layer``: start of a learned number per entity and block, whose sigmoid is the share of the block's
    layer in what the entity's tokens read, as in -2 (12 %); null: all is read behind ``value_layer``."""
    competition: bool = joined_later(False)
    """Multiply the softmax over patches by one over entities (as in slot attention), so that entities avoid each
    other's patches."""
    null_patch: bool = joined_later(False)
    """A learned key and value that a token may read instead of a patch where its tag cannot be seen."""
    score_heads: int = joined_later(1)
    """Heads of scores: each picks patches and reads them for its part of the width, a divisor of which it is."""
    value_scale: int = joined_later(1)
    """With ``value_layer``: tokens also read the n x n parts of the patches that they pick, embedded from the pixels;
    1: none. n divides the patch size."""
    value_window: int = joined_later(1)
    """With ``value_layer``: what a token reads of a patch is a learned mixture of the n x n patches around it, which
    starts with the patch alone; odd, 1: the patch."""
    attention: Literal["auto", "sdpa", "eager"] = "auto"
    """Implementation of attention. ``auto``: ``eager`` in bf16 on a CPU, where it is faster, else ``sdpa``."""
    projection_init: Literal["clip", "random"] = "clip"
    """Initial image projection: CLIP's, or random as in the official code."""
    similarity: Literal["global", "tokens"] = "global"
    """Compare one vector each, or every patch with every token of the text (FILIP). Source: CLIP."""
    text_entities: dict[str, TextEntityConfig | None] = field(default_factory=dict)
    """Tags that join the text's feature through a linear map each (EI-CLIP, our interpretation); ``{}`` is plain
    CLIP."""
    scratch: ScratchConfig = field(default_factory=ScratchConfig)
    """The CLIP to build without a checkpoint."""
    lora: LoraConfig = joined_later(default_factory=LoraConfig)
    """Adapters of the towers (extra ``peft``)."""


@dataclass
class TextConfig:
    """The global text of a product."""

    template: str = "{description}"
    """``{description}`` and ``{<tag column>}`` with separators; a missing tag is dropped with its separator."""
    context_length: int = 77
    """Maximum tokens of a text, start and end included. Source: CLIP."""
    overflow: TextOverflow = joined_later("truncate")
    """Longer texts: ``truncate`` the end, keep the description's ``first_sentences``, or ``stretch`` a checkpoint's
    position embeddings to ``context_length``, as Long-CLIP (docs/data.md#long-texts). Source: CLIP."""


@dataclass
class ImageConfig:
    """Preprocessing of images, and their augmentation in training."""

    size: int = 224
    """Side of the square in pixels. Source: CLIP."""
    resize: Literal["squeeze", "crop", "pad"] = "crop"
    """Ignore the aspect ratio, crop the long edge, or pad with black. Source: official code."""
    flip: bool = False
    """Mirror half of the training images. Source: official code."""
    crop_scale: float = 1.0
    """Smallest share of an image's area that a random training crop keeps; 1.0: no crop. Source: official code."""


@dataclass
class LoaderConfig:
    """Batches and the processes that prepare them."""

    batch_size: int = 64
    """Products per training step and process. Source: official code."""
    evaluation_batch_size: int = 128
    """Products per step of validation."""
    workers: int = 0
    """Processes that prepare batches; 0: the training process."""
    cache_gb: float = 2.0
    """Memory for resized images, in GB."""
    train_share: float = joined_later(1.0)
    """Share of the training products that is used, drawn by the seed, for a learning curve; the tokenizer of
    ``model.scratch`` is trained on the texts of all."""
    group_by: str | None = joined_later(None)
    """Tag column whose values share a batch: each has products of one value, but for what is left of the values; null:
    batches of any products. Not with ``stream``."""
    shuffle_buffer: int = joined_later(4096)
    """With ``stream``: products that each process shuffles together; up to twice as many are in memory, encoded."""
    open_files: int = joined_later(8)
    """With ``stream``: places in the files that the buffer of a process is filled from at once."""


@dataclass
class LossTermConfig:
    """An additional term of the loss: its weight in the sum, and the options of its class."""

    weight: float = 1.0
    """Weight in the sum; the other terms keep theirs."""
    options: dict[str, Any] = field(default_factory=dict)
    """The options of the term, by name."""


@dataclass
class LossConfig:
    """The contrastive loss."""

    kind: Literal["softmax", "sigmoid"] = joined_later("softmax")
    """Global and regional terms: InfoNCE, or SigLIP's loss of single pairs with a learned bias, which starts, like the
    temperature, as published unless the checkpoint has one. Source: CLIP."""
    region_weight: float = 0.5
    """Weight w of the entities' terms; 0 is CLIP fine-tuning. Source: paper."""
    region_targets: Literal["diagonal", "same_value"] = "diagonal"
    """Positives of a tag: its product (``diagonal``), or every product with the same value (ours). They differ with
    ``kind: sigmoid`` alone: a value has one text, so that their softmax losses are equal. Source: official code."""
    token_keep: float = 1.0
    """With ``model.similarity: tokens``: share of the most active tokens that is compared (FILIP: 0.25)."""
    half_precision_gather: bool = False
    """With ``model.similarity: tokens``: processes exchange tokens as bf16 (FILIP: true)."""
    terms: dict[str, LossTermConfig | None] = joined_later(default_factory=dict)
    """Additional terms by name, of ``e2fashion.training.build.LOSS_TERMS`` or installed packages; null removes one."""


@dataclass
class StageConfig:
    """One fit with a fresh optimizer."""

    epochs: int = MISSING
    """Passes over the training products."""
    learning_rate: float = MISSING
    """Learning rate at the end of the warm-up."""
    parameters: Literal["all", "new"] = "all"
    """Train all parameters, or only those that a CLIP checkpoint lacks."""
    freeze: list[str] = field(default_factory=list)
    """Patterns of names of frozen parameters, as in ``text_model.*``."""
    temperature_end: float | None = joined_later(None)
    """Temperature of the selection at the last step, as in 0.1; it falls geometrically from the model's at the first; a
    saved model has that of its epoch; null: constant."""


@dataclass
class OptimizerConfig:
    """Optimizer and schedule."""

    optimizer: Literal["adam", "adamw"] = "adamw"
    """The optimizer; the official code uses ``adam``."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    """Betas of Adam. Source: official code."""
    weight_decay: float = 1e-4
    """Weight decay, decoupled with ``adamw``. Source: official code."""
    warmup_steps: int = 100
    """Steps of linear warm-up before the cosine. Source: official code."""
    layer_decay: float = joined_later(1.0)
    """Factor of the learning rate from each transformer layer to the one before it, as in 0.9: early layers, which are
    the most general, change least. 1.0: one rate for all. Source: official code."""


@dataclass
class TrainConfig(FitConfig, OptimizerConfig):
    """Optimizer, schedule and stages."""

    stages: dict[str, StageConfig | None] = field(default_factory=dict)
    """Fits in this order; each starts from the best model of the one before. Source: official code."""
    chunk_size: int | None = joined_later(None)
    """Products of a batch that are encoded at a time and encoded again for the gradient, for batches beyond memory: the
    exact gradient of the whole batch (GradCache, docs/training.md); null: all at once."""
    gradient_checkpointing: bool = joined_later(False)
    """Compute the activations within each layer again for the gradient, which takes less memory and more time."""
    scale_lr: bool = joined_later(False)
    """Fit learning rates and warm-up to the products of a step on all processes: the rate times the root of their ratio
    to ``reference_batch``, the warm-up steps divided by the ratio (docs/training.md)."""
    reference_batch: int = joined_later(64)
    """Products of a step for which learning rates and warm-up are given; read with ``scale_lr``. Source: official
    code."""
    compile: bool = joined_later(False)
    """Compile the transformer layers (``torch.compile``): minutes before the first step, faster steps on a GPU."""
    strategy: Literal["auto", "ddp", "fsdp"] = joined_later("auto")
    """What each of several processes keeps: the whole model (``ddp``, as ``auto``), or a part of all weights, gradients
    and optimizer states, for a model beyond the memory of one GPU (``fsdp``, docs/training.md)."""
    accumulate_grad_batches: int = joined_later(1)
    """Chunks whose gradients make one step: only ``loader.batch_size`` divided by ``train.chunk_size``, or 1. Without
    chunks, adding gradients of small batches would not add negatives."""


@dataclass
class RunConfig:
    """All settings of a training run.

    A run is resumed only in a folder of the same identity: a hash of all keys but ``name``, ``data``, ``stream``,
    ``output``, ``threads``, ``accelerator``, ``logging``, ``protocols``, ``evaluate_splits``, ``loader.workers``,
    ``loader.cache_gb``, ``loader.evaluation_batch_size``, ``train.chunk_size``, ``train.gradient_checkpointing``,
    ``train.accumulate_grad_batches``, ``train.compile`` and ``train.strategy``, together with the fingerprints of the
    catalogues.
    """

    name: str = "run"
    """Name of the run in tables."""
    seed: int = 0
    """Seed of weights, order, views, augmentation and selection noise. Source: official code."""
    data: str = MISSING
    """A prepared catalogue."""
    stream: list[str] = joined_later(default_factory=list)
    """Catalogues, folders or URLs, whose train splits are read file by file in place of that of ``data``, which gives
    val and test: for products that do not fit on one disk (docs/training.md)."""
    output: str = "runs/${name}"
    """The run folder."""
    threads: int | None = None
    """CPU threads; null: all."""
    accelerator: Accelerator = "auto"
    """Device; ``auto`` uses a GPU if there is one."""
    devices: int = 1
    """Training processes per machine; the loss gathers the products of all. Source: official code."""
    nodes: int = 1
    """Machines with ``devices`` processes each; start the same command on each of them (docs/training.md)."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The encoder; plain CLIP with ``entities: {}`` and ``fusion_layers: []``."""
    text: TextConfig = field(default_factory=TextConfig)
    """The global text of a product."""
    image: ImageConfig = field(default_factory=ImageConfig)
    """Preprocessing and augmentation of images."""
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    """Batches."""
    loss: LossConfig = field(default_factory=LossConfig)
    """The contrastive loss, (1 - w) global + w mean over the entities."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Optimizer, schedule and stages."""
    logging: RunLoggingConfig = field(default_factory=RunLoggingConfig)
    """Loggers in addition to ``logs/csv``, which is always written, and sample figures (docs/logging.md)."""
    protocols: list[str] = field(default_factory=lambda: ["full"])
    """Protocols of the evaluation at the end. Source: paper."""
    evaluate_splits: list[Split] = field(default_factory=lambda: ["val"])
    """Splits that the evaluation at the end reads; ``[]``: none, and nothing is measured."""

    @property
    def processes(self) -> int:
        """Training processes on all machines, each with its batch."""
        return self.devices * self.nodes
