"""Low-rank adapters of the towers (LoRA) through ``peft``, merged into the weights of every saved model."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection
from importlib.util import find_spec
from typing import Any, TypeVar

from torch import nn

from e2fashion.training.config import LoraConfig
from e2fashion.types import E2FashionError

Model = TypeVar("Model", bound=nn.Module)

TOWERS = {"vision": "vision_model", "text": "text_model"}
_ADAPTER = ".lora_"


def check_lora(config: LoraConfig) -> None:
    """Raise an E2FashionError for a negative rank, ranks without layers, or ranks without the package ``peft``."""
    for tower in TOWERS:
        if (rank := getattr(config, tower)) < 0:
            raise E2FashionError(f"model.lora.{tower} is {rank}: give a rank such as 16, or 0 for no adapters.")
    if not (config.vision or config.text):
        return
    if not config.layers:
        raise E2FashionError("model.lora has a rank and no layers: name some, as in model.lora.layers=[q_proj,v_proj].")
    if not all(find_spec(package) for package in ("peft", "accelerate")):
        raise E2FashionError("model.lora needs peft. Install it: pip install 'e2fashion[peft]', or set its ranks to 0.")


def add_lora(model: nn.Module, config: LoraConfig) -> None:
    """Give the chosen linear layers of each tower with a rank their adapters, which change nothing at the start."""
    ranks = {prefix: getattr(config, tower) for tower, prefix in TOWERS.items() if getattr(config, tower)}
    if not ranks:
        return
    from peft import LoraConfig as Adapters
    from peft import inject_adapter_in_model

    pattern = rf"({'|'.join(ranks)})\.encoder\.layers\.\d+\.\w+\.({'|'.join(config.layers)})"
    layers = [name for name, _ in model.named_modules() if re.fullmatch(pattern, name)]
    of_layer = {name: ranks[name.split(".")[0]] for name in layers}
    # With alpha equal to the rank, the update is the plain product of both matrices.
    options: dict[str, Any] = {"rank_pattern": of_layer, "alpha_pattern": of_layer, "bias": "none"}
    inject_adapter_in_model(Adapters(target_modules=layers, **options), model)


def without_adapted(model: nn.Module, names: Collection[str], added_prefixes: tuple[str, ...]) -> list[str]:
    """The parameters in ``names`` that are trained: of a tower with adapters these and E2's own parts alone."""
    adapted = {name.split(".")[0] for name, _ in model.named_parameters() if _ADAPTER in name}
    return [
        name
        for name in names
        if name.split(".")[0] not in adapted or _ADAPTER in name or name.startswith(added_prefixes)
    ]


def merged(model: Model) -> Model:
    """The model with its adapters added to the weights, as a copy; itself if it has none."""
    if not any(_ADAPTER in name for name, _ in model.named_parameters()):
        return model
    from peft.tuners.tuners_utils import BaseTunerLayer

    result = copy.deepcopy(model)
    for name, layer in list(result.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            parent, _, last = name.rpartition(".")
            layer.merge()
            setattr(result.get_submodule(parent), last, layer.get_base_layer())
    if hasattr(result, "peft_config"):
        del result.peft_config
    return result
