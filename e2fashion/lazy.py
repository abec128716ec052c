"""Imports that wait: a package's names until they are used, an action until another library is imported.

What a library of seconds would cost a command that never needs it, such as ``--help``, is saved this way.
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
    """The ``__getattr__`` of a package (PEP 562) that imports its names when they are first used.

    Args:
        package: its ``__name__``.
        homes: the names by the module that defines them. A module that has the name of one of them may not be imported
            by others, for it would replace it.
    """
    home_of = {name: home for home, names in homes.items() for name in names}

    def find(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = import_module(home_of[name])
        found = {own: getattr(home, own) for own in homes[home_of[name]]}
        vars(sys.modules[package]).update(found)
        return found[name]

    return find


def when_imported(name: str, action: Callable[[ModuleType], object]) -> None:
    """Call ``action`` with the module ``name``: now if it is imported already, else right after it will be, once."""
    module = sys.modules.get(name)
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        action(module)
    else:
        sys.meta_path.insert(0, _Watcher(name, action))


class _Watcher(MetaPathFinder):
    """Finds one module as Python would, and acts when it has been executed."""

    def __init__(self, name: str, action: Callable[[ModuleType], object]) -> None:
        self.name = name
        self.action = action

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of the module that is waited for; None for all others."""
        if fullname != self.name or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _ActingLoader(spec.loader, self.action)
        return spec


class _ActingLoader(Loader):
    """A loader that acts after it has executed its module, and is the wrapped loader in everything else."""

    def __init__(self, loader: Any, action: Callable[[ModuleType], object]) -> None:
        self._loader = loader
        self._action = action

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the wrapped loader does."""
        created: ModuleType | None = self._loader.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module, then act."""
        self._loader.exec_module(module)
        self._action(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
