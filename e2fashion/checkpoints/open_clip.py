"""open_clip's checkpoints: OpenAI's names, a configuration for what tensors do not say, and which activation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel
from transformers.activations import ACT2FN
from transformers.models.clip.modeling_clip import CLIPMLP

from e2fashion.checkpoints.files import read_state_file
from e2fashion.checkpoints.openai import HEAD_WIDTH, OpenAIShape, State, shape_of
from e2fashion.data.transforms import Filter, Resize
from e2fashion.disk import reading
from e2fashion.text_files import read_json
from e2fashion.types import E2FashionError

CONFIG_FILE, WEIGHTS_FILE = "open_clip_config.json", "open_clip_model.safetensors"
#: Prefix of open_clip's keys of a text tower that is a separate module.
TEXT_PREFIX = "text."
RESIZE_MODES: dict[str, Resize] = {"shortest": "crop", "squash": "squeeze", "longest": "pad"}
"""open_clip's names of the ways of making a square, and ours."""
ACTIVATIONS = {True: "quick_gelu", False: "gelu"}
"""By ``quick_gelu`` of the configuration."""
PAIRS = {"pixel_values": "image_features", "input_ids": "text_features"}
"""Content of a file of reference features: input, and the features (N, C) that the original computes from it."""

#: open_clip's defaults of what CLIP has.
_DEFAULTS = {
    "vision_cfg": {"layers": 12, "width": 768, "patch_size": 16, "image_size": 224, "mlp_ratio": 4.0},
    "text_cfg": {"layers": 12, "width": 512, "context_length": 77, "vocab_size": 49408, "mlp_ratio": 4.0},
}
_DEFAULT_TEXT_HEADS = 8
#: Keys that change no feature of a trained model.
_HARMLESS = {
    "custom_text",
    "init_logit_scale",
    "patch_dropout",
    "output_tokens",
    "hf_tokenizer_name",
    "tokenizer_kwargs",
    "timm_model_pretrained",
    "timm_pool",
    "timm_proj",
    "hf_model_pretrained",
    "pad_id",
}
#: Of the others, the values that mean CLIP.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "pool_type": ("tok", "argmax"),
    "pos_embed_type": ("learnable",),
    "block_type": ("default",),
    "proj_type": ("linear",),
}
_PREPROCESSING = {"mode": "RGB", "interpolation": "bicubic", "fill_color": 0}


@dataclass(frozen=True)
class OpenClipConfig:
    """What a configuration file adds to the tensors; None where it does not say."""

    activation: str | None = None
    vision_heads: int | None = None
    text_heads: int | None = None
    tokenizer: str | None = None
    resize: Resize | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def without_text_prefix(state: State) -> dict[str, Tensor]:
    """The same tensors with the text tower where OpenAI has it, next to ``visual``.

    Raises:
        E2FashionError: there are keys with the prefix and the same ones without it.
    """
    plain = {key.removeprefix(TEXT_PREFIX): value for key, value in state.items()}
    if len(plain) < len(state):
        doubled = sorted(key for key in state if TEXT_PREFIX + key in state)
        raise E2FashionError(
            f"the state dict has {len(doubled)} keys twice, plain and with '{TEXT_PREFIX}': {', '.join(doubled[:5])}. "
            "Save it again with one text tower"
        )
    return plain


def read_open_clip_config(file: Path, sizes: OpenAIShape) -> OpenClipConfig:
    """``open_clip_config.json`` of a checkpoint, or one of the model configurations in open_clip.

    Raises:
        E2FashionError: no JSON of that kind, sizes other than the tensors', or a part that CLIP does not have.
    """
    with reading(f"'{file}', a configuration of open_clip,", "Fetch it again, or name the right one: config="):
        return _read_config(file, sizes)


def _read_config(file: Path, sizes: OpenAIShape) -> OpenClipConfig:
    content = read_json(file, "configuration of open_clip")
    model = content.get("model_cfg", content) if isinstance(content, dict) else None
    if not isinstance(model, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= model.keys():
        raise E2FashionError(f"'{file}' is not an open_clip configuration: it lacks embed_dim, vision_cfg or text_cfg")
    vision, text = model["vision_cfg"], model["text_cfg"]
    given = {**model, "vision_cfg": None, "text_cfg": None}
    _refuse_other_parts({"": given, "vision_cfg.": vision, "text_cfg.": text}, file)
    _compare_sizes(model, sizes, file)
    preprocessing = content.get("preprocess_cfg") or {}
    for key, expected in _PREPROCESSING.items():
        if preprocessing.get(key, expected) != expected:
            raise E2FashionError(
                f"'{file}': preprocess_cfg.{key} is {preprocessing[key]!r}, and images are read with {expected!r} "
                "here: features would differ. Write that value into the file if you accept it"
            )
    mode = preprocessing.get("resize_mode", "shortest")
    if mode not in RESIZE_MODES:
        raise E2FashionError(f"'{file}': preprocess_cfg.resize_mode is {mode!r}; known: {', '.join(RESIZE_MODES)}")
    return OpenClipConfig(
        activation=ACTIVATIONS[bool(model.get("quick_gelu", False))],
        vision_heads=sizes.vision_width // int(vision.get("head_width") or HEAD_WIDTH),
        text_heads=int(text.get("heads") or _DEFAULT_TEXT_HEADS),
        tokenizer=text.get("hf_tokenizer_name"),
        resize=RESIZE_MODES[mode],
        mean=tuple(preprocessing["mean"]) if "mean" in preprocessing else None,
        std=tuple(preprocessing["std"]) if "std" in preprocessing else None,
    )


def _refuse_other_parts(parts: dict[str, dict[str, Any]], file: Path) -> None:
    """Every key that is not a size of CLIP's must say that a part is absent."""
    sizes = {"embed_dim", "quick_gelu", "heads", "head_width", *_DEFAULTS["vision_cfg"], *_DEFAULTS["text_cfg"]}
    other = [
        f"{section}{key}={value!r}"
        for section, values in parts.items()
        for key, value in values.items()
        if key not in sizes | _HARMLESS and value not in (None, False, {}) and value not in _NEUTRAL.get(key, ())
    ]
    if other:
        raise E2FashionError(
            f"'{file}' describes a model that is not a CLIP like OpenAI's: {', '.join(other)}. It cannot be converted"
        )


def _compare_sizes(model: dict[str, Any], sizes: OpenAIShape, file: Path) -> None:
    vision = {**_DEFAULTS["vision_cfg"], **model["vision_cfg"]}
    text = {**_DEFAULTS["text_cfg"], **model["text_cfg"]}
    pixels = vision["image_size"]
    pairs = {
        "embed_dim": (model["embed_dim"], sizes.joint),
        "vision_cfg.layers": (vision["layers"], sizes.vision_layers),
        "vision_cfg.width": (vision["width"], sizes.vision_width),
        "vision_cfg.patch_size": (vision["patch_size"], sizes.patch_size),
        "vision_cfg.image_size": (pixels if isinstance(pixels, int) else max(pixels), sizes.image_size),
        "vision_cfg.mlp_ratio": (int(vision["width"] * vision["mlp_ratio"]), sizes.vision_mlp),
        "text_cfg.layers": (text["layers"], sizes.text_layers),
        "text_cfg.width": (text["width"], sizes.text_width),
        "text_cfg.context_length": (text["context_length"], sizes.context),
        "text_cfg.vocab_size": (text["vocab_size"], sizes.vocabulary),
        "text_cfg.mlp_ratio": (int(text["width"] * text["mlp_ratio"]), sizes.text_mlp),
    }
    wrong = [
        f"{key} means {given}, the tensors have {stored}" for key, (given, stored) in pairs.items() if given != stored
    ]
    if wrong:
        raise E2FashionError(
            f"'{file}' does not belong to this state dict: {'; '.join(wrong)}. Name the right one: config="
        )


def open_clip_config(
    model: CLIPModel, resize: Resize, mean: tuple[float, ...], std: tuple[float, ...], resample: Filter = "bicubic"
) -> dict[str, Any]:
    """The configuration file for a model whose images become squares by ``resize`` and ``resample``.

    ``head_width`` and ``heads`` are written, so that no reader has to know a rule.
    """
    vision: Any = model.config.vision_config
    text: Any = model.config.text_config
    sizes = shape_of(model)
    modes = {ours: theirs for theirs, ours in RESIZE_MODES.items()}
    return {
        "model_cfg": {
            "embed_dim": sizes.joint,
            "quick_gelu": vision.hidden_act == ACTIVATIONS[True],
            "vision_cfg": {
                "image_size": sizes.image_size,
                "layers": sizes.vision_layers,
                "width": sizes.vision_width,
                "head_width": sizes.vision_width // vision.num_attention_heads,
                "patch_size": sizes.patch_size,
                "mlp_ratio": sizes.vision_mlp / sizes.vision_width,
            },
            "text_cfg": {
                "context_length": sizes.context,
                "vocab_size": sizes.vocabulary,
                "width": sizes.text_width,
                "heads": text.num_attention_heads,
                "layers": sizes.text_layers,
                "mlp_ratio": sizes.text_mlp / sizes.text_width,
            },
        },
        "preprocess_cfg": {
            "mean": list(mean),
            "std": list(std),
            "interpolation": resample,
            "resize_mode": modes[resize],
        },
    }


def named_activation(sources: Mapping[str, str]) -> dict[str, str]:
    """Those of ``sources`` (a file's name, a training run's) whose text names quick_gelu; its absence means nothing."""
    plain = {source: text.lower().replace("_", "").replace("-", "") for source, text in sources.items()}
    return {source: ACTIVATIONS[True] for source, text in plain.items() if "quickgelu" in text}


def agreed_activation(declared: Mapping[str, str], remedy: str) -> str:
    """The one activation that all sources declare.

    Raises:
        E2FashionError: they contradict each other, or there is none.
    """
    named = sorted(set(declared.values()))
    if not named:
        raise E2FashionError(
            f"quick_gelu or gelu? A state dict does not hold its activation, and a wrong one gives wrong features "
            f"without an error: {remedy}"
        )
    if len(named) > 1:
        listed = "; ".join(f"{where}: {what}" for where, what in declared.items())
        raise E2FashionError(f"the activation is contradicted ({listed}). Find out which is true: {remedy}")
    return named[0]


def set_activation(model: CLIPModel, name: str) -> None:
    """Let both towers compute with another activation."""
    towers: tuple[Any, Any] = (model.config.vision_config, model.config.text_config)
    for config in towers:
        config.hidden_act = name
    for module in model.modules():
        if isinstance(module, CLIPMLP):
            module.activation_fn = ACT2FN[name]


def read_reference(file: str | Path) -> dict[str, Tensor]:
    """Reference features from a safetensors file.

    Raises:
        E2FashionError: it holds no complete pair of input and features.
    """
    tensors = read_state_file(file).tensors
    kept = {key: tensors[key] for pair in PAIRS.items() if set(pair) <= set(tensors) for key in pair}
    if not kept:
        wanted = " or ".join(f"{given} with {made}" for given, made in PAIRS.items())
        raise E2FashionError(f"'{file}' holds {', '.join(sorted(tensors))}; it needs {wanted}")
    return kept


@torch.no_grad()
def feature_difference(model: CLIPModel, reference: Mapping[str, Tensor]) -> dict[str, float]:
    """The largest difference of a component of L2-normalized features to the reference's, by kind of features."""
    ours: dict[str, Tensor] = {}
    if "pixel_values" in reference:
        ours["image_features"] = model.get_image_features(pixel_values=reference["pixel_values"].float()).pooler_output
    if "input_ids" in reference:
        ours["text_features"] = model.get_text_features(input_ids=reference["input_ids"].long()).pooler_output
    return {
        name: float((F.normalize(value, dim=-1) - F.normalize(reference[name].float(), dim=-1)).abs().max())
        for name, value in ours.items()
    }


def check_features(model: CLIPModel, reference: Mapping[str, Tensor], tolerance: float) -> tuple[float, float]:
    """The largest difference to the features of the original, and that with the other activation.

    Raises:
        E2FashionError: it is above ``tolerance``, or the other activation is within it and nearer.
    """
    text: Any = model.config.text_config
    differences, name = feature_difference(model, reference), str(text.hidden_act)  # both towers have the same
    other = ACTIVATIONS[name != ACTIVATIONS[True]]
    set_activation(model, other)
    swapped = max(feature_difference(model, reference).values())
    set_activation(model, name)
    largest = max(differences.values())
    listed = ", ".join(
        f"{kind} {tuple(reference[kind].shape)} by up to {value:.2g}" for kind, value in differences.items()
    )
    error = f"with {name} the features differ from those in the check file: {listed} (tolerance {tolerance:.2g})"
    if swapped < largest and swapped <= tolerance:
        raise E2FashionError(
            f"{error}; with {other} by up to {swapped:.2g}. The original computes with {other}: activation={other}"
        )
    if largest > tolerance:
        raise E2FashionError(
            f"{error}; with {other} by up to {swapped:.2g}. So it is not the activation: compare pixels and token ids, "
            "the heads (vision_heads=, text_heads=), and whether the features are this checkpoint's"
        )
    return largest, swapped
