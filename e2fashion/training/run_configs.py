"""Configurations that take more than a file and a dataclass: a run folder's, those of a comparison, a source's options.

Nothing here imports PyTorch: a mistake in a command is reported at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from e2fashion.config import keys_of, load_config
from e2fashion.disk import reason_of
from e2fashion.literals import decoded, encoded
from e2fashion.run_folder import RunFolder
from e2fashion.schema import CompareConfig, PrepareConfig, RunConfig
from e2fashion.types import E2FashionError

Config = TypeVar("Config")


def config_of_place(schema: type[Config], place: Path, overrides: Sequence[str]) -> Config:
    """The configuration of a file, or that of a run folder, to resume it.

    Raises:
        E2FashionError: no such place, a folder without ``config.yaml``, or a mistake in the configuration.
    """
    if not place.exists():
        raise E2FashionError(f"'{place}' does not exist. Give a configuration file, or the folder of a run.")
    if not place.is_dir():
        return load_config(schema, place, overrides)
    file = RunFolder(place).config
    if not file.is_file():
        raise E2FashionError(f"'{place}' is no run folder: it has no config.yaml. Give a configuration file.")
    return load_config(schema, file, [f"output={place}", *overrides])


def load_comparison(files: Sequence[Path], overrides: Sequence[str]) -> tuple[CompareConfig, list[RunConfig]]:
    """The comparison's configuration, and that of every run, whose folders are in the comparison's.

    Raises:
        E2FashionError: a mistake in a configuration, or two runs of the same name.
    """
    own = [word for word in overrides if word.partition("=")[0] in keys_of(CompareConfig)]
    config = load_config(CompareConfig, None, own)
    shared = [*(word for word in overrides if word not in own), f"data={config.data}"]
    runs = []
    for file in files:
        name = load_config(RunConfig, file, shared).name
        runs.append(load_config(RunConfig, file, [*shared, f"output={Path(config.output) / name}"]))
    names = [run.name for run in runs]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise E2FashionError(f"Two configurations are called '{doubled}'. Give each a name of its own.")
    return config, runs


def source_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the source ``name`` with their defaults, strictly against the fields of its class.

    Raises:
        E2FashionError: an unknown source or option (the ones that exist are named), or a value of the wrong type.
    """
    from e2fashion.data.sources import SOURCE_POINT, SOURCES  # here, because they cost half a second

    schema = SOURCE_POINT.find(name, SOURCES)
    if schema is None:
        raise E2FashionError(f"There is no source '{name}'. Sources: {', '.join(SOURCE_POINT.names(SOURCES))}.")
    # Of ours and the source's together, for the user writes both in one file.
    return part_options(f"source '{name}'", schema, options, keys_of(PrepareConfig))


def part_options(what: str, schema: type, options: Mapping[str, Any], more_keys: Iterable[str] = ()) -> dict[str, Any]:
    """Arguments of the dataclass ``schema``: its defaults, changed by ``options``; messages call it ``what``.

    Raises:
        E2FashionError: an unknown option (those that exist are named), or a value of the wrong type.
    """
    known = sorted({item.name for item in fields(schema)} | set(more_keys))
    known_text = ", ".join(known) or "none"
    for key in options:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            hint = f" Did you mean: '{near[0]}'?" if near else ""
            raise E2FashionError(f"{what} has no key '{key}'.{hint} Keys that can be given: {known_text}.")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.create(encoded(options)))
        return cast(dict[str, Any], decoded(OmegaConf.to_container(merged, throw_on_missing=True)))
    except (OmegaConfBaseException, TypeError, ValueError) as error:  # the last two where containers differ in kind
        # OmegaConf's own words are for people already
        reason = str(error).split("\n", 1)[0] if isinstance(error, OmegaConfBaseException) else reason_of(error)
        raise E2FashionError(f"{what}: {reason.rstrip('.')}. Keys that can be given: {known_text}.") from error
