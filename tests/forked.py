"""Processes forked from one that has imported the libraries: they start at once, and no thread has run before them."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["e2fashion.ablation.sweep", "e2fashion.evaluation", "e2fashion.report"])


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it said."""

    code: int | None
    out: str
    error: str


class Forked:
    """A process that works in ``folder`` and ends with what ``function(*arguments)`` returns."""

    def __init__(
        self,
        function: Callable[..., int],
        *arguments: object,
        folder: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._said = [folder / f".{os.urandom(4).hex()}.{name}" for name in ("out", "error")]
        child = (function, arguments, folder, dict(environment or {}), self._said)
        self._process = CONTEXT.Process(target=_run, args=child)
        self._process.start()

    def wait(self) -> Ended:
        """Until it has ended."""
        self._process.join()
        out, error = (file.read_text(encoding="utf-8") for file in self._said)
        return Ended(self._process.exitcode, out, error)


def e2fashion(words: Sequence[str]) -> int:
    """The program with these words."""
    from e2fashion.__main__ import main

    return main(words)


def _run(
    function: Callable[..., int],
    arguments: Sequence[object],
    folder: Path,
    environment: Mapping[str, str],
    said: Sequence[Path],
) -> None:
    for number, file in enumerate(said, start=1):
        with file.open("wb") as stream:
            os.dup2(stream.fileno(), number)
    os.environ.update(environment)
    os.chdir(folder)
    sys.exit(function(*arguments))
