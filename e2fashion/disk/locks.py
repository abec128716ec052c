"""One writer per folder: a lock file whose lock the system drops when its process ends, however it ends."""

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

from e2fashion.disk.trouble import naming
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

#: What ``flock`` answers on a file system without locks.
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
    """Be the only writer of ``folder`` during the block; nested calls of one thread are one lock.

    The lock is that of the file ``.<name>.lock`` beside the folder, which is removed at the end. The system drops it
    when the process ends, also by SIGKILL; a file that such a process leaves is used again. Readers need no lock.
    ``shared`` lets several writers in that share the folder by agreement, and keeps out the others.

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
    """Wait for the turn to replace a file by one that continues it; an absent one is made, empty.

    The lock is that of the file itself, which the system drops with its process: no lock file is left over.
    """
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
            if _is_still(file, handle):  # else another process has replaced it meanwhile
                yield
                return
        finally:
            os.close(handle)


def lock_file(folder: Path) -> Path:
    """The lock file of a folder: beside it, and beside what a link leads to."""
    real = Path(os.path.realpath(folder))
    return real.with_name(f".{real.name}.lock")


def lock_holder(folder: Path) -> str | None:
    """Which other process writes ``folder`` at this moment, in words; None when none does."""
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
        return _said(handle)
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
        except BaseException:  # Ctrl-C too: an open handle would hold the lock
            os.close(handle)
            raise
        os.close(handle)  # the former holder has removed the file meanwhile


def _lock(folder: Path, handle: int, shared: bool) -> bool:
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FolderLockedError(
            f"'{folder}' is being written by {_said(handle)}: wait until it ends, or choose another folder."
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        logger.warning("%s lies on a disk without locks: start no second command that writes it", folder)
    return True


def _sign(file: Path, handle: int) -> bool:
    """Write into the lock file who holds it; False where it is not the file at this path any more."""
    if not _is_still(file, handle):
        return False
    content = {"pid": os.getpid(), "host": socket.gethostname(), "command": " ".join(sys.argv[1:])}
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(content).encode(), 0)
    return True


def _release(file: Path, handle: int) -> None:
    """Remove the file, unless others share its lock, and drop the lock."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_still(file, handle):
            file.unlink()
    except OSError:
        pass  # shared by others, or the folder around it was removed
    finally:
        os.close(handle)


def _is_still(file: Path, handle: int) -> bool:
    try:
        there, ours = file.stat(), os.fstat(handle)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _said(handle: int) -> str:
    try:
        content = json.loads(os.pread(handle, 4096, 0))
        here = "" if content["host"] == socket.gethostname() else f" on {content['host']}"
        return f"process {content['pid']}{here} (e2fashion {content['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _forget() -> None:
    """In a forked child: the locks are its parent's, and must end with the parent."""
    global _guard
    _guard = threading.Lock()
    for held in _held.values():
        os.close(held.handle)
    _held.clear()


os.register_at_fork(after_in_child=_forget)
