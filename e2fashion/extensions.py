"""Sources, loss terms and protocols from other packages, by entry point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar, cast

from e2fashion.types import E2FashionError

Part = TypeVar("Part")


@dataclass(frozen=True)
class ExtensionPoint:
    """A kind of part that installed packages can register.

    ``kind`` is its name in error messages, ``group`` the entry-point group, and ``members`` the attributes that the
    class of a part must have. A part is a dataclass whose fields are its options.
    """

    kind: str
    group: str
    members: tuple[str, ...]

    def names(self, built_in: Mapping[str, Any]) -> list[str]:
        """All names that :meth:`find` accepts, sorted; nothing is loaded."""
        return sorted({*built_in, *entry_points(group=self.group).names})

    def find(self, name: str, built_in: Mapping[str, type[Part]]) -> type[Part] | None:
        """The built-in class called ``name``, else the one that an installed package registers, else None.

        Raises:
            E2FashionError: the registered part cannot be imported or is not a dataclass with the members of its kind,
                or several packages register the name.
        """
        if name in built_in:
            return built_in[name]
        listed = list(entry_points(group=self.group, name=name))
        if not listed:
            return None
        if len(listed) > 1:
            origins = " and ".join(sorted(_origin(entry) for entry in listed))
            raise E2FashionError(f"{self.kind} '{name}' is registered by {origins}: uninstall all but one")
        return cast(type[Part], self._loaded(listed[0]))

    def _loaded(self, entry: EntryPoint) -> type:
        label = f"{self.kind} '{entry.name}' of {_origin(entry)}"
        try:
            part = entry.load()
        except Exception as error:  # importing foreign code can raise anything
            raise E2FashionError(
                f"{label} cannot be loaded: {type(error).__name__}: {error}. Fix or uninstall that package."
            ) from error
        if not isinstance(part, type) or not is_dataclass(part):
            raise E2FashionError(f"{label} is {part!r}, not a dataclass, whose fields would be its options")
        if missing := [member for member in self.members if not hasattr(part, member)]:
            raise E2FashionError(f"{label} lacks {', '.join(missing)}: give the class every member of a {self.kind}")
        return part


def _origin(entry: EntryPoint) -> str:
    """``module:name`` and the package that registers it."""
    package = "an unnamed package" if entry.dist is None else f"the package '{entry.dist.name}'"
    return f"{package} ({entry.value})"
