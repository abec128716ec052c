"""quick_gelu or gelu: what the state dict does not say, from who says it, or from features that the original made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel
from transformers.activations import ACT2FN
from transformers.models.clip.modeling_clip import CLIPMLP

from e2fashion.checkpoints.files import read_state_file
from e2fashion.checkpoints.open_clip import ACTIVATIONS
from e2fashion.types import E2FashionError

PAIRS = {"pixel_values": "image_features", "input_ids": "text_features"}
"""What a file of reference features holds: input, and the features (N, C) that the original computes from it."""


def named_activation(places: Mapping[str, str]) -> dict[str, str]:
    """Those of ``places`` (a file's name, a training run's) whose text names quick_gelu; silence says nothing."""
    plain = {place: text.lower().replace("_", "").replace("-", "") for place, text in places.items()}
    return {place: ACTIVATIONS[True] for place, text in plain.items() if "quickgelu" in text}


def agreed_activation(declared: Mapping[str, str], remedy: str) -> str:
    """The one activation that everybody who says something says.

    Raises:
        E2FashionError: they contradict each other, or nobody says anything.
    """
    said = sorted(set(declared.values()))
    if not said:
        raise E2FashionError(
            f"quick_gelu or gelu? A state dict does not hold its activation, and a wrong one gives wrong features "
            f"without an error: {remedy}"
        )
    if len(said) > 1:
        listed = "; ".join(f"{where}: {what}" for where, what in declared.items())
        raise E2FashionError(f"the activation is contradicted ({listed}). Find out which is true: {remedy}")
    return said[0]


def activation_of(model: CLIPModel) -> str:
    """What the text tower computes with, and the image tower too in every model of this package."""
    text: Any = model.config.text_config
    return str(text.hidden_act)


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
    """The largest difference of a component of L2-normalised features to the reference's, by kind of features."""
    found: dict[str, Tensor] = {}
    if "pixel_values" in reference:
        found["image_features"] = model.get_image_features(pixel_values=reference["pixel_values"].float()).pooler_output
    if "input_ids" in reference:
        found["text_features"] = model.get_text_features(input_ids=reference["input_ids"].long()).pooler_output
    return {
        name: float((F.normalize(value, dim=-1) - F.normalize(reference[name].float(), dim=-1)).abs().max())
        for name, value in found.items()
    }


def check_features(model: CLIPModel, reference: Mapping[str, Tensor], tolerance: float) -> tuple[float, float]:
    """The largest difference to the features of the original, and that with the other activation.

    Raises:
        E2FashionError: it is above ``tolerance``, or the other activation is within it and nearer.
    """
    own, name = feature_difference(model, reference), activation_of(model)
    (other,) = {*ACTIVATIONS.values()} - {name}
    set_activation(model, other)
    swapped = max(feature_difference(model, reference).values())
    set_activation(model, name)
    differences = ", ".join(
        f"{kind} {tuple(reference[kind].shape)} by up to {value:.2g}" for kind, value in own.items()
    )
    said = f"with {name} the features differ from those in the check file: {differences} (tolerance {tolerance:.2g})"
    if swapped < max(own.values()) and swapped <= tolerance:
        raise E2FashionError(
            f"{said}; with {other} by up to {swapped:.2g} alone. The original computes with {other}: activation={other}"
        )
    if max(own.values()) > tolerance:
        raise E2FashionError(
            f"{said}; with {other} by up to {swapped:.2g}. So it is not the activation: compare pixels and token ids, "
            "the heads (vision_heads=, text_heads=), and whether the features are this checkpoint's"
        )
    return max(own.values()), swapped
