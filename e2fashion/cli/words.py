"""A command's words, sorted, and what a verb is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from e2fashion.types import E2FashionError

OWN_FLAGS = ("--dry-run", "--only", "--jobs")
"""Flags that only some verbs take."""


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
    """A verb: its usage, what it does, its function, the name of its schema, its flags, its page in ``docs``."""

    usage: str
    help: str
    run: Callable[[Words], int]
    settings: str = ""
    flags: tuple[str, ...] = ()
    page: str = ""


def is_place(word: str, verb: Verb) -> bool:
    """Whether a word is a path or a name: it has no ``=``, or is a path with one, as in ``photos/a=b.jpg``.

    A word whose beginning is a key of the verb is never a path: ``./model=a.jpg`` is one.
    """
    key, sign, _ = word.partition("=")
    if not sign:
        return True
    if "/" not in key and not Path(word).exists():
        return False
    from e2fashion import schema

    settings = getattr(schema, verb.settings) if verb.settings else None
    return settings is None or key.partition(".")[0] not in {item.name for item in fields(settings)}


def one_place(words: Words, what: str) -> str:
    """The only path or name that was given, or an error that says ``what`` it should be."""
    if len(words.places) != 1:
        given = ", ".join(words.places) or "nothing"
        raise E2FashionError(f"Give one {what}; got {given}.")
    return words.places[0]


def show(text: str) -> None:
    """Print, unless this is a process that only helped another one."""
    if text:
        print(text)
