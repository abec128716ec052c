"""Counts what a process does to files below a folder, and strikes at the n-th operation.

Python reports every ``open``, rename, removal and new folder to audit hooks before it happens; ``fsync`` and the
writers of safetensors, Arrow and PyTorch, which are not Python, are wrapped. A hook stays for the life of its
process, so this belongs into forked children alone.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

Strike = Literal["kill", "torn", "stop", "full", "read_only"]
"""``kill`` ends the process before the operation, ``torn`` when the file it wrote last is half on disk; ``stop`` halts
it until it is continued; ``full`` and ``read_only`` make the operation, and all behind it, fail as on such a disk."""

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
_ERRORS = {"full": errno.ENOSPC, "read_only": errno.EROFS}
#: What frees space succeeds on a full disk.
_FREEING = {"os.remove", "os.rmdir", "os.rename"}


class Operations:
    """Changes to files below ``folder`` in this process, counted from 0; ``strike`` falls on number ``at``."""

    def __init__(self, folder: Path, at: int | None = None, strike: Strike = "kill") -> None:
        self.folder = os.path.realpath(folder)
        self.at, self.strike = at, strike
        self.count = 0
        self._process = os.getpid()
        self._last: tuple[str, int] | None = None
        sys.addaudithook(self._hear)
        os.fsync = self._counted("os.fsync", os.fsync, _file_of)
        _wrap_native_writers(self._counted)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            writing = bool(flags & _WRITING) if isinstance(flags, int) else any(sign in (mode or "") for sign in "wax+")
            if writing and isinstance(path, str | bytes | os.PathLike):
                self._note(event, os.fspath(path), bool(isinstance(flags, int) and flags & os.O_TRUNC))
        elif event in _EVENTS:
            self._note(event, _path_of(event, arguments))

    def _counted(
        self, event: str, function: Callable[..., Any], path_of: Callable[[tuple[Any, ...]], str | bytes | None]
    ) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            if (path := path_of(arguments)) is not None:
                self._note(event, path, event.startswith("native"))
            return function(*arguments, **options)

        return wrapped

    def _note(self, event: str, path: str | bytes | None, emptied: bool = False) -> None:
        if path is None or os.getpid() != self._process:
            return
        path = os.path.abspath(os.fsdecode(path))  # noqa: PTH100
        if not (path + os.sep).startswith(self.folder + os.sep):
            return
        number, self.count = self.count, self.count + 1
        if self.at is not None and number >= self.at:
            self._strike(event, path)
        if event in ("open", "native"):
            size = os.path.getsize(path) if os.path.isfile(path) and not emptied else 0  # noqa: PTH113, PTH202
            self._last = (path, size)
        elif event in ("os.rename", "os.remove"):
            self._last = None

    def _strike(self, event: str, path: str) -> None:
        if self.strike in _ERRORS:
            if self.strike == "read_only" or event not in _FREEING:
                code = _ERRORS[self.strike]
                raise OSError(code, os.strerror(code), path)
            return
        if self.strike == "stop":
            self.at = None
            os.kill(os.getpid(), signal.SIGSTOP)
            return
        if self.strike == "torn" and self._last is not None and os.path.isfile(self._last[0]):  # noqa: PTH113
            name, before = self._last
            self.at = None  # the hook hears the truncation too
            written = os.path.getsize(name)  # noqa: PTH202
            if written > before:
                os.truncate(name, before + (written - before) // 2)
        os.kill(os.getpid(), signal.SIGKILL)


def _path_of(event: str, arguments: tuple[Any, ...]) -> str | bytes | None:
    """The path that an audited operation changes, made whole where it is relative to an open folder."""
    path = arguments[1] if event in ("os.rename", "os.link", "os.symlink") else arguments[0]
    descriptors = {"os.rename": 3, "os.mkdir": 2, "os.remove": 1, "os.rmdir": 1, "os.link": 3, "os.symlink": 2}
    if isinstance(path, int):
        return _file_of((path,))
    position = descriptors.get(event)
    folder = arguments[position] if position is not None and len(arguments) > position else -1
    if isinstance(folder, int) and folder >= 0 and (base := _file_of((folder,))) is not None:
        return os.path.join(os.fsdecode(base), os.fsdecode(path))  # noqa: PTH118
    return os.fspath(path)


def _file_of(arguments: tuple[Any, ...]) -> str | None:
    """Where an open descriptor, or a file object, leads (Linux)."""
    descriptor = arguments[0] if isinstance(arguments[0], int) else arguments[0].fileno()
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
    except OSError:
        return None


def _wrap_native_writers(counted: Callable[..., Callable[..., Any]]) -> None:
    """Count the writers that open files without Python: safetensors (Rust), Arrow (C++), PyTorch's archive (C++)."""
    import pyarrow as pa
    import safetensors.torch as tensors
    import torch

    tensors.serialize_file = counted("native", tensors.serialize_file, lambda given: given[1])
    pa.OSFile = counted("native", pa.OSFile, lambda given: given[0] if "w" in "".join(given[1:2]) else None)
    archive: Any = torch._C.PyTorchFileWriter
    torch._C.PyTorchFileWriter = counted(  # type: ignore[misc,assignment]
        "native", archive, lambda given: given[0] if isinstance(given[0], str) else None
    )
