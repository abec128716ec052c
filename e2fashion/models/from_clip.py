"""Load a CLIP or SigLIP checkpoint into E2, distinguish E2's parameters, and add positions for longer texts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, SiglipConfig

from e2fashion.models.configuration_e2 import (
    REGIONAL_FIELDS,
    SIGMOID_LOGIT_SCALE,
    E2Config,
    E2VisionConfig,
    EntitiesLike,
    parse_entities,
    values_of_siglip,
)
from e2fashion.models.loading import checked_source, load_weights, only_our_errors, read_config
from e2fashion.models.tokenizer import load_tokenizer
from e2fashion.types import E2FashionError

REGIONAL_PREFIXES = (
    "vision_model.selection_tokens.",
    "vision_model.fusion_blocks.",
    "vision_model.token_gates.",
    "vision_model.sub_patches.",
    "vision_model.value_window.",
    "region_heads.",
)
OPTIONS = tuple(name for name in REGIONAL_FIELDS if name not in ("entities", "fusion_layers"))
"""Fields of :class:`E2VisionConfig` that :func:`load_clip` takes."""
JOINT_OPTIONS = ("similarity", "text_entities", "logit_bias_init_value", "text_pooling")
"""Those of :class:`E2Config`."""


def load_clip(
    model_class: Any,
    name_or_folder: str | Path,
    entities: EntitiesLike | None = None,
    fusion_layers: list[int] | None = None,
    **options: Any,
) -> Any:
    """Implementation of :meth:`E2Model.from_clip` for that class or a subclass of it.

    Raises:
        E2FashionError: as there.
    """
    unknown = sorted(set(options) - {*OPTIONS, *JOINT_OPTIONS})
    if unknown:
        known = ", ".join(["entities", "fusion_layers", *OPTIONS, *JOINT_OPTIONS])
        raise E2FashionError(f"from_clip got unknown options {unknown}; it takes: {known}")
    source = checked_source(name_or_folder)
    what = f"checkpoint {source!r}"
    read = read_config(source, (CLIPConfig.model_type, E2Config.model_type, SiglipConfig.model_type), what)
    given = {key: value for key, value in read.items() if key != "architectures"}
    if read["model_type"] == SiglipConfig.model_type:
        with only_our_errors(what, "Correct its config.json, or give another checkpoint."):
            given = values_of_siglip(given)
        # Texts are padded to the tower's length; the id in published configurations is often not the tokenizer's.
        given["text_config"]["pad_token_id"] = load_tokenizer(source).pad_token_id
    biased = given.get("logit_bias_init_value") is not None
    for option in [name for name in JOINT_OPTIONS if name in options]:
        given[option] = options.pop(option)
    with only_our_errors(what, "Correct its config.json, or give another checkpoint."):
        config = E2Config(**given)
    vision = {
        **config.vision_config.to_dict(),
        **options,
        "entities": list(parse_entities(entities)),
        "fusion_layers": fusion_layers,
    }
    config.vision_config = E2VisionConfig(**vision)
    config.keep_read_patches()
    # An E2 checkpoint may have tensors of entities that are not requested.
    variants = (model_class, *model_class.__subclasses__())
    added = tuple({prefix for variant in variants for prefix in variant.added_prefixes})
    model = load_weights(model_class, source, config, what, added, added)
    if model.logit_bias is not None and not biased:
        # The temperature of a softmax means nothing to a sigmoid: both start as published.
        model.logit_scale.data.fill_(SIGMOID_LOGIT_SCALE)
    if config.vision_config.projection_init == "random":
        factor = config.vision_config.initializer_factor
        width = model.visual_projection.in_features
        with torch.no_grad():
            model.visual_projection.weight.normal_(std=factor / math.sqrt(width))
    return model


def new_parameter_names(model: nn.Module) -> list[str]:
    """Names of the parameters that CLIP checkpoints lack: selection tokens, fusion blocks and region heads.

    With ``projection_init`` ``random`` the image projection is included (official code: its first stage trains "only
    the new parameters", including the projection).
    """
    vision = getattr(model.config, "vision_config", model.config)
    prefixes = _added_prefixes(model)
    if getattr(vision, "projection_init", "clip") == "random":
        prefixes = (*prefixes, "visual_projection.")
    return [name for name, _ in model.named_parameters() if name.startswith(prefixes)]


def added_parameters(model: nn.Module) -> int:
    """The number of parameters that E2 adds to a CLIP of the same backbone."""
    prefixes = _added_prefixes(model)
    return sum(parameter.numel() for name, parameter in model.named_parameters() if name.startswith(prefixes))


def _added_prefixes(model: nn.Module) -> tuple[str, ...]:
    """Prefixes of an :class:`E2Model` or its variant; for other models those of the regional parameters."""
    prefixes: tuple[str, ...] = getattr(model, "added_prefixes", REGIONAL_PREFIXES)
    return prefixes


#: The first positions, which are trained best, are kept unchanged (Zhang et al., Long-CLIP, 2024).
KEPT = 20


def stretched_positions(positions: Tensor, length: int) -> Tensor:
    """Position embeddings (P, D) stretched to ``length``: the first are kept, the others interpolated linearly.

    Position ``KEPT + i`` reads the old position ``KEPT + i * (P - KEPT) / (length - KEPT)``; positions after the last
    one are extrapolated from the last two. From 77 to 248 this is Long-CLIP's factor of four. Of fewer than 40
    positions half are kept.
    """
    kept = min(KEPT, len(positions) // 2)
    step = (len(positions) - kept) / (length - kept)
    source = kept + step * torch.arange(length - kept, dtype=torch.float64)
    below = source.floor().long().clamp(max=len(positions) - 2)
    share = rearrange((source - below).to(positions.dtype), "n -> n 1")
    return torch.cat([positions[:kept], torch.lerp(positions[below], positions[below + 1], share)])


@torch.no_grad()
def stretch_text_positions(model: CLIPModel, length: int) -> None:
    """Stretch the positions of the text encoder of ``model`` to ``length`` tokens.

    The features of texts of at most ``KEPT`` tokens are bit-equal; longer texts need training.
    ``model.config.text_stretched_from`` is the former number of positions.

    Raises:
        E2FashionError: it has as many positions already, or too few to interpolate between, or it is a SigLIP.
    """
    if getattr(model.config, "backbone", "clip") == "siglip":
        raise E2FashionError(
            "text.overflow is stretch, but a SigLIP reads every text at full length, padding included: its positions "
            "cannot be stretched. Set text.overflow=truncate."
        )
    embeddings = model.text_model.embeddings
    before = embeddings.position_embedding.weight
    if length <= len(before):
        raise E2FashionError(
            f"text.overflow is stretch, but text.context_length is {length} and the checkpoint reads {len(before)} "
            "tokens already. Give a larger value, as in text.context_length=248, or set text.overflow=truncate."
        )
    if len(before) < 4:
        raise E2FashionError(f"the checkpoint has {len(before)} text positions, too few to stretch: use another one")
    after = nn.Embedding(length, before.shape[1], device=before.device, dtype=before.dtype)
    after.weight.copy_(stretched_positions(before, length))
    embeddings.position_embedding = after
    embeddings.position_ids = rearrange(torch.arange(length, device=before.device), "n -> 1 n")
    # The tower's configuration may be the model's or a copy.
    text_config: Any = model.config.text_config
    for config in (text_config, model.text_model.config):
        config.max_position_embeddings = length
    model.config.text_stretched_from = getattr(model.config, "text_stretched_from", None) or len(before)
