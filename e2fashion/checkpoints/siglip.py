"""A SigLIP in open_clip's layout, whose image tower is timm's, as a model folder of ours (FashionSigLIP is one)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from e2fashion.checkpoints.config import ConvertConfig
from e2fashion.checkpoints.files import read_state_file
from e2fashion.checkpoints.open_clip import CONFIG_FILE, RESIZE_MODES, feature_difference, read_reference
from e2fashion.checkpoints.openai import HEAD_WIDTH, State, count_numbers, filled
from e2fashion.checkpoints.read import NO_TOKENIZER, WIDEST_BY_RULE, Imported
from e2fashion.data.transforms import ImageTransform
from e2fashion.disk import reading
from e2fashion.models.configuration_e2 import SIGMOID_LOGIT_BIAS, SIGMOID_LOGIT_SCALE, E2Config
from e2fashion.models.modeling_e2 import E2Model
from e2fashion.models.siglip import SiglipE2Model
from e2fashion.models.tokenizer import check_token_ids, load_tokenizer
from e2fashion.text_files import read_json
from e2fashion.types import E2FashionError

_IMAGE, _TEXT = "vision_model.", "text_model."
#: Patterns of keys in open_clip's layout and what they are called in Transformers', the first match counts.
_NAMES = (
    (r"visual\.trunk\.patch_embed\.proj\.", rf"{_IMAGE}embeddings.patch_embedding."),
    (r"visual\.trunk\.pos_embed$", rf"{_IMAGE}embeddings.position_embedding.weight"),
    (r"visual\.trunk\.blocks\.(\d+)\.norm([12])\.", rf"{_IMAGE}encoder.layers.\1.layer_norm\2."),
    (r"visual\.trunk\.blocks\.(\d+)\.attn\.qkv\.", rf"{_IMAGE}encoder.layers.\1.self_attn.qkv."),
    (r"visual\.trunk\.blocks\.(\d+)\.attn\.proj\.", rf"{_IMAGE}encoder.layers.\1.self_attn.out_proj."),
    (r"visual\.trunk\.blocks\.(\d+)\.mlp\.", rf"{_IMAGE}encoder.layers.\1.mlp."),
    (r"visual\.trunk\.norm\.", rf"{_IMAGE}post_layernorm."),
    (r"visual\.trunk\.attn_pool\.latent$", rf"{_IMAGE}head.probe"),
    (r"visual\.trunk\.attn_pool\.proj\.", rf"{_IMAGE}head.attention.out_proj."),
    (r"visual\.trunk\.attn_pool\.norm\.", rf"{_IMAGE}head.layernorm."),
    (r"visual\.trunk\.attn_pool\.", rf"{_IMAGE}head."),
    (r"text\.token_embedding\.", rf"{_TEXT}embeddings.token_embedding."),
    (r"text\.positional_embedding$", rf"{_TEXT}embeddings.position_embedding.weight"),
    (r"text\.transformer\.resblocks\.(\d+)\.ln_([12])\.", rf"{_TEXT}encoder.layers.\1.layer_norm\2."),
    (r"text\.transformer\.resblocks\.(\d+)\.attn\.in_proj_", rf"{_TEXT}encoder.layers.\1.self_attn.qkv."),
    (r"text\.transformer\.resblocks\.(\d+)\.attn\.", rf"{_TEXT}encoder.layers.\1.self_attn."),
    (r"text\.transformer\.resblocks\.(\d+)\.mlp\.c_fc\.", rf"{_TEXT}encoder.layers.\1.mlp.fc1."),
    (r"text\.transformer\.resblocks\.(\d+)\.mlp\.c_proj\.", rf"{_TEXT}encoder.layers.\1.mlp.fc2."),
    (r"text\.ln_final\.", rf"{_TEXT}final_layer_norm."),
    (r"text\.text_projection\.", rf"{_TEXT}head."),
)


def to_transformers(state: State) -> dict[str, Tensor]:
    """The tensors under Transformers' names, each tower's joint maps of queries, keys and values as it has them.

    Unknown keys are kept: loading the tensors refuses them.
    """
    made: dict[str, Tensor] = {}
    for key, value in state.items():
        name = next((re.sub(f"^{old}", new, key) for old, new in _NAMES if re.match(old, key)), key)
        if name.endswith("position_embedding.weight"):
            made[name] = value.reshape(-1, value.shape[-1])
        elif name in ("logit_scale", "logit_bias"):
            made[name] = value.reshape(1)
        elif ".qkv." in name:
            for part, piece in zip("qkv", value.chunk(3), strict=True):
                made[name.replace(".qkv.", f".{part}_proj.")] = piece
        else:
            made[name] = value
    for kind in ("weight", "bias"):
        parts = [made.pop(f"{_IMAGE}head.{part}.{kind}", None) for part in ("q", "kv")]
        if all(part is not None for part in parts):
            made[f"{_IMAGE}head.attention.in_proj_{kind}"] = torch.cat([part for part in parts if part is not None])
    return made


def import_siglip(config: ConvertConfig) -> Imported:
    """Read the state dict of a configuration with ``source`` ``open_clip_siglip``.

    Raises:
        E2FashionError: no tokenizer is named, or anything that is missing, unknown or does not fit.
    """
    if config.tokenizer in (None, NO_TOKENIZER):
        raise E2FashionError(
            "which tokenizer goes along? A SigLIP reads its padding: name a folder or hub name that has it, such as "
            "tokenizer=google/siglip-base-patch16-224"
        )
    file, what = Path(config.checkpoint), f"'{config.checkpoint}'"
    read = read_state_file(file)
    tensors = to_transformers(read.tensors)
    described = _described(file, config)
    tokenizer = load_tokenizer(str(config.tokenizer))
    activation = config.activation or "gelu"  # of timm's and open_clip's first SigLIPs
    towers = _towers(tensors, config.vision_heads, config.text_heads or described.text_heads, what)
    towers["vision_config"]["hidden_act"] = activation
    towers["text_config"] |= {
        "hidden_act": config.activation or described.text_activation,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    made = E2Config(
        **towers,
        projection_dim=towers["vision_config"]["hidden_size"],
        backbone="siglip",
        logit_scale_init_value=SIGMOID_LOGIT_SCALE,
        logit_bias_init_value=SIGMOID_LOGIT_BIAS,
    )
    check_token_ids(tokenizer, made.text_config, what, "siglip")
    model: E2Model = filled(SiglipE2Model, made, tensors)
    notes = [
        f"{model.num_parameters():,} parameters; activations: {activation} of the image tower, "
        f"{made.text_config.hidden_act} of the text tower",
        f"tokenizer: '{config.tokenizer}', which pads with {tokenizer.pad_token_id}; open_clip lowers case and removes "
        "punctuation before it, which a tokenizer of type SiglipTokenizer does too",
    ]
    if config.check:
        largest = max(feature_difference(model, read_reference(config.check)).values())
        if largest > config.tolerance:
            raise E2FashionError(
                f"features differ from those in '{config.check}' by up to {largest:.2g} (tolerance "
                f"{config.tolerance:.2g}): compare pixels and token ids, activation= and the heads (vision_heads=)"
            )
        notes.append(f"features in '{config.check}' agree: largest difference {largest:.2g}")
    transform = replace(described.transform, size=made.vision_config.image_size)
    if config.resize is not None:
        transform = replace(transform, resize=config.resize)
    template = config.template or "{description}"
    notes.append(f"images become squares by {transform.resize}; global text: {template}")
    return Imported(model, tokenizer, transform, template, [*notes, *read.notes])


@dataclass(frozen=True)
class _Described:
    """What a configuration of open_clip adds to the tensors; without one Google's SigLIP."""

    transform: ImageTransform = ImageTransform(224, "squeeze", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    text_heads: int | None = None
    text_activation: str = "gelu"


def _described(file: Path, config: ConvertConfig) -> _Described:
    """The configuration that is named, or the one next to the checkpoint."""
    path = Path(config.config) if config.config else file.parent / CONFIG_FILE
    if not config.config and not path.is_file():
        return _Described()
    with reading(f"'{path}', a configuration of open_clip,", "Fetch it again, or name the right one: config="):
        content = read_json(path, "configuration of open_clip")
        text, images = content.get("model_cfg", content)["text_cfg"], content.get("preprocess_cfg") or {}
        default = _Described.transform
        transform = ImageTransform(
            default.size,
            RESIZE_MODES[images.get("resize_mode", "squash")],
            tuple(images.get("mean", default.mean)),
            tuple(images.get("std", default.std)),
            images.get("interpolation", default.resample),
        )
        tanh = (text.get("act_kwargs") or {}).get("approximate") == "tanh"
        return _Described(transform, int(text["heads"]), "gelu_pytorch_tanh" if tanh else "gelu")


def _towers(tensors: State, vision_heads: int | None, text_heads: int | None, what: str) -> dict[str, Any]:
    """``vision_config`` and ``text_config``, from the tensors' shapes."""
    try:
        patches = tensors[f"{_IMAGE}embeddings.patch_embedding.weight"]
        positions = tensors[f"{_IMAGE}embeddings.position_embedding.weight"]
        tokens = tensors[f"{_TEXT}embeddings.token_embedding.weight"]
        context = tensors[f"{_TEXT}embeddings.position_embedding.weight"]
        vision, text = _tower(tensors, _IMAGE, vision_heads, what), _tower(tensors, _TEXT, text_heads, what)
    except KeyError as error:
        raise E2FashionError(
            f"{what} is not a SigLIP in open_clip's layout: it lacks what becomes {error}. Name the layout that it has"
        ) from error
    size = {"image_size": math.isqrt(len(positions)) * patches.shape[-1], "patch_size": patches.shape[-1]}
    return {
        "vision_config": vision | size,
        "text_config": text | {"vocab_size": len(tokens), "max_position_embeddings": len(context)},
    }


def _tower(tensors: State, prefix: str, heads: int | None, what: str) -> dict[str, Any]:
    inner, width = tensors[f"{prefix}encoder.layers.0.mlp.fc1.weight"].shape
    if heads is None and width > WIDEST_BY_RULE:
        raise E2FashionError(
            f"{what} has a tower of width {width}, whose heads need not have width 64: name "
            f"{'vision' if prefix == _IMAGE else 'text'}_heads="
        )
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": count_numbers(tensors, rf"{prefix}encoder\.layers\.(\d+)\."),
        "num_attention_heads": heads or width // HEAD_WIDTH,
        "layer_norm_eps": 1e-6,
    }
