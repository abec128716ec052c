"""Build the objects of a training run from its configuration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedTokenizerBase
from transformers.activations import ACT2FN

from e2fashion.arithmetic import Choice, build_device, resolve_attention, resolve_precision
from e2fashion.config import options_for
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.datamodule import CatalogueDataModule
from e2fashion.data.stream import Stream, open_stream
from e2fashion.data.text import DESCRIPTION, TextTemplate
from e2fashion.data.transforms import CLIP_MEAN, CLIP_STD, ImageTransform
from e2fashion.extensions import ExtensionPoint
from e2fashion.losses.contrastive import ContrastiveLoss, LossTerm, ModelTerm, WeightedTerm
from e2fashion.losses.filip import TokenContrast
from e2fashion.losses.terms import CropTeacher, ImageTags, SwappedTags, TextPooled
from e2fashion.model_folder import transform_of
from e2fashion.models.configuration_e2 import REGIONAL_FIELDS, SIGMOID_LOGIT_BIAS, SIGMOID_LOGIT_SCALE, E2Config
from e2fashion.models.from_clip import stretch_text_positions
from e2fashion.models.loading import checked_source, read_config
from e2fashion.models.modeling_e2 import E2Model
from e2fashion.models.tokenizer import check_token_ids, load_tokenizer, text_special_ids, train_tokenizer
from e2fashion.training.config import LossConfig, ModelConfig, RunConfig
from e2fashion.training.lora import add_lora
from e2fashion.types import E2FashionError, Entity

LOSS_TERMS: dict[str, type[LossTerm] | type[ModelTerm]] = {
    "crop_teacher": CropTeacher,
    "image_tags": ImageTags,
    "swapped_tags": SwappedTags,
    "text_pooling": TextPooled,
}
"""Terms by name. The global and the regional ones are :class:`e2fashion.losses.contrastive.ContrastiveLoss` itself."""

TERM_POINT = ExtensionPoint("loss term", "e2fashion.loss_terms", ("__call__", "reads_regions"))


def build_loss_terms(config: LossConfig) -> dict[str, WeightedTerm]:
    """The additional terms of the loss, in the order of the configuration, without those set to null.

    Raises:
        E2FashionError: an unknown term or option (the known ones are listed), or an error of the term.
    """
    terms: dict[str, WeightedTerm] = {}
    for name, given in config.terms.items():
        if given is None:
            continue
        schema = TERM_POINT.find(name, LOSS_TERMS)
        if schema is None:
            known = ", ".join(TERM_POINT.names(LOSS_TERMS)) or "none"
            raise E2FashionError(f"loss.terms names '{name}', which is not a loss term. Known terms: {known}.")
        terms[name] = WeightedTerm(schema(**options_for(f"loss term '{name}'", schema, given.options)), given.weight)
    return terms


def build_entities(config: ModelConfig) -> tuple[Entity, ...]:
    """The entities in the order of the configuration, without those set to null."""
    return tuple(
        Entity(name=name, column=entity.column or name, tokens=entity.tokens, fixed=entity.fixed)
        for name, entity in config.entities.items()
        if entity is not None
    )


def build_text_entities(config: ModelConfig) -> tuple[Entity, ...]:
    """The tags that join the text's feature, in the order of the configuration, without those set to null."""
    return tuple(
        Entity(name=name, column=entity.column or name)
        for name, entity in config.text_entities.items()
        if entity is not None
    )


def build_template(config: RunConfig, catalogue: Catalogue) -> TextTemplate:
    """The template of the global text, checked against the catalogue's columns."""
    template = TextTemplate(config.text.template)
    template.validate(catalogue.tag_columns)
    return template


def resolve_arithmetic(config: RunConfig, device: torch.device | None = None) -> tuple[RunConfig, dict[str, Choice]]:
    """The run with ``train.precision`` and ``model.attention`` resolved for its device, and the reasons.

    The resolved values are part of a run's identity, so the same file is another run on another kind of machine.
    """
    device = device or build_device(config.accelerator)
    precision = resolve_precision(config.train.precision, device)
    attention = resolve_attention(config.model.attention, precision.value, device)
    resolved = replace(
        config,
        train=replace(config.train, precision=precision.value),
        model=replace(config.model, attention=attention.value),
    )
    return resolved, {"precision": precision, "attention": attention}


def build_transform(config: RunConfig) -> ImageTransform:
    """The image transform, with CLIP's mean and standard deviation, or those of a SigLIP checkpoint and its filter."""
    transform = ImageTransform(mean=CLIP_MEAN, std=CLIP_STD)
    if config.model.checkpoint is not None:
        source, what = checked_source(config.model.checkpoint), f"model.checkpoint '{config.model.checkpoint}'"
        read = read_config(source, (), what)
        if "siglip" in (read.get("model_type"), read.get("backbone")):
            transform = transform_of(source, what, read["model_type"] == "siglip")
    return replace(transform, size=config.image.size, resize=config.image.resize)


def training_texts(config: RunConfig, catalogue: Catalogue, template: TextTemplate) -> Iterator[str]:
    """The texts to train a tokenizer on: text and tags of every training product, in order."""
    columns = sorted({*template.columns, *entity_columns(config.model)} - {DESCRIPTION})
    stream = build_stream(config, template)
    read = [DESCRIPTION, *columns]
    rows = stream.texts(read) if stream is not None else catalogue.split("train").select_columns(read)
    for row in rows:
        tags = {column: row[column] for column in columns}
        yield template.render(tags, row[DESCRIPTION])
        yield from (tag for tag in tags.values() if tag)


def build_tokenizer(config: RunConfig, texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """The checkpoint's tokenizer, or one trained on ``texts`` (read only then)."""
    if config.model.checkpoint is not None:
        stretched = config.text.context_length if config.text.overflow == "stretch" else None
        return load_tokenizer(checked_source(config.model.checkpoint), stretched)
    scratch = config.model.scratch
    return train_tokenizer(
        texts, kind=scratch.tokenizer, vocabulary=scratch.vocabulary, context_length=config.text.context_length
    )


def build_model(config: RunConfig, tokenizer: PreTrainedTokenizerBase, trained: Path | None = None) -> E2Model:
    """The encoder in fp32: the model folder ``trained``, a CLIP checkpoint with E2's new parts, or from scratch.

    Raises:
        E2FashionError: a checkpoint that cannot be read, an invalid shape, or an image size that is not a multiple of
            the patch size.
    """
    try:
        # fp32 weights, also from a half-precision checkpoint; autocast does the rest.
        model = (E2Model.from_pretrained(trained) if trained else _new_model(config, tokenizer)).float()
        model.train()  # what was loaded is in evaluation mode, in which nothing is noisy; Lightning leaves it there
    except (ValueError, StrictDataclassError) as error:
        reason = str(error).strip().splitlines()[-1].strip().removeprefix("ValueError: ")
        raise E2FashionError(f"The model cannot be built: {reason} Correct the shapes in model.scratch.") from error
    backbone, what = model.config.backbone, f"'{trained or config.model.checkpoint or 'model.scratch'}'"
    check_token_ids(tokenizer, model.config.text_config, what, backbone)
    add_lora(model, config.model.lora)
    model.set_attn_implementation(resolve_arithmetic(config)[0].model.attention)
    if config.train.compile:
        for tower in (model.vision_model, model.text_model):
            for layer in tower.encoder.layers:
                layer.compile(dynamic=True)  # texts differ in length; in place, so that names stay
    if config.train.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})  # reentrant: twice a gradient for DDP
    if config.text.overflow == "stretch" and trained is None:
        stretch_text_positions(model, config.text.context_length)
    positions = model.config.text_config.max_position_embeddings
    if not 2 <= config.text.context_length <= positions:
        stretches = config.model.checkpoint is not None and backbone == "clip"
        raise E2FashionError(
            f"text.context_length is {config.text.context_length}; the text encoder reads from 2 to {positions} "
            f"tokens. Use text.context_length={positions} or less"
            + (", or stretch its positions with text.overflow=stretch." if stretches else ".")
        )
    patch = model.config.vision_config.patch_size
    if config.image.size % patch:
        below = config.image.size // patch * patch
        fitting = " or ".join(str(size) for size in (below, below + patch) if size)
        raise E2FashionError(
            f"image.size is {config.image.size}, not a multiple of the patch size {patch}. Use image.size={fitting}."
        )
    return model


def _new_model(config: RunConfig, tokenizer: PreTrainedTokenizerBase) -> E2Model:
    model = config.model
    entities = build_entities(model)
    named = {"selection_temperature": model.temperature} | vars(model)
    parts = {name: named[name] for name in REGIONAL_FIELDS if name != "entities"}
    joint: dict[str, Any] = {"similarity": model.similarity, "text_entities": build_text_entities(model)}
    joint["text_pooling"] = config.loss.terms.get("text_pooling") is not None
    temperature: dict[str, Any] = {}
    if config.loss.kind == "sigmoid":
        joint["logit_bias_init_value"] = SIGMOID_LOGIT_BIAS
        temperature["logit_scale_init_value"] = SIGMOID_LOGIT_SCALE
    if model.checkpoint is not None:
        made = E2Model.from_clip(model.checkpoint, entities=entities, **joint, **parts)
        if made.logit_bias is not None and config.loss.kind == "softmax":
            raise E2FashionError(
                f"model.checkpoint '{model.checkpoint}' was trained with the sigmoid loss (it has a logit_bias), and "
                "loss.kind is softmax, which has no bias. Set loss.kind=sigmoid, or give another checkpoint."
            )
        return made
    scratch = model.scratch
    if scratch.activation not in ACT2FN:
        raise E2FashionError(f"model.scratch.activation is '{scratch.activation}'; CLIP's is quick_gelu, others gelu.")
    activation = {"hidden_act": scratch.activation, "projection_dim": scratch.projection_dim}
    built = E2Config(
        vision_config={
            **_tower(scratch.vision.layers, scratch.vision.width, scratch.vision.heads),
            **activation,
            "image_size": config.image.size,
            "patch_size": scratch.patch_size,
            "entities": [entity.as_dict() for entity in entities],
            **parts,
        },
        text_config={
            **_tower(scratch.text.layers, scratch.text.width, scratch.text.heads),
            **activation,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": config.text.context_length,
            **text_special_ids(tokenizer),
        },
        projection_dim=scratch.projection_dim,
        **temperature,
        **joint,
    )
    return E2Model(built)


def build_stream(config: RunConfig, template: TextTemplate) -> Stream | None:
    """The catalogues that are streamed, if any.

    Raises:
        E2FashionError: one of them cannot be streamed, or lacks a column that is read, or there are too few products.
    """
    if config.stream and config.loader.train_share != 1.0:
        raise E2FashionError("a stream is read whole: set loader.train_share=1, or train without a stream.")
    if config.stream and config.loader.group_by is not None:
        raise E2FashionError("a stream is read in its order: set loader.group_by=null, or train without a stream.")
    if not config.stream:
        return None
    stream = open_stream(*config.stream)
    for part, columns in stream.columns.items():
        for column in (*template.columns, *entity_columns(config.model)):
            if column not in columns:
                raise E2FashionError(
                    f"stream: {part} lacks the column '{column}', which model.entities or text.template names. Its "
                    f"columns: {', '.join(columns)}."
                )
    if len(stream) < (step := config.loader.batch_size * config.processes):
        raise E2FashionError(
            f"stream: it has {len(stream):,} products, and a step takes {step:,}. Lower loader.batch_size."
        )
    return stream


def entity_columns(config: ModelConfig) -> list[str]:
    """The column of each entity, and of each tag that joins the text's feature."""
    return [entity.column for entity in (*build_entities(config), *build_text_entities(config))]


def build_datamodule(
    config: RunConfig,
    catalogue: Catalogue,
    template: TextTemplate,
    transform: ImageTransform,
    tokenizer: PreTrainedTokenizerBase,
) -> CatalogueDataModule:
    """Loaders of train and val for Lightning."""
    return CatalogueDataModule(
        catalogue=catalogue,
        template=template,
        transform=transform,
        tokenizer=tokenizer,
        entity_columns=entity_columns(config.model),
        context_length=config.text.context_length,
        overflow=config.text.overflow,
        batch_size=config.loader.batch_size,
        evaluation_batch_size=config.loader.evaluation_batch_size,
        workers=config.loader.workers,
        cache_gb=config.loader.cache_gb,
        flip=config.image.flip,
        crop_scale=config.image.crop_scale,
        seed=config.seed,
        train_share=config.loader.train_share,
        stream=build_stream(config, template),
        shuffle_buffer=config.loader.shuffle_buffer,
        open_files=config.loader.open_files,
        group_by=config.loader.group_by,
        swap_tags=config.loss.terms.get("swapped_tags") is not None,
    )


def build_loss(config: RunConfig) -> ContrastiveLoss:
    """The terms of the loss with their weights.

    Raises:
        E2FashionError: a weight or share out of range, or an unknown term.
    """
    entities, gather = build_entities(config.model), config.processes > 1
    tokens = TokenContrast(config.loss.token_keep, gather, config.loss.half_precision_gather, config.train.chunk_size)
    return ContrastiveLoss(
        entity_names=[entity.name for entity in entities],
        region_weight=config.loss.region_weight if entities else 0.0,
        region_targets=config.loss.region_targets,
        gather=gather,
        global_term=tokens if config.model.similarity == "tokens" else None,
        terms=build_loss_terms(config.loss),
    )


def _tower(layers: int, width: int, heads: int) -> dict[str, int]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
    }
