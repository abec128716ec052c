"""The command line: ``e2fashion <verb> [config.yaml] [key=value ...] [--flags]``.

``key=value`` changes the configuration, flags steer the command. Every verb is one function of
:mod:`e2fashion.runner`; here words are only sorted into what those functions take.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from e2fashion import __version__
from e2fashion.terminal import prepare_terminal
from e2fashion.types import E2FashionError


@dataclass(frozen=True)
class Words:
    """A command's words, sorted: paths and names, then overrides, then flags."""

    places: list[str]
    overrides: list[str]
    quiet: bool
    dry_run: bool = False
    only: tuple[str, ...] = ()
    jobs: int = 1


@dataclass(frozen=True)
class Verb:
    """A verb: the line that explains it, the function that does it, the schema of its settings, flags of its own."""

    usage: str
    help: str
    run: Callable[[Words], int]
    settings: str = ""
    flags: tuple[str, ...] = ()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 when done, 1 after an error of the user's that the message explains, 130 after Ctrl-C.
    """
    parser = _parser()
    known, rest = parser.parse_known_args(arguments)
    if known.verb is None or (known.help and (known.verb, known.words) == ("data", [])):
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
            places=[word for word in words if "=" not in word],
            overrides=[word for word in words if "=" in word],
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
    if name == "data" and words and f"data {words[0]}" in VERBS:
        return VERBS[f"data {words[0]}"], words[1:]
    if name in VERBS:
        return VERBS[name], words
    said = f"data {words[0]}" if name == "data" and words else name
    raise E2FashionError(f"There is no verb '{said}'. Verbs: {', '.join(VERBS)}.")


def _one_place(words: Words, what: str) -> str:
    if len(words.places) != 1:
        given = ", ".join(words.places) or "nothing"
        raise E2FashionError(f"Give one {what}; got {given}.")
    return words.places[0]


def _data_prepare(words: Words) -> int:
    from e2fashion import runner
    from e2fashion.config import load_prepare_config

    if not 1 <= len(words.places) <= 2:
        raise E2FashionError(
            "Say what to prepare: `e2fashion data prepare <source> [config.yaml] path=<where it lies> "
            "output=<catalogue>`, or a configuration file that names its source."
        )
    file = next((Path(place) for place in words.places if place.endswith((".yaml", ".yml"))), None)
    named = [f"source={place}" for place in words.places if not place.endswith((".yaml", ".yml"))]
    config, options = load_prepare_config(file, [*named, *words.overrides])
    print(runner.prepare(config, options, progress=not words.quiet))
    return 0


def _data_describe(words: Words) -> int:
    from e2fashion import runner
    from e2fashion.config import load_config
    from e2fashion.schema import DescribeConfig

    place = _one_place(words, "catalogue folder")
    print(runner.describe(load_config(DescribeConfig, None, [f"catalogue={place}", *words.overrides])))
    return 0


def _show(text: str) -> None:
    """Print, unless this is a process that only helped another one."""
    if text:
        print(text)


def _train(words: Words) -> int:
    from e2fashion import runner

    place = Path(_one_place(words, "configuration file, or the folder of a run to go on with"))
    _show(runner.train(place, words.overrides, progress=not words.quiet))
    return 0


def _evaluate(words: Words) -> int:
    from e2fashion import runner
    from e2fashion.config import load_config
    from e2fashion.schema import EvaluateConfig

    place = _one_place(words, "model: a run folder, a model folder, or the hub name of a CLIP")
    config = load_config(EvaluateConfig, None, [f"model={place}", *words.overrides])
    print(runner.evaluate(config, progress=not words.quiet))
    return 0


def _probe(words: Words) -> int:
    from e2fashion import runner
    from e2fashion.config import load_config
    from e2fashion.schema import ProbeConfig

    place = _one_place(words, "model: a run folder, a model folder, or the hub name of a CLIP")
    config = load_config(ProbeConfig, None, [f"model={place}", *words.overrides])
    print(runner.probe(config, progress=not words.quiet))
    return 0


def _compare(words: Words) -> int:
    from e2fashion import runner

    if not words.places:
        raise E2FashionError("Give the configuration files to compare, the baseline first.")
    _show(runner.compare([Path(place) for place in words.places], words.overrides, progress=not words.quiet))
    return 0


def _report(words: Words) -> int:
    from e2fashion import runner

    print(runner.report([Path(place) for place in words.places], words.overrides))
    return 0


def _ablate(words: Words) -> int:
    from e2fashion.ablation import ablate

    text, finished = ablate(
        Path(_one_place(words, "ablation file")),
        words.overrides,
        only=words.only,
        jobs=words.jobs,
        dry_run=words.dry_run,
        progress=not words.quiet,
    )
    _show(text)
    return 0 if finished else 1


OWN_FLAGS = ("--dry-run", "--only", "--jobs")
"""Flags that only some verbs take."""

VERBS: dict[str, Verb] = {
    "data prepare": Verb(
        "data prepare <source> [config.yaml] path=... output=<catalogue> [on_error=skip]",
        "turn a source (kagl, fashiongen, folder, labelled, synthetic) into a catalogue",
        _data_prepare,
        "PrepareConfig",
    ),
    "data describe": Verb(
        "data describe <catalogue> [tokenizer=<model>] [template=...]",
        "count what a catalogue holds",
        _data_describe,
        "DescribeConfig",
    ),
    "train": Verb(
        "train <config.yaml | run folder> data=<catalogue>",
        "train one run, or go on with one that was interrupted",
        _train,
        "RunConfig",
    ),
    "evaluate": Verb(
        "evaluate <model> data=<catalogue> protocol=full split=val",
        "measure retrieval with a run, a model folder or any CLIP checkpoint",
        _evaluate,
        "EvaluateConfig",
    ),
    "probe": Verb(
        "probe <model> data=<catalogue> entity=brand,season features=global split=test",
        "fit linear probes: how well image features tell the values of an entity apart",
        _probe,
        "ProbeConfig",
    ),
    "compare": Verb(
        "compare <baseline.yaml> <config.yaml> ... data=<catalogue> output=<folder>",
        "train several runs on one catalogue and write one report",
        _compare,
        "CompareConfig",
    ),
    "ablate": Verb(
        "ablate <ablation.yaml> data=<catalogue> [--dry-run] [--only ROW] [--jobs N]",
        "train what an ablation lacks, every row with every seed, and write its report",
        _ablate,
        "AblationConfig",
        OWN_FLAGS,
    ),
    "report": Verb(
        "report <run folder or results.jsonl> ... output=<file.md>",
        "make a table from records that are there",
        _report,
    ),
}
