"""What a dataclass can be set to: the name, type, default and meaning of each field, read from the dataclass itself.

A field's meaning is the string literal right after it, an attribute docstring. It may end with where the default comes
from::

    region_weight: float = 0.5
    "Weight w of the regional terms; 0 is CLIP fine-tuning. Source: paper."

``--help`` and ``docs/configuration.md`` are both made from it. Python drops these strings, so they are read from the
source, once per module.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import types
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

#: What a field without a default holds in OmegaConf.
_MANDATORY = "???"
REQUIRED = "required"
SECTION = "section"
_SOURCE = re.compile(r"\s*\bSource: (?P<source>[^.]+)\.$")
_TYPE_NAMES: dict[Any, str] = {
    Any: "any value",
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    type(None): "null",
}


@dataclass(frozen=True)
class FieldDoc:
    """What a field means, and where its default comes from (empty: ours, or no default)."""

    meaning: str
    source: str = ""


@dataclass(frozen=True)
class Setting:
    """One key: ``path`` is dotted, ``name`` the field of ``owner`` behind it; ``type`` and ``default`` are for reading.

    ``default`` is :data:`REQUIRED` where there is none. A mapping of keys of its own has the type :data:`SECTION`, no
    default, and is followed by its keys.
    """

    path: str
    owner: type
    name: str
    type: str
    default: str
    meaning: str
    source: str

    @property
    def section(self) -> str:
        """The path of the mapping that holds the key; empty at the top."""
        return self.path.rpartition(".")[0]


def settings_of(owner: type, prefix: str = "", instance: Any = None) -> Iterator[Setting]:
    """The keys of a dataclass in its order, those of nested dataclasses with their dotted path.

    Optional keys that it inherits stand last. ``<name>`` stands for the free keys of a mapping to a dataclass.

    Args:
        owner: a dataclass.
        prefix: put before every path.
        instance: defaults are read from it instead of from the fields.
    """
    hints, docs = get_type_hints(owner), field_docs(owner)
    declared = inspect.get_annotations(owner)
    items = [(item, _default(item) if instance is None else getattr(instance, item.name)) for item in fields(owner)]
    inherited = [item.name for item, default in items if item.name not in declared and default != _MANDATORY]
    for item, default in sorted(items, key=lambda pair: pair[0].name in inherited):
        path, doc = prefix + item.name, docs.get(item.name, FieldDoc(""))
        if is_dataclass(default) and not isinstance(default, type):
            yield Setting(path, owner, item.name, SECTION, "", doc.meaning, doc.source)
            yield from settings_of(type(default), f"{path}.", default)
            continue
        of_mapping = _dataclass_of_values(hints[item.name])
        kind = type_name(hints[item.name]) if of_mapping is None else "mapping"
        yield Setting(path, owner, item.name, kind, written(default), doc.meaning, doc.source)
        if of_mapping is not None:
            yield from settings_of(of_mapping, f"{path}.<name>.")


@cache
def field_docs(owner: type) -> dict[str, FieldDoc]:
    """What the fields of a dataclass mean, those that it inherits included; fields without a docstring are absent."""
    found: dict[str, FieldDoc] = {}
    for base in reversed(owner.__mro__):
        found |= _parsed_docs(base)
    return found


def class_doc(owner: type) -> str:
    """A class's docstring without what it raises; empty where Python generated it or there is none."""
    text = inspect.cleandoc(owner.__doc__ or "").split("\nRaises:")[0].strip()
    return "" if text.startswith(f"{owner.__name__}(") else text


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
    return _TYPE_NAMES.get(hint) or str(getattr(hint, "__name__", hint))


def written(value: Any) -> str:
    """A default as it would be written in YAML, between backticks; :data:`REQUIRED` for none."""
    if value == _MANDATORY:
        return REQUIRED
    if value is None or isinstance(value, bool):
        return {None: "`null`", True: "`true`", False: "`false`"}[value]
    return '`""`' if value == "" else f"`{value}`"


def _default(item: Field[Any]) -> Any:
    if item.default_factory is not MISSING:
        return item.default_factory()
    return _MANDATORY if item.default is MISSING else item.default


def _dataclass_of_values(hint: Any) -> type | None:
    """The dataclass in ``dict[str, EntityConfig | None]``; None for any other type."""
    if get_origin(hint) is not dict:
        return None
    value = get_args(hint)[1]
    return next((part for part in (value, *get_args(value)) if isinstance(part, type) and is_dataclass(part)), None)


def _parsed_docs(owner: type) -> dict[str, FieldDoc]:
    node = _classes_in(owner.__module__).get(owner.__qualname__)
    body = node.body if node is not None else []
    found = {}
    for declared, behind in pairwise(body):
        if not (isinstance(declared, ast.AnnAssign) and isinstance(declared.target, ast.Name)):
            continue
        if isinstance(behind, ast.Expr) and isinstance(behind.value, ast.Constant):
            found[declared.target.id] = _split_source(" ".join(str(behind.value.value).split()))
    return found


def _split_source(text: str) -> FieldDoc:
    match = _SOURCE.search(text)
    return FieldDoc(text[: match.start()], match["source"]) if match else FieldDoc(text)


@cache
def _classes_in(module: str) -> dict[str, ast.ClassDef]:
    """The classes of a module by their qualified name; none where its source is not available."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (KeyError, OSError, TypeError, SyntaxError):
        return {}
    return dict(_named_classes(tree, ""))


def _named_classes(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.ClassDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield prefix + child.name, child
            yield from _named_classes(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _named_classes(child, f"{prefix}{child.name}.<locals>.")
        else:
            yield from _named_classes(child, prefix)
