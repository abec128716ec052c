"""A folder that is either complete or not there: written beside its place, then renamed."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty sibling of ``target`` that takes its place when the block ends without an error.

    After an error or Ctrl-C the sibling is removed; what a killed process left behind is removed by the next one
    on the same machine. An existing ``target`` is replaced only at the very end.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.{socket.gethostname()}."
    for leftover in target.parent.glob(f"{prefix}*.partial"):
        owner = leftover.name.removeprefix(prefix).removesuffix(".partial")
        if owner.isdigit() and not _is_running(int(owner)):
            shutil.rmtree(leftover, ignore_errors=True)
    partial = target.parent / f"{prefix}{os.getpid()}.partial"
    if partial.exists():  # an earlier process with the same number
        shutil.rmtree(partial)
    partial.mkdir()
    try:
        yield partial
        if target.exists():
            replaced = target.parent / f"{prefix}replaced.{os.getpid()}.partial"
            target.rename(replaced)
            partial.rename(target)
            shutil.rmtree(replaced)
        else:
            partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
