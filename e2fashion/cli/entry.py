"""From the words of a command line to the verb that does it, and its exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, cast

from e2fashion import __version__
from e2fashion.cli import captioning, catalogues, classification, composing, exporting, measuring, searching, training
from e2fashion.cli.words import OWN_FLAGS, Verb, Words, is_place
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
        unfit, 130 after Ctrl-C.
    """
    parser = _parser()
    known, rest = parser.parse_known_args(arguments)
    if known.verb is None or (known.help and known.verb in FIRST_WORDS and not known.words):
        parser.print_help()
        return 0
    try:
        verb, words = _find_verb(known.verb, [*known.words, *rest])
        if known.help:
            print(_help(verb))
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
        return verb.run(sorted_words)
    except E2FashionError as error:
        if message := str(error):
            print(f"error: {message}" if error.exit_code == 1 else message, file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # whoever reads, say `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a folder that may not be written: nothing that a traceback explains
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _help(verb: Verb) -> str:
    """Usage of one verb and all its settings with their defaults; ??? marks those that must be given."""
    text = f"usage: e2fashion {verb.usage} [--quiet]\n\n{verb.help[0].upper()}{verb.help[1:]}."
    if not verb.settings:
        return text
    from omegaconf import OmegaConf

    from e2fashion import schema

    defaults = OmegaConf.to_yaml(OmegaConf.structured(getattr(schema, verb.settings)))
    text += f"\n\nSettings and their defaults (??? must be given; see {schema.__name__}.{verb.settings}):\n\n{defaults}"
    if verb.settings == "PrepareConfig":
        from dataclasses import fields

        from e2fashion.data.sources import SOURCES

        for name, source in sorted(SOURCES.items()):
            text += f"\nOptions of {name}: {', '.join(field.name for field in fields(cast(Any, source)))}"
    return text


def _parser() -> argparse.ArgumentParser:
    lines = [f"  e2fashion {verb.usage}\n      {verb.help}" for verb in VERBS.values()]
    parser = argparse.ArgumentParser(
        prog="e2fashion",
        usage="e2fashion <verb> [config.yaml] [key=value ...] [--flags]",
        description="E2 and CLIP fine-tuning for fashion images and texts.",
        epilog="verbs:\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument("verb", nargs="?", help="what to do (see below)")
    parser.add_argument("words", nargs="*", help="a configuration file, a folder or a name, and key=value settings")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--dry-run", action="store_true", help="ablate: list what would run")
    parser.add_argument("--only", action="append", metavar="ROW", help="ablate: these rows alone, separated by commas")
    parser.add_argument("--jobs", metavar="N", help="ablate: processes side by side")
    parser.add_argument("-h", "--help", action="store_true", help="explain a verb and its settings, or all verbs")
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
    said = f"{name} {words[0]}" if words and name in FIRST_WORDS else name
    raise E2FashionError(f"There is no verb '{said}'. Verbs: {', '.join(VERBS)}.")
