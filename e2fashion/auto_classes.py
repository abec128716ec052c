"""Transformers' Auto classes know E2 as soon as ``e2fashion`` is imported, though neither PyTorch nor E2 is yet.

Until a folder of ours is loaded, a configuration class that imports E2 stands for each model type. Every other
registration is keyed by that class, so it is made in time when :mod:`e2fashion.models` is imported.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from e2fashion.lazy import when_imported

#: Configuration classes of :mod:`e2fashion.models` by model type.
CONFIGS = {"e2": "E2Config", "e2_vision_model": "E2VisionConfig"}


def announce_model_types() -> None:
    """Register E2's model types, now or when Transformers' AutoConfig is imported."""
    when_imported("transformers.models.auto.configuration_auto", _register_stand_ins)


def _register_stand_ins(module: ModuleType) -> None:
    if "e2fashion.models" in sys.modules:  # which registers the classes themselves
        return
    for model_type, name in CONFIGS.items():
        stand_in = _stand_in(module.PreTrainedConfig, model_type, name)
        module.AutoConfig.register(model_type, stand_in, exist_ok=True)


def _stand_in(base: type, model_type: str, name: str) -> type:
    """A configuration class that becomes E2's when it is read or made."""

    def made(cls: type, *args: Any, **kwargs: Any) -> Any:
        return getattr(import_module("e2fashion.models"), name)(*args, **kwargs)

    def read(cls: type, values: dict[str, Any], **kwargs: Any) -> Any:
        return getattr(import_module("e2fashion.models"), name).from_dict(values, **kwargs)

    members = {"__module__": __name__, "model_type": model_type, "__new__": made, "from_dict": classmethod(read)}
    return type(name, (base,), members)
