"""A command's words, sorted, and what a verb is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from e2fashion.escape import visible
from e2fashion.settings import REQUIRED, settings_of
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
    """A verb: its usage, what it does, its function, the name of its schema, its flags, its page in ``docs``.

    ``passed`` names the schema that its other keys belong to, ``argument`` the key that arguments without ``=`` give.
    """

    usage: str
    help: str
    run: Callable[[Words], int]
    settings: str = ""
    flags: tuple[str, ...] = ()
    page: str = ""
    passed: str = ""
    argument: str = ""


def check_words(verb: Verb, words: Words) -> None:
    """Refuse a key that is given twice with different values, and an empty value that means nothing.

    Raises:
        E2FashionError: such a key; the message names both values, or how to say what is meant.
    """
    given: dict[str, str] = {}
    places = [place for place in words.places if not place.endswith((".yaml", ".yml"))]
    for override in words.overrides:
        key, _, value = override.partition("=")
        if given.setdefault(key, value) != value:
            raise E2FashionError(f"'{key}' is given twice, as {key}={given[key]} and as {override}. Leave one out.")
        if key == verb.argument and places:
            raise E2FashionError(
                f"'{key}' is given twice, as the argument '{places[0]}' and as {override}. Leave one out."
            )
        if not value.strip() and (kind := _kind_without_empty(verb, key)):
            raise E2FashionError(f"'{override}' has no value. Give {kind}, or leave {key} out for the default.")


def _kind_without_empty(verb: Verb, key: str) -> str | None:
    """What a key takes if that cannot be an empty text; None for an optional text and for keys that do not exist."""
    from e2fashion import schema

    for name in filter(None, (verb.settings, verb.passed)):
        for item in settings_of(getattr(schema, name)):
            if re.fullmatch(re.escape(item.path).replace("<name>", "[^.]+"), key):
                empty = item.type == "text" and item.default != REQUIRED
                return None if empty else item.type.replace("`", "")
    return None


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
    """Print, unless this is a process that only helped another one; control characters from data are escaped."""
    if text:
        print(visible(text, keep="\n\t"))
