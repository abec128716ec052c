"""From the words of a command line to the verb that does it, and its exit code."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from difflib import get_close_matches

from e2fashion import __version__
from e2fashion.cli import captioning, catalogues, classification, composing, exporting, measuring, searching, training
from e2fashion.cli.help import verb_help, verbs_help
from e2fashion.cli.words import OWN_FLAGS, Verb, Words, check_words, is_place
from e2fashion.disk import disk_trouble
from e2fashion.escape import visible
from e2fashion.lifetime import end_with_parent, signal_of, terminable
from e2fashion.terminal import prepare_terminal
from e2fashion.types import E2FashionError

#: In the order in which the help lists them.
VERBS: dict[str, Verb] = {
    **catalogues.VERBS,
    **training.VERBS,
    **measuring.VERBS,
    **classification.VERBS,
    **captioning.VERBS,
    **composing.VERBS,
    **exporting.VERBS,
    **searching.VERBS,
}

#: Of the verbs of two words.
FIRST_WORDS = {verb.split()[0] for verb in VERBS if " " in verb} - set(VERBS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 when done, 1 after an error of the user's that the message explains, 3 when ``data check`` finds a catalogue
        unfit, 130 after Ctrl-C, 143 after SIGTERM.
    """
    end_with_parent()
    parser = _parser()
    known, rest = parser.parse_known_args(arguments)
    try:
        if known.verb is None or (known.help and not known.words and known.verb in FIRST_WORDS):
            print(verbs_help(VERBS if known.verb is None else _verbs_of(known.verb)))
            return 0
        verb, words = _find_verb(known.verb, [*known.words, *rest])
        if known.help:
            print(verb_help(verb))
            return 0
        unknown = [word for word in words if word.startswith("-")]
        unknown += [flag for flag in OWN_FLAGS if _given(known, flag) and flag not in verb.flags]
        if unknown:
            flags = ", ".join(["--quiet", "--help", *verb.flags])
            raise E2FashionError(f"Unknown flag '{unknown[0]}'. Flags: {flags}. Settings are key=value.")
        prepare_terminal()
        sorted_words = Words(
            places=[word for word in words if is_place(word, verb)],
            overrides=[word for word in words if not is_place(word, verb)],
            quiet=known.quiet,
            dry_run=known.dry_run,
            only=tuple(name for part in known.only or () for name in part.split(",") if name),
            jobs=_jobs(known.jobs),
        )
        check_words(verb, sorted_words)
        with terminable():
            return verb.run(sorted_words)
    except E2FashionError as error:
        if message := visible(str(error)):
            print(f"error: {message}" if error.exit_code == 1 else message, file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # whoever reads, say `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a folder that may not be written: nothing that a traceback explains
        where = f"'{error.filename}': " if error.filename else ""
        print("error: " + visible(f"{where}{disk_trouble(error) or error.strerror or error}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        command = shlex.join(["e2fashion", *(sys.argv[1:] if arguments is None else arguments)])
        print(f"stopped. What was there is as it was; repeat with: {command}", file=sys.stderr)
        return 128 + signal_of(stop)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="e2fashion", add_help=False, allow_abbrev=False)
    parser.add_argument("verb", nargs="?")
    parser.add_argument("words", nargs="*")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--only", action="append")
    parser.add_argument("--jobs")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--version", action="version", version=f"e2fashion {__version__}")
    return parser


def _given(known: argparse.Namespace, flag: str) -> bool:
    return getattr(known, flag.removeprefix("--").replace("-", "_")) not in (None, False)


def _jobs(given: str | None) -> int:
    if given is not None and not (given.isdecimal() and int(given) > 0):
        raise E2FashionError(f"--jobs is '{given}'; give a number from 1.")
    return int(given or 1)


def _find_verb(name: str, words: list[str]) -> tuple[Verb, list[str]]:
    """The verb of one word or two (``data prepare``), and the words behind it."""
    if words and f"{name} {words[0]}" in VERBS:
        return VERBS[f"{name} {words[0]}"], words[1:]
    if name in VERBS:
        return VERBS[name], words
    if name in FIRST_WORDS:
        given = f"; got '{words[0]}'" if words else ""
        raise E2FashionError(
            f"Say which: {', '.join(_verbs_of(name))}{given}. `e2fashion {name} --help` explains them."
        )
    near = get_close_matches(name, [*VERBS, *FIRST_WORDS], n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise E2FashionError(f"There is no verb '{name}'.{hint} Verbs: {', '.join(VERBS)}.")


def _verbs_of(first: str) -> dict[str, Verb]:
    """The verbs of two words that begin with this one."""
    return {name: verb for name, verb in VERBS.items() if name.split()[0] == first}
