"""Atomic writing of files and folders: to a temporary sibling, flushed to the disk, then renamed.

A kill at any moment leaves the former content or the new one. Leftover siblings begin with ``.<name>.`` and are removed
by the next writer of the same name. Files and folders that are being written are locked, so that those of running
processes are never removed.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from e2fashion.disk.locks import FolderLockedError, lock_file, locked
from e2fashion.disk.trouble import naming, real_path
from e2fashion.types import E2FashionError

#: Suffixes of a sibling that is being written, and of a folder that is being replaced.
PARTIAL, REPLACED = "partial", "replaced"
_RENAME_EXCHANGE, _AT_FDCWD = 2, -100


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a sibling path of ``target`` to write to, which replaces it when the block ends without an error.

    Links are followed and the folder is created. Special files (``/dev/stdout``) are written directly.

    Raises:
        E2FashionError: ``target`` is a folder, or the disk is full, read-only or removed.
    """
    with naming(target):
        real = real_path(target)
        if real.is_dir():
            raise E2FashionError(f"'{target}' is a folder, not a file: choose another output.")
        if real.exists() and not real.is_file():
            yield target
            return
        real.parent.mkdir(parents=True, exist_ok=True)
        _remove_dead_files(real)
        partial, handle = _new_file(real)
        try:
            yield partial
            _sync(partial)
            partial.replace(real)
            _sync(real.parent)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            os.close(handle)


@contextmanager
def open_text(target: Path) -> Iterator[TextIO]:
    """A UTF-8 stream (line ends as written, as :mod:`csv` needs it) that replaces ``target`` atomically."""
    with atomic_file(target) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        yield stream


def write_text(target: Path, text: str) -> None:
    """Write a text as UTF-8, atomically."""
    with open_text(target) as stream:
        stream.write(text)


def write_json(target: Path, content: Any, *, indent: int | None = 1, sort_keys: bool = False) -> None:
    """Write plain values as JSON, atomically."""
    write_text(target, json_text(content, indent=indent, sort_keys=sort_keys))


def json_text(content: Any, *, indent: int | None = 1, sort_keys: bool = False) -> str:
    """Plain values as the text of a JSON file."""
    return json.dumps(content, indent=indent, sort_keys=sort_keys, ensure_ascii=False) + "\n"


@contextmanager
def atomic_folder(target: Path, may_replace: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """Yield an empty sibling folder of ``target`` that replaces it when the block ends without an error.

    ``target`` is locked meanwhile. An existing folder is exchanged for the new one in one step and then deleted;
    ``may_replace`` is called with it before the block and before the exchange, and raises to keep it. Links are
    followed.

    Raises:
        FolderLockedError: another process writes ``target``.
        E2FashionError: ``target`` is a file, or the disk is full, read-only or removed.
    """
    with naming(target):
        real = real_path(target)
        if real.exists() and not real.is_dir():
            raise E2FashionError(f"'{target}' is a file, not a folder: choose another output.")
        with locked(target):
            _recover(real)
            _check(real, may_replace)
            partial = _sibling(real, PARTIAL)
            partial.mkdir()
            try:
                yield partial
                _check(real, may_replace)
                _sync_tree(partial)
                _replace(partial, real)
            finally:
                shutil.rmtree(partial, ignore_errors=True)


def recover(target: Path) -> None:
    """Restore a folder that a killed process had moved aside and not replaced yet, unless it is being written.

    For readers, on disks that cannot exchange two folders in one step.
    """
    real = real_path(target)
    if real.exists() or not _leftovers(real, REPLACED):
        return
    with suppress(FolderLockedError), naming(target), locked(target):
        _recover(real)


def clear_leftovers(target: Path) -> None:
    """Remove what killed writers of a file or folder left next to it."""
    real = real_path(target)
    _remove_dead_files(real)
    if lock_file(real).exists() or _leftovers(real, PARTIAL) or _leftovers(real, REPLACED):
        with suppress(FolderLockedError), naming(target), locked(target):
            _recover(real)


def remove_folder(target: Path) -> None:
    """Remove a folder atomically; what a kill leaves of it is removed by the next writer of its name.

    Raises:
        FolderLockedError: another process writes ``target``.
        E2FashionError: the disk refuses.
    """
    real = real_path(target)
    if not real.is_dir():
        clear_leftovers(target)
        return
    with naming(target), locked(target):
        _recover(real)
        partial = _sibling(real, PARTIAL)
        real.rename(partial)
        _sync(real.parent)
        shutil.rmtree(partial, ignore_errors=True)


def _check(real: Path, may_replace: Callable[[Path], None] | None) -> None:
    if may_replace is not None and real.is_dir() and any(real.iterdir()):
        may_replace(real)


def _recover(real: Path) -> None:
    """Undo or finish what a killed writer of this folder began; the caller holds the lock."""
    for aside in _leftovers(real, REPLACED):
        if real.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(real)
    for partial in _leftovers(real, PARTIAL):
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)


def _replace(partial: Path, real: Path) -> None:
    """Move a finished folder to its path; the former one is then at ``partial``, or removed."""
    if not real.exists():
        partial.rename(real)
    elif not exchange(partial, real):
        aside = _sibling(real, REPLACED)
        real.rename(aside)
        try:
            partial.rename(real)
        except BaseException:
            aside.rename(real)
            raise
        _sync(real.parent)
        shutil.rmtree(aside, ignore_errors=True)
    _sync(real.parent)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; False if the system or the disk cannot."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):
        return False
    done = library.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0
    number = ctypes.get_errno()
    if not done and number not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EXDEV):
        raise OSError(number, os.strerror(number), str(other))
    return done


def _remove_dead_files(real: Path) -> None:
    for leftover in _leftovers(real, PARTIAL):
        try:
            handle = os.open(leftover, os.O_RDWR)
        except OSError:  # renamed meanwhile, or a folder
            continue
        try:
            if _try_lock(handle):
                leftover.unlink(missing_ok=True)
        finally:
            os.close(handle)


def _new_file(real: Path) -> tuple[Path, int]:
    """An empty sibling file, locked, with the same permissions."""
    mode = stat.S_IMODE(real.stat().st_mode) if real.exists() else 0o666
    while True:
        partial = _sibling(real, PARTIAL)
        handle = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        # Before it is locked another writer may have removed it as a leftover.
        if _try_lock(handle) is not None and partial.exists():
            return partial, handle
        os.close(handle)


def _sibling(real: Path, kind: str) -> Path:
    return real.with_name(f".{real.name}.{kind}-{os.getpid()}-{secrets.token_hex(4)}")


def _leftovers(real: Path, kind: str) -> list[Path]:
    prefix = f".{real.name}.{kind}-"
    try:
        return sorted(file for file in real.parent.iterdir() if file.name.startswith(prefix))
    except FileNotFoundError:
        return []


def _try_lock(handle: int) -> bool | None:
    """Lock an open file until it is closed; None if it is locked by another process, False on a disk without locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError:
        return False
    return True


def _sync_tree(folder: Path) -> None:
    for path, _, files in os.walk(folder):
        for file in files:
            _sync(Path(path, file))
        _sync(Path(path))


def _sync(path: Path) -> None:
    """Flush a file's content, or a folder's names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # of a folder on some network disks
            raise
    finally:
        os.close(handle)
