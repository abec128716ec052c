"""Write ``docs/configuration.md`` from the schema: every key with its type, its default and where that comes from.

Command: ``python -m scripts.config_reference`` (``--check`` only says whether the page is up to date). A key that the
schema has and :data:`EXPLAINED` lacks is an error, and so is the reverse.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from e2fashion import schema
from e2fashion.data.sources import SOURCES
from scripts.config_words import EXPLAINED, HEADER, SECTIONS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"
REQUIRED = "required"
TYPE_NAMES: dict[Any, str] = {
    Any: "mapping",
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    type(None): "null",
}


@dataclass(frozen=True)
class Key:
    """One line of the reference: ``owner`` is the schema class and ``field`` the key within it."""

    path: str
    owner: type
    field: str
    type: str
    default: str


def keys(owner: type, prefix: str = "", instance: Any = None) -> Iterator[Key]:
    """The keys of a schema class in its order, those of nested classes with their dotted path.

    What it shares with others and need not be given stands last.
    """
    hints = get_type_hints(owner)
    instance = owner() if instance is None else instance
    own = inspect.get_annotations(owner)
    shared = [item for item in fields(owner) if item.name not in own and item.default != schema.MISSING]
    for item in [*(item for item in fields(owner) if item not in shared), *shared]:
        path, value = prefix + item.name, getattr(instance, item.name)
        nested = _named_schema(hints[item.name])
        if is_dataclass(value) and not isinstance(value, type):
            yield from keys(type(value), f"{path}.", value)
        elif nested is not None:
            yield Key(path, owner, item.name, "mapping", "`{}`")
            yield from keys(nested, f"{path}.<name>.")
        else:
            yield Key(path, owner, item.name, type_name(hints[item.name]), shown(value))


def type_name(hint: Any) -> str:
    """A type as a reader of YAML calls it."""
    if get_origin(hint) is Literal:
        return " / ".join(f"`{choice}`" for choice in get_args(hint))
    if get_origin(hint) in (types.UnionType, Union):
        return " or ".join(type_name(part) for part in get_args(hint))
    if get_origin(hint) is list:
        return f"list of {type_name(get_args(hint)[0])}"
    if get_origin(hint) is dict:
        key, value = get_args(hint)
        return f"mapping {type_name(key)}: {type_name(value)}"
    return TYPE_NAMES[hint]


def shown(value: Any) -> str:
    """A default as it would be written in YAML."""
    if value == schema.MISSING:
        return REQUIRED
    if value is None or isinstance(value, bool):
        return {None: "`null`", True: "`true`", False: "`false`"}[value]
    if value == "":
        return '`""`'
    return f"`{value}`"


def page() -> str:
    """The whole page."""
    parts = [HEADER]
    used: set[tuple[type, str]] = set()
    for title, owner, before in SECTIONS:
        found = list(keys(owner))
        used |= {(key.owner, key.field) for key in found}
        parts += [f"## {title}\n", f"{before}\n", _table(found)]
    superfluous = {(owner, name) for owner, words in EXPLAINED.items() for name in words} - used
    if superfluous:
        names = sorted(f"{owner.__name__}.{name}" for owner, name in superfluous)
        raise SystemExit(f"scripts/config_words.py explains keys that the schema lacks: {', '.join(names)}")
    parts += ["## Options of the sources\n", "They stand beside the keys of `data prepare`, without a prefix.\n"]
    for name in sorted(SOURCES):
        parts.append(_source_section(name))
    return "\n".join(parts)


def _table(found: list[Key]) -> str:
    lines = ["| key | type | default | meaning | source |", "|---|---|---|---|---|"]
    for key in found:
        words = EXPLAINED.get(key.owner, {}).get(key.field)
        if words is None:
            raise SystemExit(f"scripts/config_words.py does not explain {key.owner.__name__}.{key.field}: add a line")
        meaning, source = words
        lines.append(f"| `{key.path}` | {key.type} | {key.default} | {meaning} | {source} |")
    return "\n".join(lines) + "\n"


def _source_section(name: str) -> str:
    source: Any = SOURCES[name]
    hints = get_type_hints(source)
    words = inspect.cleandoc(source.__doc__ or "").split("\nRaises:")[0].replace("``", "`").strip()
    lines = [f"### {name}\n", f"{words}\n", "| option | type | default |", "|---|---|---|"]
    for item in fields(source):
        lines.append(f"| `{item.name}` | {type_name(hints[item.name])} | {_field_default(item)} |")
    return "\n".join(lines) + "\n"


def _field_default(item: Field[Any]) -> str:
    if item.default is not MISSING:
        return shown(item.default)
    return shown(item.default_factory()) if item.default_factory is not MISSING else REQUIRED


def _named_schema(hint: Any) -> type | None:
    """The schema of a mapping's values, as in ``dict[str, EntityConfig | None]``; None for any other type."""
    if get_origin(hint) is not dict:
        return None
    candidates = [part for part in get_args(get_args(hint)[1]) if is_dataclass(part)]
    return candidates[0] if candidates and isinstance(candidates[0], type) else None


def main() -> int:
    """Write the page, or compare it with ``--check``."""
    content = page()
    if "--check" in sys.argv[1:]:
        current = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == content
        print(f"{PAGE} is {'up to date' if current else 'out of date: run python -m scripts.config_reference'}")
        return 0 if current else 1
    PAGE.write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
