"""Commands, how their arguments become their configuration, and the text of ``--help``."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from e2fashion.config import config_of_path, keys_of, load_config
from e2fashion.data.config import PrepareConfig
from e2fashion.literals import quoted
from e2fashion.settings import REQUIRED, SECTION, Setting, class_doc, field_docs, settings_of
from e2fashion.types import E2FashionError

SOME_FLAGS = ("--dry-run", "--only", "--jobs")
"""Flags that only some commands take."""

Function = TypeVar("Function", bound=Callable[..., "str | tuple[str, int]"])


@dataclass(frozen=True)
class Arguments:
    """The arguments of a verb: those without ``=``, those of the form ``key=value``, and flags."""

    positional: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    quiet: bool = False
    dry_run: bool = False
    only: tuple[str, ...] = ()
    jobs: int = 1

    @property
    def files(self) -> list[str]:
        """The positional arguments that are configuration files."""
        return [argument for argument in self.positional if argument.endswith((".yaml", ".yml"))]

    @property
    def values(self) -> list[str]:
        """The positional arguments that are not."""
        return [argument for argument in self.positional if argument not in self.files]

    @property
    def progress(self) -> bool:
        """Whether progress bars are drawn."""
        return not self.quiet


@dataclass(frozen=True)
class Command:
    """A verb, the dataclass of its keys, and the function that runs it.

    ``run`` takes the configuration and the arguments and returns the text to print, optionally with an exit code.
    ``positional`` names the keys that arguments without ``=`` set, in this order; a last name that ends with ``...``
    takes all remaining ones. ``load`` builds the configuration; ``passed`` is a second dataclass whose keys go to
    every run of a comparison or an ablation.
    """

    name: str
    arguments: str
    help: str
    config: type
    run: Callable[[Any, Arguments], str | tuple[str, int]]
    positional: tuple[str, ...] = ()
    load: Callable[[Command, Arguments], Any] | None = None
    flags: tuple[str, ...] = ()
    page: str = ""
    passed: type | None = None

    @property
    def usage(self) -> str:
        """The verb and its arguments."""
        return f"{self.name} {self.arguments}"

    def configure(self, arguments: Arguments) -> Any:
        """The configuration given by the arguments; imports nothing heavy.

        Raises:
            E2FashionError: an unknown or repeated key, a value of the wrong type, a missing argument.
        """
        _check_given(self, arguments)
        return (self.load or load_positional)(self, arguments)


class Commands(dict[str, Command]):
    """The commands of one file by verb; ``page`` of the documentation explains those that name no other."""

    def __init__(self, page: str = "") -> None:
        super().__init__()
        self.page = page

    def add(self, name: str, arguments: str, help: str, config: type, **more: Any) -> Callable[[Function], Function]:
        """Register the decorated function as the command ``name``; ``more`` are further fields of :class:`Command`."""

        def register(run: Function) -> Function:
            self[name] = Command(name, arguments, help, config, run, **{"page": self.page, **more})
            return run

        return register


def load_positional(command: Command, arguments: Arguments) -> Any:
    """A configuration from at most one YAML file, the positional arguments and ``key=value`` overrides.

    Raises:
        E2FashionError: two files, too many arguments, or a missing one.
    """
    files, values = arguments.files, arguments.values
    names = [name.removesuffix("...") for name in command.positional]
    rest = bool(command.positional) and command.positional[-1].endswith("...")
    if len(files) > 1 or (len(values) > len(names) and not rest):
        raise E2FashionError(
            f"{command.name} takes {' and '.join(names) or 'no argument'} and at most one configuration file; got "
            f"{', '.join(arguments.positional)}. Usage: e2fashion {command.usage}"
        )
    named = [f"{key}={value}" for key, value in zip(names, values, strict=False)]
    if rest and len(values) >= len(names):
        named[-1:] = [f"{names[-1]}={','.join(map(quoted, values[len(names) - 1 :]))}"]
    given = {override.partition("=")[0] for override in (*named, *arguments.overrides)}
    required = {item.path for item in settings_of(command.config) if item.default == REQUIRED}
    missing = [name for name in names if name in required and name not in given]
    if missing and not files:
        meaning = field_docs(command.config)[missing[0]].meaning.replace("`", "").rstrip(".")
        raise E2FashionError(f"Give the {missing[0]} ({meaning}). Usage: e2fashion {command.usage}")
    return load_config(command.config, files[0] if files else None, [*named, *arguments.overrides])


def load_run(command: Command, arguments: Arguments) -> Any:
    """The configuration in a file, or that of a run folder to resume.

    Raises:
        E2FashionError: not exactly one of them, or an invalid configuration.
    """
    path = single_argument(command, arguments, "configuration file, or the folder of a run to resume")
    return config_of_path(command.config, Path(path), arguments.overrides)


def single_argument(command: Command, arguments: Arguments, what: str) -> str:
    """The only positional argument.

    Raises:
        E2FashionError: none or several; the message asks for ``what``.
    """
    if len(arguments.positional) != 1:
        given = ", ".join(arguments.positional) or "nothing"
        raise E2FashionError(f"Give one {what}; got {given}. Usage: e2fashion {command.usage}")
    return arguments.positional[0]


def sort_arguments(command: Command, args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Positional arguments and ``key=value`` overrides, each in their order.

    An argument without ``=`` is positional, and so is a path that contains one, as in ``photos/a=b.jpg``, unless it
    begins with a key of the command; ``./model=a.jpg`` is positional.
    """
    positional = [arg for arg in args if _is_positional(arg, command)]
    return positional, [arg for arg in args if not _is_positional(arg, command)]


def _is_positional(arg: str, command: Command) -> bool:
    key, sign, _ = arg.partition("=")
    if not sign:
        return True
    if "/" not in key and not Path(arg).exists():
        return False
    return key.partition(".")[0] not in {item.name for item in fields(command.config)}


def _check_given(command: Command, arguments: Arguments) -> None:
    """Raise an E2FashionError for a key with two different values, or with an empty value where that has no meaning."""
    names = (name.removesuffix("...") for name in command.positional)
    positional = dict(zip(names, arguments.values, strict=False))
    given: dict[str, str] = {}
    for override in arguments.overrides:
        key, _, value = override.partition("=")
        if given.setdefault(key, value) != value:
            raise E2FashionError(f"'{key}' is given twice, as {key}={given[key]} and as {override}. Leave one out.")
        if key in positional:
            raise E2FashionError(
                f"'{key}' is given twice, as the argument '{positional[key]}' and as {override}. Leave one out."
            )
        if not value.strip() and (kind := _kind_without_empty(command, key)):
            raise E2FashionError(f"'{override}' has no value. Give {kind}, or leave {key} out for the default.")


def _kind_without_empty(command: Command, key: str) -> str | None:
    """The type of a key that cannot be an empty text; None for an optional text and for unknown keys."""
    for config in filter(None, (command.config, command.passed)):
        for item in settings_of(config) if key.partition(".")[0] in keys_of(config) else ():
            if re.fullmatch(re.escape(item.path).replace("<name>", "[^.]+"), key):
                empty = item.type.startswith(("text", "list")) and " or null" not in item.type
                empty &= item.default != REQUIRED
                return None if empty else item.type.replace("`", "")
    return None


FLAGS = {
    "--quiet": "no progress bars (only terminals have them)",
    "--dry-run": "list what would run, and run nothing",
    "--only": "ROW: these rows only, separated by commas",
    "--jobs": "N: processes that train in parallel",
}
_WIDEST, _NARROWEST = 110, 40


def commands_help(commands: Iterable[Command]) -> str:
    """The general usage, and a summary of each of these verbs."""
    lines = ["usage: e2fashion <verb> [config.yaml] [key=value ...] [--flags]", "", "verbs:"]
    for command in commands:
        lines += [_wrapped(f"e2fashion {command.usage}", 2, hanging=6), _wrapped(command.help, 6)]
    lines += ["", "`e2fashion <verb> --help` explains a verb and each of its keys; `--version` prints the version."]
    return "\n".join(lines)


def command_help(command: Command) -> str:
    """Usage, flags and keys of one command."""
    flags = ["--quiet", *(flag for flag in SOME_FLAGS if flag in command.flags)]
    parts = [
        _wrapped(f"usage: e2fashion {command.usage} [--quiet]", 0, hanging=11),
        _wrapped(f"{command.help[0].upper()}{command.help[1:]}.", 0),
        "\n".join(["flags:", *(f"  {flag:11}{FLAGS[flag]}" for flag in flags)]),
        _paragraphs(class_doc(command.config)),
        "keys, given as key=value or in a configuration file:\n" + keys_help(settings_of(command.config)),
    ]
    if command.config is PrepareConfig:
        parts += _sources_help()
    if command.page:
        parts.append(f"See docs/{command.page} and docs/configuration.md.")
    return "\n\n".join(parts)


def keys_help(settings: Iterable[Setting]) -> str:
    """Keys with type, default and meaning; those of a section are indented below it."""
    lines = []
    for item in settings:
        depth = 2 + 2 * item.section.count(".") + (2 if item.section else 0)
        if item.type == SECTION:
            head = f"{item.path}.*"
        elif item.default in ("required", ""):
            head = f"{item.path}=<{plain(item.type)}>, {item.default}"
        else:
            head = f"{item.path}={plain(item.default)}  <{plain(item.type)}>"
        source = f" Source: {item.source}." if item.source else ""
        lines += [_wrapped(head, depth, hanging=depth + 4), _wrapped(f"{plain(item.meaning)}{source}", depth + 4)]
    return "\n".join(line for line in lines if line)


def plain(text: str) -> str:
    """A docstring or a type for the terminal, without backticks."""
    return text.replace("`", "").replace(" / ", "|")


def _sources_help() -> list[str]:
    from e2fashion.data.sources import SOURCES

    parts = []
    for name in sorted(SOURCES):
        source: Any = SOURCES[name]
        parts.append(
            f"further keys with source={name}:\n{_paragraphs(class_doc(source), 2)}\n{keys_help(settings_of(source))}"
        )
    return parts


def _paragraphs(text: str, indent: int = 0) -> str:
    """A docstring's paragraphs, wrapped, with blank lines between them."""
    blocks = [
        " ".join(lines) for blank, lines in groupby(text.splitlines(), key=lambda line: not line.strip()) if not blank
    ]
    return "\n\n".join(_wrapped(plain(block), indent) for block in blocks)


def _wrapped(text: str, indent: int, hanging: int | None = None) -> str:
    width = max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size((100, 24)).columns))
    return textwrap.fill(
        text,
        width,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent if hanging is None else hanging),
        break_long_words=False,
        break_on_hyphens=False,
    )
