"""Locks for one writer per folder, which the system releases however their process ends."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2fashion.disk.trouble import naming, real_path
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

#: Error numbers of ``flock`` on a file system without locks.
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class FolderLockedError(E2FashionError):
    """Another process, or another thread of this one, is writing the folder."""


@dataclass
class _Held:
    handle: int
    thread: int
    depth: int = 1


_held: dict[Path, _Held] = {}
_guard = threading.Lock()


@contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Lock ``folder`` for writing during the block; nested calls in one thread share the lock.

    The lock is on the sibling file ``.<name>.lock``, which is removed at the end. The system releases it when the
    process ends, also by SIGKILL; a leftover file is reused. Readers need no lock. ``shared`` admits other writers that
    also lock the folder as ``shared``.

    Raises:
        FolderLockedError: another process holds the lock; the message names the folder and the process.
        E2FashionError: the lock file cannot be written.
    """
    file = lock_file(folder)
    thread = threading.get_ident()
    with _guard:
        held = _held.get(file)
        if held is not None and held.thread != thread:
            raise FolderLockedError(f"'{folder}' is being written by another thread of this process: wait for it.")
        if held is not None:
            held.depth += 1
        else:
            with naming(folder):
                file.parent.mkdir(parents=True, exist_ok=True)
                held = _held[file] = _Held(_acquire(folder, file, shared), thread)
    try:
        yield
    finally:
        with _guard:
            held.depth -= 1
            if not held.depth and _held.get(file) is held:
                del _held[file]
                _release(file, held.handle)


@contextmanager
def turn_at(file: Path) -> Iterator[None]:
    """Lock a file in order to replace it by a longer one, waiting for other writers; a missing file is created empty.

    The lock is on the file itself, so that no lock file is left over.
    """
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
            if _is_still(file, handle):  # else another process has replaced it
                yield
                return
        finally:
            os.close(handle)


def lock_file(folder: Path) -> Path:
    """The lock file of a folder, next to it, or to the target if it is a link."""
    real = real_path(folder)
    return real.with_name(f".{real.name}.lock")


def lock_holder(folder: Path) -> str | None:
    """A description of the other process that writes ``folder`` now; None if there is none."""
    file = lock_file(folder)
    if file in _held:
        return None
    try:
        handle = os.open(file, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(handle)
    except OSError:
        return None
    else:
        return None
    finally:
        os.close(handle)


def _acquire(folder: Path, file: Path, shared: bool) -> int:
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if _lock(folder, handle, shared) and _sign(file, handle):
                return handle
        except BaseException:  # also Ctrl-C: an open handle would keep the lock
            os.close(handle)
            raise
        os.close(handle)  # the former holder has removed the file


def _lock(folder: Path, handle: int, shared: bool) -> bool:
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FolderLockedError(
            f"'{folder}' is being written by {_holder(handle)}: wait until it ends, or choose another folder."
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        logger.warning("%s is on a disk without locks: start no second command that writes it", folder)
    return True


def _sign(file: Path, handle: int) -> bool:
    """Write the holder into the lock file; False if it is no longer the file at this path."""
    if not _is_still(file, handle):
        return False
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(this_process()).encode(), 0)
    return True


def _release(file: Path, handle: int) -> None:
    """Remove the file, unless others share its lock, and drop the lock."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_still(file, handle):
            file.unlink()
    except OSError:
        pass  # shared by others, or its folder was removed
    finally:
        os.close(handle)


def _is_still(file: Path, handle: int) -> bool:
    try:
        current, opened = file.stat(), os.fstat(handle)
    except OSError:
        return False
    return (current.st_dev, current.st_ino) == (opened.st_dev, opened.st_ino)


def this_process() -> dict[str, Any]:
    """The description of this process for other ones."""
    return {"pid": os.getpid(), "host": socket.gethostname(), "command": " ".join(sys.argv[1:])}


def process_words(told: bytes) -> str:
    """The description that a process gave of itself, for messages."""
    try:
        content = json.loads(told)
        here = "" if content["host"] == socket.gethostname() else f" on {content['host']}"
        return f"process {content['pid']}{here} (e2fashion {content['command']})"
    except (ValueError, KeyError, TypeError):
        return "another process"


def _holder(handle: int) -> str:
    try:
        return process_words(os.pread(handle, 4096, 0))
    except OSError:
        return process_words(b"")


def _forget() -> None:
    """In a forked child: close the parent's locks, which must end with the parent."""
    global _guard
    _guard = threading.Lock()
    for held in _held.values():
        os.close(held.handle)
    _held.clear()


os.register_at_fork(after_in_child=_forget)
