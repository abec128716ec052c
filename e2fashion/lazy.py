"""Deferred imports: names of a package that are imported on first use, and actions that follow another import.

Commands such as ``--help`` thereby skip libraries that take seconds to import. One such action registers E2 with
Transformers' Auto classes: until a model folder is loaded, each model type has a placeholder configuration class that
imports E2 on use. All other registrations are keyed by that class and follow when :mod:`e2fashion.models` is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


def lazy_names(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package (PEP 562) that imports its names on first use.

    Args:
        package: its ``__name__``.
        homes: the names by defining module. No submodule of the package may have one of these names: importing it
            would replace the name.
    """
    home_of = {name: home for home, names in homes.items() for name in names}

    def find(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = import_module(home_of[name])
        values = {item: getattr(home, item) for item in homes[home_of[name]]}
        vars(sys.modules[package]).update(values)
        return values[name]

    return find


def when_imported(name: str, action: Callable[[ModuleType], object]) -> None:
    """Call ``action`` once with the module ``name``: now if it is imported already, else right after its import."""
    module = sys.modules.get(name)
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        action(module)
    else:
        sys.meta_path.insert(0, _Watcher(name, action))


class _Watcher(MetaPathFinder):
    """Finds one module as Python would, and runs an action after its execution."""

    def __init__(self, name: str, action: Callable[[ModuleType], object]) -> None:
        self.name = name
        self.action = action

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of the watched module; None for all others."""
        if fullname != self.name or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _ActingLoader(spec.loader, self.action)
        return spec


class _ActingLoader(Loader):
    """Wraps a loader to run an action after it has executed its module."""

    def __init__(self, loader: Any, action: Callable[[ModuleType], object]) -> None:
        self._loader = loader
        self._action = action

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the wrapped loader."""
        created: ModuleType | None = self._loader.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module, then run the action."""
        self._loader.exec_module(module)
        self._action(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


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
