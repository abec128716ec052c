"""Name, type, default and meaning of each field of a configuration dataclass, for ``--help`` and the documentation.

A field's meaning is its attribute docstring, the string literal right after it, which may end with the source of the
default::

    region_weight: float = 0.5
    "Weight w of the regional terms; 0 is CLIP fine-tuning. Source: paper."

Python drops these strings, so they are read from the source file, once per module.
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

#: OmegaConf's value of a field without a default.
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
    """The meaning of a field and the source of its default (empty: ours, or no default)."""

    meaning: str
    source: str = ""


@dataclass(frozen=True)
class Setting:
    """One key: its dotted ``path``, the field ``name`` of ``owner``, and readable ``type`` and ``default``.

    ``default`` is :data:`REQUIRED` if there is none. A nested dataclass has the type :data:`SECTION` and no default;
    its keys follow.
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
        """The path of the enclosing section; empty at the top level."""
        return self.path.rpartition(".")[0]


def settings_of(owner: type, prefix: str = "", instance: Any = None) -> Iterator[Setting]:
    """The keys of a dataclass in its order, those of nested dataclasses with their dotted path.

    Inherited optional keys come last. ``<name>`` stands for the free keys of a mapping to a dataclass.

    Args:
        owner: a dataclass.
        prefix: of every path.
        instance: the object to read defaults from instead of the fields.
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
    """The documentation of a dataclass's own and inherited fields; fields without a docstring are absent."""
    docs: dict[str, FieldDoc] = {}
    for base in reversed(owner.__mro__):
        docs |= _parsed_docs(base)
    return docs


def class_doc(owner: type) -> str:
    """A class's docstring without its ``Raises``; empty if there is none or Python generated it."""
    text = inspect.cleandoc(owner.__doc__ or "").split("\nRaises:")[0].strip()
    return "" if text.startswith(f"{owner.__name__}(") else text


def type_name(hint: Any) -> str:
    """A type in the terms of YAML."""
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
    """A default as in YAML, between backticks; :data:`REQUIRED` for none."""
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
    docs = {}
    for declared, following in pairwise(body):
        if not (isinstance(declared, ast.AnnAssign) and isinstance(declared.target, ast.Name)):
            continue
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            docs[declared.target.id] = _split_source(" ".join(str(following.value.value).split()))
    return docs


def _split_source(text: str) -> FieldDoc:
    match = _SOURCE.search(text)
    return FieldDoc(text[: match.start()], match["source"]) if match else FieldDoc(text)


@cache
def _classes_in(module: str) -> dict[str, ast.ClassDef]:
    """The classes of a module by qualified name; empty if its source is not available."""
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
