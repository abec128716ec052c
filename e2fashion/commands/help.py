"""The text of ``--help``: the verbs, or one of them with its keys, their types, defaults and meanings."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from e2fashion.commands.registry import SOME_FLAGS, Command
from e2fashion.data.config import PrepareConfig
from e2fashion.settings import SECTION, Setting, class_doc, settings_of

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
