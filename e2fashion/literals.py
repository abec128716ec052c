"""Read text values from a command line or a YAML file exactly as written.

YAML parses ``010`` as the number 8, ``no`` as false, ``~`` as null, and ``Line #9`` as ``Line``. None of this applies
to fields that a schema declares as text, or as a list or mapping of texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from omegaconf._yaml import get_yaml_loader  # the loader of OmegaConf.load, which has no public name

#: In the metadata of a field that maps names to any value: its values are texts, lists of texts, or null.
TEXT_VALUES = "text_values"

_DEEPEST = 50
_NULL = "null"
_QUOTES = "'\""
_YAML_TEXT = "tag:yaml.org,2002:str"
_YAML_TYPED = tuple(f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "float", "timestamp"))
_YAML_NULL = "tag:yaml.org,2002:null"


class TextOrTexts:
    """A type marker: a text, a list of texts, or null."""


def locate(schemas: Sequence[type], key: str) -> tuple[list[str], Any] | None:
    """The parts of a dotted ``key`` and the type of its value in the first schema that has it; None: unknown key.

    The key of a mapping of plain values may contain dots itself and is one part.
    """
    return next((located for schema in schemas if (located := _locate(schema, key)) is not None), None)


def is_text(kind: Any) -> bool:
    """Whether a type is text, a list of texts, or a choice of texts; optional or not."""
    kind = _without_none(kind)
    if get_origin(kind) is list:
        return is_text(get_args(kind)[0])
    if get_origin(kind) is Literal:
        return all(isinstance(choice, str) for choice in get_args(kind))
    return kind is str or kind is TextOrTexts


def holds_values(kind: Any) -> bool:
    """Whether a type is a mapping or a dataclass; optional or not."""
    kind = _without_none(kind)
    return get_origin(kind) is dict or (isinstance(kind, type) and is_dataclass(kind))


def is_list(kind: Any) -> bool:
    """Whether a type is a list of texts, numbers or truth values; optional or not."""
    kind = _without_none(kind)
    return get_origin(kind) is list and not holds_values(get_args(kind)[0])


def kind_below(key: str, kind: Any) -> Any:
    """The type of the value of ``key`` in a dataclass or mapping; None for other types and unknown keys."""
    kind = _without_none(kind)
    if is_dataclass(kind) and isinstance(kind, type):
        located = locate([kind], key)
        return None if located is None else located[1]
    return get_args(kind)[1] if get_origin(kind) is dict else None


def read_text_value(written: str, kind: Any) -> str | list[str] | None:
    """Parse a command-line value for a field whose type is text, see :func:`is_text`.

    A list is ``[a, b]`` or ``a,b``; items with commas, brackets or outer blanks are quoted. ``null`` and an empty value
    are None if the type allows that. Quotation marks around a text are removed. In tag values (:data:`TEXT_VALUES`)
    quotation marks are part of the text, and only brackets make a list: a value called null is ``[null]``.
    """
    optional = kind is TextOrTexts or NoneType in get_args(kind)
    if optional and (written == _NULL or (not written and kind is not TextOrTexts)):
        return None
    in_brackets = written.startswith("[") and written.endswith("]") and len(written) > 1
    if kind is TextOrTexts:
        return split_texts(written[1:-1]) if in_brackets else written
    if get_origin(_without_none(kind)) is list:
        return split_texts(written[1:-1] if in_brackets else written)
    return _unquoted(written)


def split_texts(written: str) -> list[str]:
    """The parts between commas, without outer white space and quotation marks."""
    parts = []
    position = 0
    while position < len(written):
        part, position = _next_part(written, position)
        if part.strip():
            parts.append(_unquoted(part.strip()))
    return parts


def join_texts(items: Sequence[Any]) -> str:
    """The inverse of :func:`split_texts`: items with a comma or a leading quotation mark are quoted."""
    return ",".join(quoted(str(item)) for item in items)


def quoted(item: str) -> str:
    """An item of a list, quoted if :func:`split_texts` needs it."""
    return item if split_texts(item) == [item] and item[0] not in _QUOTES else "'" + item.replace("'", "''") + "'"


def read_typed_yaml(content: str, schemas: Sequence[type]) -> Any:
    """Parse YAML, keeping values as written that are text in the first of ``schemas`` with their key.

    Raises:
        yaml.YAMLError: invalid YAML.
    """

    def keep(node: yaml.Node) -> None:
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and (located := locate(schemas, key.value)) is not None:
                _keep_text(value, located[1])

    return _construct(content, keep)


def read_typed_value(content: str, kind: Any) -> Any:
    """Parse one YAML value, keeping text as written where ``kind`` is text.

    Raises:
        yaml.YAMLError: invalid YAML.
    """
    return _construct(content, lambda node: _keep_text(node, kind))


def _construct(content: str, keep: Callable[[yaml.Node], None]) -> Any:
    loader = _yaml_loader()(content)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        keep(node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


@cache
def _yaml_loader() -> Any:
    return get_yaml_loader()


def wrongly_typed(value: Any, kind: Any) -> Any | None:
    """The first number or truth value in ``value`` where ``kind`` is text; None if there is none."""
    if not is_text(kind):
        return None
    return next(
        (item for item in (value if isinstance(value, list) else [value]) if isinstance(item, int | float)), None
    )


def misplaced(value: Any, kind: Any, key: str = "") -> str | None:
    """The key of the first list or mapping in ``value`` where ``kind`` has a single value; None if there is none.

    Of a dataclass, ``value`` is an instance or its values by name.

    OmegaConf accepts any of them as an item of a list or mapping.
    """
    kind = _without_none(kind)
    parts: list[tuple[str, Any, Any]] = []
    if isinstance(kind, type) and is_dataclass(kind) and (is_dataclass(value) or isinstance(value, dict)):
        types, prefix = _types_of(kind), f"{key}." if key else ""
        names = [field.name for field in fields(kind) if not field.metadata.get(TEXT_VALUES)]
        values = value if isinstance(value, dict) else vars(value)
        parts = [(f"{prefix}{name}", values[name], types[name]) for name in names if name in values]
    elif get_origin(kind) is list and isinstance(value, list):
        parts = [(f"{key}[{index}]", item, get_args(kind)[0]) for index, item in enumerate(value)]
    elif get_origin(kind) is dict and isinstance(value, dict):
        parts = [(f"{key}.{name}", item, get_args(kind)[1]) for name, item in value.items()]
    elif isinstance(value, list | dict) and (kind in (str, int, float, bool) or get_origin(kind) is Literal):
        return key
    return next(filter(None, (misplaced(item, of_item, name) for name, item, of_item in parts)), None)


def _locate(schema: Any, key: str) -> tuple[list[str], Any] | None:
    head, _, rest = key.partition(".")
    field = next((item for item in fields(schema) if item.name == head), None)
    if field is None:
        return None
    kind = _types_of(schema)[head]
    if not rest:
        return [head], dict[str, TextOrTexts] if field.metadata.get(TEXT_VALUES) else kind
    kind = _without_none(kind)
    if is_dataclass(kind):
        below = _locate(kind, rest)
        return None if below is None else ([head, *below[0]], below[1])
    if get_origin(kind) is not dict:
        return None
    values = get_args(kind)[1]
    if is_dataclass(_without_none(values)):
        name, _, rest = rest.partition(".")
        below = _locate(_without_none(values), rest) if rest else ([], values)
        return None if below is None else ([head, name, *below[0]], below[1])
    return [head, rest], TextOrTexts if field.metadata.get(TEXT_VALUES) else values


@cache
def _types_of(schema: type) -> dict[str, Any]:
    return get_type_hints(schema)


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (UnionType, Union):
        members = [member for member in get_args(kind) if member is not NoneType]
        return members[0] if len(members) == 1 else kind
    return kind


def _next_part(written: str, position: int) -> tuple[str, int]:
    """The part that begins at ``position``, and the position of the next one."""
    start = position + len(written[position:]) - len(written[position:].lstrip())
    if written[start : start + 1] in _QUOTES and start < len(written):
        mark, end = written[start], start + 1
        while (end := written.find(mark, end)) >= 0:
            if written.startswith(mark, end + 1):  # doubled: part of the text
                end += 2
                continue
            rest = written[end + 1 :].lstrip()
            if not rest or rest.startswith(","):
                return written[start : end + 1], len(written) - len(rest) + 1
            break
    end = written.find(",", position)
    end = len(written) if end < 0 else end
    return written[position:end], end + 1


def _unquoted(written: str) -> str:
    """Remove enclosing quotation marks and undouble those inside; other texts are unchanged."""
    if len(written) < 2 or written[0] not in _QUOTES or written[-1] != written[0]:
        return written
    mark, inside = written[0], written[1:-1]
    return inside.replace(2 * mark, mark) if mark not in inside.replace(2 * mark, "") else written


def _keep_text(node: yaml.Node, kind: Any, in_list: bool = False, above: tuple[yaml.Node, ...] = ()) -> None:
    """Tag the scalars below a node as text where ``kind`` is text.

    Raises:
        yaml.YAMLError: the node contains itself through an alias, or is nested too deeply.
    """
    if node in above or len(above) > _DEEPEST:
        raise yaml.constructor.ConstructorError(None, None, "nested too deeply", node.start_mark)
    kind_given, kind = kind, _without_none(kind)
    if isinstance(node, yaml.ScalarNode):
        if not node.style and is_text(kind):
            empty = in_list and kind is str and kind_given is str and node.tag == _YAML_NULL and node.value
            if node.tag in _YAML_TYPED or empty:
                node.tag = _YAML_TEXT
    elif kind is None:  # no text below
        return
    elif isinstance(node, yaml.SequenceNode):
        item = str if kind is TextOrTexts else get_args(kind)[0] if get_origin(kind) is list else None
        for child in node.value:
            _keep_text(child, item, True, (*above, node))
    elif isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            of_texts = get_origin(kind) is dict and get_args(kind)[0] is str
            if of_texts and isinstance(key, yaml.ScalarNode) and not key.style and key.tag in _YAML_TYPED:
                key.tag = _YAML_TEXT
            _keep_text(child, kind_below(str(key.value), kind), False, (*above, node))


def encoded(value: Any) -> Any:
    """``value`` with its texts, at any depth, escaped: OmegaConf sees no interpolation or missing value in them."""
    if isinstance(value, Mapping):
        return {key: encoded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encoded(item) for item in value]
    if not isinstance(value, str) or ("${" not in value and _ESCAPE not in value and value != "???"):
        return value
    return "".join(_ESCAPES.get(character, character) for character in value)


def decoded(value: Any) -> Any:
    """The inverse of :func:`encoded`, at any depth of dataclasses, mappings and lists."""
    if isinstance(value, str):
        return _decoded_text(value) if _ESCAPE in value else value
    if isinstance(value, list):
        return [decoded(item) for item in value]
    if isinstance(value, Mapping):
        return {decoded(key): decoded(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        for item in fields(value):
            object.__setattr__(value, item.name, decoded(getattr(value, item.name)))
    return value


_ESCAPE = "\ue0f5"  # of a private use area, which does not occur in texts
_ESCAPES = {_ESCAPE: f"{_ESCAPE}e", "$": f"{_ESCAPE}d", "?": f"{_ESCAPE}q"}


def _decoded_text(text: str) -> str:
    for character in ("$", "?", _ESCAPE):  # the escape itself last
        text = text.replace(_ESCAPES[character], character)
    return text
