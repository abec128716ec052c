"""Faults at every file operation of a writer: an error that is raised there, or a process that is killed there."""

from __future__ import annotations

import io
import os
import traceback
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

#: Functions of :mod:`os` through which a file system is changed; ``pathlib`` and ``shutil`` call these too.
CHANGES = ("open", "mkdir", "rename", "replace", "unlink", "rmdir", "fsync", "ftruncate", "pwrite", "write")
KILLED, FAILED = 9, 8


class Faults:
    """Patch that counts file operations and calls ``act`` at number ``at``, before the operation is done."""

    def __init__(self, at: int, act: Callable[[], None]) -> None:
        self.at, self.act, self.count = at, act, 0
        self._patches: list[Any] = []

    def __enter__(self) -> Faults:
        self._patches = [patch.object(os, name, self._counted(getattr(os, name))) for name in CHANGES]
        opened = io.open

        def open_file(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if set(mode) & set("wax+"):
                self._step()
            return opened(file, mode, *arguments, **options)

        self._patches += [patch("io.open", open_file), patch("builtins.open", open_file)]
        for one in self._patches:
            one.start()
        return self

    def __exit__(self, *error: object) -> None:
        for one in reversed(self._patches):
            one.stop()

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self._step()
            return function(*arguments, **options)

        return call

    def _step(self) -> None:
        self.count += 1
        if self.count == self.at:
            self.act()


def kills(write: Callable[[], object], every: int = 1) -> Iterator[int]:
    """Run ``write`` in a forked process that is killed at its first file operation, then at its second, and so on.

    ``every`` 3 takes the first, the fourth, ...: for writers of many operations.

    Yields the number of the operation behind each kill; ends when a process was not killed any more.
    """
    at = 1 - every
    while True:
        at += every
        code = in_child(lambda at=at: _run_with(Faults(at, lambda: os._exit(KILLED)), write))  # type: ignore[misc]
        assert code in (0, KILLED), f"the writer failed before operation {at}: exit code {code}"
        if code == 0:
            return
        yield at


def failures(write: Callable[[], object], error: Callable[[], BaseException]) -> Iterator[tuple[int, BaseException]]:
    """Run ``write`` here with an error raised at its first file operation, then at its second, and so on."""
    at = 0
    while True:
        at += 1

        def act() -> None:
            raise error()

        faults = Faults(at, act)
        try:
            with faults:
                write()
        except BaseException as raised:  # Ctrl-C is one of the faults
            yield at, raised
        if faults.count < at:
            return


def in_child(action: Callable[[], object]) -> int:
    """Run something in a forked process, its locks and open files its own; its exit code."""
    child = os.fork()
    if child == 0:
        try:
            action()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(FAILED)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _run_with(faults: Faults, write: Callable[[], object]) -> None:
    with faults:
        write()
