"""Register E2 with Transformers' Auto classes when ``e2fashion`` is imported, without importing PyTorch or E2.

Until a model folder is loaded, each model type has a placeholder configuration class that imports E2 on use. All other
registrations are keyed by that class and follow when :mod:`e2fashion.models` is imported.
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
    when_imported("transformers.models.auto.configuration_auto", _register_placeholders)


def _register_placeholders(module: ModuleType) -> None:
    if "e2fashion.models" in sys.modules:  # it has registered the real classes
        return
    for model_type, name in CONFIGS.items():
        placeholder = _placeholder(module.PreTrainedConfig, model_type, name)
        module.AutoConfig.register(model_type, placeholder, exist_ok=True)


def _placeholder(base: type, model_type: str, name: str) -> type:
    """A configuration class that returns E2's when it is created or read."""

    def create(cls: type, *args: Any, **kwargs: Any) -> Any:
        return getattr(import_module("e2fashion.models"), name)(*args, **kwargs)

    def read(cls: type, values: dict[str, Any], **kwargs: Any) -> Any:
        return getattr(import_module("e2fashion.models"), name).from_dict(values, **kwargs)

    members = {"__module__": __name__, "model_type": model_type, "__new__": create, "from_dict": classmethod(read)}
    return type(name, (base,), members)
