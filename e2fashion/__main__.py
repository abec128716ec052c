"""The ``e2fashion`` program: parse the command line, run the command, return its exit code."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from e2fashion import __version__
from e2fashion.disk import disk_trouble
from e2fashion.escape import visible
from e2fashion.lifetime import end_at_once, end_with_parent, signal_of, terminable
from e2fashion.terminal import prepare_terminal
from e2fashion.types import E2FashionError

if TYPE_CHECKING:
    from e2fashion.commands.registry import Arguments, Command


def main(args: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 on success, 1 after an error that the message explains, 3 if ``data check`` finds a catalogue unfit, 130
        after Ctrl-C, 143 after SIGTERM.
    """
    end_with_parent()
    end_at_once()
    flags, rest = argument_parser().parse_known_args(args)
    try:
        if text := _help(flags):
            print(text)
            return 0
        command, arguments = parse(flags, rest)
        prepare_terminal()
        config = command.configure(arguments)
        with terminable():
            result = command.run(config, arguments)
        text, code = (result, 0) if isinstance(result, str) else result
        if text:  # empty in the further processes of a distributed run
            print(visible(text, keep="\n\t"))
        return code
    except E2FashionError as error:
        if message := visible(str(error)):
            print(f"error: {message}" if error.exit_code == 1 else message, file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, missing permission: a traceback would not help
        where = f"'{error.filename}': " if error.filename else ""
        print("error: " + visible(f"{where}{disk_trouble(error) or error.strerror or error}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        command_line = shlex.join(["e2fashion", *(sys.argv[1:] if args is None else args)])
        print(f"stopped. Existing files are unchanged; repeat with: {command_line}", file=sys.stderr)
        return 128 + signal_of(stop)


def argument_parser() -> argparse.ArgumentParser:
    """Flags, and the arguments around them."""
    parser = argparse.ArgumentParser(prog="e2fashion", add_help=False, allow_abbrev=False)
    parser.add_argument("verb", nargs="?")
    parser.add_argument("args", nargs="*")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--only", action="append")
    parser.add_argument("--jobs")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--version", action="version", version=f"e2fashion {__version__}")
    return parser


def parse(flags: argparse.Namespace, rest: Sequence[str]) -> tuple[Command, Arguments]:
    """The requested command and its arguments.

    Raises:
        E2FashionError: an unknown command, or a flag that it does not take.
    """
    from e2fashion.commands.registry import SOME_FLAGS, Arguments, sort_arguments

    command, args = _find_command(flags.verb, [*flags.args, *rest])
    unknown = [arg for arg in args if arg.startswith("-")]
    unknown += [flag for flag in SOME_FLAGS if _given(flags, flag) and flag not in command.flags]
    if unknown:
        known = ", ".join(["--quiet", "--help", *command.flags])
        raise E2FashionError(f"Unknown flag '{unknown[0]}'. Flags: {known}. Settings are key=value.")
    positional, overrides = sort_arguments(command, args)
    only = tuple(name for part in flags.only or () for name in part.split(",") if name)
    return command, Arguments(positional, overrides, flags.quiet, flags.dry_run, only, _jobs(flags.jobs))


def _help(flags: argparse.Namespace) -> str:
    """The help text if it was requested, else an empty string."""
    from e2fashion.commands import COMMANDS
    from e2fashion.commands.registry import command_help, commands_help

    if flags.verb is None:
        return commands_help(COMMANDS.values())
    if not flags.help:
        return ""
    if not flags.args and (group := _commands_of(flags.verb)) and flags.verb not in COMMANDS:
        return commands_help(group)
    return command_help(_find_command(flags.verb, flags.args)[0])


def _given(flags: argparse.Namespace, flag: str) -> bool:
    return getattr(flags, flag.removeprefix("--").replace("-", "_")) not in (None, False)


def _jobs(given: str | None) -> int:
    if given is not None and not (given.isdecimal() and int(given) > 0):
        raise E2FashionError(f"--jobs is '{given}'; give a number from 1.")
    return int(given or 1)


def _find_command(name: str, args: list[str]) -> tuple[Command, list[str]]:
    """The command whose verb has one word or two (``data prepare``), and the remaining arguments."""
    from e2fashion.commands import COMMANDS

    if args and f"{name} {args[0]}" in COMMANDS:
        return COMMANDS[f"{name} {args[0]}"], args[1:]
    if name in COMMANDS:
        return COMMANDS[name], args
    if group := _commands_of(name):
        given = f"; got '{args[0]}'" if args else ""
        names = ", ".join(command.name for command in group)
        raise E2FashionError(f"Choose one of {names}{given}. `e2fashion {name} --help` explains them.")
    near = get_close_matches(name, [*COMMANDS, *(verb.split()[0] for verb in COMMANDS)], n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise E2FashionError(f"There is no verb '{name}'.{hint} Verbs: {', '.join(COMMANDS)}.")


def _commands_of(first: str) -> list[Command]:
    """The commands whose verb has this first word."""
    from e2fashion.commands import COMMANDS

    return [command for name, command in COMMANDS.items() if name.split()[0] == first]


if __name__ == "__main__":
    sys.exit(main())
