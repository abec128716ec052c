"""Load a YAML file and ``key=value`` overrides into a dataclass, the schema.

A file may name ``base: [relative paths]``; bases are merged in order, then the file, then the overrides, each
strictly against the schema. Schemas are defined next to the code that they configure.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf, ValueNode
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from e2fashion.disk import real_path, reason_of, write_text
from e2fashion.literals import (
    decoded,
    encoded,
    holds_values,
    is_list,
    is_text,
    kind_below,
    locate,
    misplaced,
    read_text_value,
    read_typed_value,
    read_typed_yaml,
    split_texts,
    wrongly_typed,
)
from e2fashion.options import RENAMED
from e2fashion.types import E2FashionError

Schema = TypeVar("Schema")


def load_config(
    schema: type[Schema],
    file: str | Path | None = None,
    overrides: Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
    origin: str = "changes",
) -> Schema:
    """An instance of ``schema`` from a YAML ``file``, its bases and ``key=value`` overrides, in this order.

    ``changes`` maps dotted keys to values and comes last; errors call it ``origin``.

    Raises:
        E2FashionError: a missing file, a cycle of bases, an unknown key, a value of the wrong type.
    """
    layers = () if file is None else _layers(Path(file), (), schema)
    merged = _merged(cast(Hashable, schema), layers, tuple(overrides))
    if changes:
        merged = copy.deepcopy(merged)
    for key, value in (changes or {}).items():
        _refuse_typed(key, value, schema, origin)
        layer = OmegaConf.create()
        OmegaConf.update(layer, key, value, force_add=True)
        merged = _merge(merged, layer, origin)
    return _to_object(merged, schema)


def read_yaml(file: str | Path, *schemas: type) -> DictConfig:
    """The unchecked content of a YAML file; values that are text in the first matching schema are kept as written.

    Raises:
        E2FashionError: the file does not exist, is not YAML, or holds no mapping.
    """
    return _content(Path(file), _text(Path(file)), schemas)


def _text(file: Path) -> str:
    try:
        if not file.is_file():
            raise E2FashionError(f"Configuration file '{file}' does not exist. {_where(file, 'a YAML file')}")
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise E2FashionError(f"{file} cannot be read ({reason_of(error)}). Give the path of a YAML file.") from error
    except ValueError as error:
        raise E2FashionError(f"{file} is not valid YAML: {' '.join(str(error).split())}.") from error


def _where(path: Path, wanted: str) -> str:
    """The remedy for a path that does not exist."""
    if path.parts[:1] == ("configs",) and not Path("configs").exists():
        return "configs/ belongs to the repository, not to the installed package: run the command in a clone of it."
    return f"Give the path of {wanted}."


def _content(file: Path, text: str, schemas: tuple[type, ...]) -> DictConfig:
    try:
        content = _parsed(text, schemas)
        if content is None or isinstance(content, dict):
            return OmegaConf.create(content or {})
    except Exception as error:  # of the parser, or a RecursionError
        raise E2FashionError(f"{file} is not valid YAML: {' '.join(str(error).split())}.") from error
    raise E2FashionError(f"{file} holds a list or a bare value; a configuration is `key: value` lines.")


@lru_cache(maxsize=256)
def _parsed(text: str, schemas: tuple[type, ...]) -> Any:
    # Cached: the runs of an ablation read the same few files, and each row its own several times.
    return read_typed_yaml(text, schemas)


def load_with_options(
    schema: type[Schema],
    file: str | Path | None,
    overrides: Sequence[str],
    options_of: Callable[[DictConfig], type | None],
) -> tuple[Schema, dict[str, Any]]:
    """An instance of ``schema``, and all other keys, unchecked, as the options of a part that the schema names.

    ``options_of`` gives the dataclass of those options, which defines which of them are text; None if unknown.

    Raises:
        E2FashionError: the configuration does not fit ``schema``, or an option looks like a missing key misspelled.
    """
    known = keys_of(schema)
    ours = [word for word in overrides if word.partition("=")[0].partition(".")[0] in known]
    named = _merged_layers(_defaults(schema), file, ours, (schema,), known.__contains__)
    options_schema = options_of(named)
    schemas = (schema,) if options_schema is None else (schema, options_schema)
    options = _merged_layers(OmegaConf.create({}), file, overrides, schemas, lambda key: key not in known)
    missing = [key for key in known if OmegaConf.is_missing(named, key)]
    for option in map(str, options):
        if near := get_close_matches(option, missing, n=1, cutoff=0.7):
            raise E2FashionError(f"'{near[0]}' is not given, but '{option}' is. Did you mean: '{near[0]}'?")
    try:
        values = cast(dict[str, Any], decoded(OmegaConf.to_container(options, resolve=True)))
    except OmegaConfBaseException as error:
        raise E2FashionError(_first_line(error)) from error
    given = {key: value for key, value in values.items() if not OmegaConf.is_missing(options, key)}
    return _to_object(named, schema), given


def options_for(what: str, schema: type, options: Mapping[str, Any], more_keys: Iterable[str] = ()) -> dict[str, Any]:
    """Arguments of the dataclass ``schema``: its defaults, overridden by ``options``; messages call it ``what``.

    Raises:
        E2FashionError: an unknown option (the known ones are listed), or a value of the wrong type.
    """
    known = sorted(keys_of(schema) | set(more_keys))
    known_text = ", ".join(known) or "none"
    for key in options:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            hint = f" Did you mean: '{near[0]}'?" if near else ""
            raise E2FashionError(f"{what} has no key '{key}'.{hint} Its keys: {known_text}.")
    try:
        given = OmegaConf.create(encoded(options))
        _modernize(given, schema)
        merged = _defaults(schema)
        merged.merge_with(given)
        values = cast(dict[str, Any], decoded(OmegaConf.to_container(merged, throw_on_missing=True)))
    except (OmegaConfBaseException, TypeError, ValueError) as error:  # the last two where containers differ in kind
        reason = str(error).split("\n", 1)[0] if isinstance(error, OmegaConfBaseException) else reason_of(error)
        wrong = getattr(error, "full_key", None)
        where, known_text = (f"{what}, key '{wrong}'", "") if wrong else (what, f" Its keys: {known_text}.")
        raise E2FashionError(f"{where}: {reason.rstrip('.')}.{known_text}") from error
    _refuse_misplaced(values, schema, f"{what}: ")
    return values


def _merged_layers(
    base: DictConfig,
    file: str | Path | None,
    overrides: Sequence[str],
    schemas: Sequence[type],
    wanted: Callable[[Any], bool],
) -> DictConfig:
    """``base`` with the ``wanted`` top-level keys of a file, its bases and the overrides, in this order."""
    texts = _layers(Path(file), (), *schemas) if file is not None else ()
    layers = [(origin, _layer(text, tuple(schemas))) for origin, text in texts]
    layers += [(f"the command line ({word})", _parse_override(word, *schemas)) for word in overrides]
    for origin, layer in layers:
        part = OmegaConf.create({key: layer._get_node(key) for key in layer if wanted(key)})
        base = _merge(base, part, origin)
    return base


def config_of_path(schema: type[Schema], path: Path, overrides: Sequence[str]) -> Schema:
    """The configuration in a file, or that of a run folder, to resume the run.

    Raises:
        E2FashionError: ``path`` does not exist or is a folder without ``config.yaml``, or an invalid configuration.
    """
    if not path.exists():
        raise E2FashionError(f"'{path}' does not exist. {_where(path, 'a configuration file, or of a run folder')}")
    if not path.is_dir():
        return load_config(schema, path, overrides)
    file = path / "config.yaml"
    if not file.is_file():
        raise E2FashionError(f"'{path}' is not a run folder: it has no config.yaml. Give a configuration file.")
    return load_config(schema, file, [f"output={path}", *overrides])


def save_config(config: Any, file: str | Path) -> None:
    """Write a configuration with all its values as YAML."""
    write_text(Path(file), OmegaConf.to_yaml(OmegaConf.structured(config)))


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings into one with dotted keys."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return result


def keys_of(schema: type) -> set[str]:
    """The top-level keys of a schema."""
    return {item.name for item in fields(schema)}


def _layers(file: Path, open_files: tuple[Path, ...], *schemas: type) -> tuple[tuple[str, str], ...]:
    """Names and texts of the bases of a file, then of the file, in the order in which they are merged."""
    text = _text(file)
    resolved = real_path(file)
    if resolved in open_files:
        chain = " -> ".join(path.name for path in (*open_files, resolved))
        raise E2FashionError(f"{file}: its bases form a cycle ({chain}). Remove one `base` entry.")
    layers: tuple[tuple[str, str], ...] = ()
    for base in _bases(file, text, schemas):
        layers += _layers(file.parent / base, (*open_files, resolved), *schemas)
    return (*layers, (str(file), text))


@lru_cache(maxsize=256)
def _bases(file: Path, text: str, schemas: tuple[type, ...]) -> tuple[str, ...]:
    """The bases that a file with this text names."""
    content = _content(file, text, schemas)
    given = [] if _has_base(schemas) else content.get("base", [])
    given = OmegaConf.to_container(given) if OmegaConf.is_config(given) else given
    bases = [given] if isinstance(given, str) else given
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise E2FashionError(f"{file}: base is {given!r}; write a path, or a list of paths, relative to this file.")
    return tuple(bases)


def _layer(text: str, schemas: tuple[type, ...]) -> DictConfig:
    """The content of a file to merge, without the names of its bases."""
    content = OmegaConf.create(_parsed(text, schemas) or {})
    if not _has_base(schemas):
        content.pop("base", None)
    return content


def _has_base(schemas: Iterable[type]) -> bool:
    """Whether ``base`` is a key of a schema, as of an ablation's: the run that it changes."""
    return any("base" in keys_of(schema) for schema in schemas)


@lru_cache(maxsize=64)
def _merged(schema: type, layers: tuple[tuple[str, str], ...], overrides: tuple[str, ...]) -> DictConfig:
    # Layers: name and text of each file. Cached, so not to be changed: merging costs several times what copying does,
    # the rows of an ablation share their base, and each run folder is read several times.
    if overrides:
        merged = copy.deepcopy(_merged(schema, layers, ()))
        for override in overrides:
            merged = _merge(merged, _parse_override(override, schema), f"the command line ({override})")
        return merged
    merged = _defaults(schema)
    for origin, text in layers:
        merged = _merge(merged, _layer(text, (schema,)), origin)
    return merged


def _to_object(config: DictConfig, schema: type[Schema]) -> Schema:
    try:
        made = cast(Schema, decoded(OmegaConf.to_object(config)))
    except MissingMandatoryValue as error:
        key = error.full_key
        raise E2FashionError(
            f"'{key}' is not given and has no default. Give it in the configuration file or as {key}=<value>."
        ) from error
    except OmegaConfBaseException as error:
        raise E2FashionError(_first_line(error)) from error
    _refuse_misplaced(made, schema)
    return made


def _refuse_misplaced(values: Any, schema: type, what: str = "") -> None:
    if (key := misplaced(values, schema)) is not None:
        raise E2FashionError(f"{what}'{key}' is a list or a mapping, where a single value belongs. Write one value.")


def _parse_override(override: str, *schemas: type) -> DictConfig:
    """One ``key=value`` as a configuration; values that are text in the schemas are kept as written."""
    key, sign, value = override.partition("=")
    if not sign or not key:
        raise E2FashionError(f"'{override}' is not an override: write key=value, as in train.precision=bf16.")
    located = locate(schemas, key)
    try:
        if located is None:
            return OmegaConf.from_dotlist([override])
        parts, kind = located
        if is_text(kind):
            content: Any = encoded(read_text_value(value, kind))
        elif is_list(kind):
            content = read_text_value(value, kind)
        elif holds_values(kind):
            content = read_typed_value(value, kind)
        else:
            return OmegaConf.from_dotlist([override])
        for part in reversed(parts):
            content = {part: content}
        return OmegaConf.create(content)
    except Exception as error:
        raise E2FashionError(f"'{override}' cannot be read: {_first_line(error)}") from error


def _refuse_typed(key: str, value: Any, schema: type, origin: str) -> None:
    """Raise if YAML parsed a number or a truth value where text belongs: the original spelling is lost."""
    located = locate([schema], key)
    typed = wrongly_typed(value, located[1]) if located is not None else None
    if typed is not None:
        raise E2FashionError(f"{origin}, key '{key}': {typed!r} is not text. Put the value in quotation marks.")


def _defaults(schema: type) -> DictConfig:
    """A schema's defaults, as a copy to merge into."""
    return copy.deepcopy(_structured(schema))


@cache
def _structured(schema: type) -> DictConfig:
    # Cached: building it costs more than copying it.
    return cast(DictConfig, OmegaConf.structured(schema))


def _merge(base: DictConfig, layer: DictConfig, origin: str) -> DictConfig:
    """``base``, changed in place by ``layer``; errors call that ``origin``."""
    _modernize(layer, OmegaConf.get_type(base))
    try:
        _empty(base, layer)
        base.merge_with(layer)
        return base
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        where = f"{origin}, key '{key}'" if key else origin
        raise E2FashionError(f"{where}: {_first_line(error)}{_keys_instead(error)}") from error
    except TypeError as error:  # a list where the schema has a mapping, or the other way round
        raise E2FashionError(f"{origin}: {_first_line(error)}: a list was given for a mapping.") from error


def _modernize(layer: DictConfig, kind: Any) -> None:
    """Rename keys that ``kind`` renamed, and split each text at its commas where it has a list; a number is one item.

    This is the form of the command line, and of files older than the list type of a key.
    """
    for item in fields(kind) if is_dataclass(kind) else ():
        before = item.metadata.get(RENAMED)
        if before is not None and before in layer:
            layer[item.name] = layer.pop(before)
    for key in layer:
        node, child_kind = layer._get_node(key), kind_below(str(key), kind)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation():
            _modernize(node, child_kind)
        elif isinstance(node, ValueNode) and is_list(child_kind) and not node._is_interpolation():
            value = node._value()
            if isinstance(value, str) and value != "???":
                layer[key] = split_texts(value)
            elif isinstance(value, int | float) and not isinstance(value, bool):
                layer[key] = [value]


def _keys_instead(error: OmegaConfBaseException) -> str:
    """The known keys, for a message about an unknown key that resembles none of them."""
    schema = getattr(error, "object_type", None)
    if not isinstance(error, ConfigKeyError) or not is_dataclass(schema) or "Did you mean" in str(error):
        return ""
    return f". Its keys: {', '.join(item.name for item in fields(schema))}"


def _empty(base: DictConfig, layer: DictConfig) -> None:
    """Empty what ``layer`` sets to ``{}``, which merging would leave unchanged."""
    for key in layer:
        given, current = layer._get_node(key), base._get_node(key, validate_access=False)
        if not isinstance(given, DictConfig) or not isinstance(current, DictConfig) or current._is_none():
            continue
        if current._is_interpolation():  # it refers to another value; merging replaces the reference
            continue
        if not given._is_none() and not given and OmegaConf.get_type(current) is dict:
            base[key] = {}
        else:
            _empty(current, given)


def _first_line(error: Exception) -> str:
    return decoded(str(error)).splitlines()[0]
