"""What a disk refuses, said in one line: no space, no permission, a folder that was removed."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2fashion.types import E2FashionError


class DamagedError(E2FashionError):
    """Something that was written whole is not any more: cut, changed or partly missing."""


REMEDIES = {
    errno.ENOSPC: "the disk is full: free space, or choose an output on another disk",
    errno.EDQUOT: "your quota on this disk is used up: free space, or choose an output on another disk",
    errno.EROFS: "the disk is read-only: choose another output",
    errno.EACCES: "permission denied: choose an output that you may write",
    errno.EPERM: "permission denied: choose an output that you may write",
    errno.ENOENT: "a folder of this path does not exist, or was removed meanwhile",
    errno.EEXIST: "a part of this path is a file, not a folder: choose another output",
    errno.ENOTDIR: "a part of this path is a file, not a folder: choose another output",
    errno.EISDIR: "it is a folder, not a file: choose another output",
    errno.ENAMETOOLONG: "a name in this path is too long: choose a shorter one",
    errno.EIO: "the disk reports an error: check it, and write elsewhere",
    errno.EFBIG: "the file would be larger than this disk or your limits allow",
}
"""What an error number means for an output, and the remedy."""

OF_OUTPUTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
"""Error numbers that only writing gives; the others may come from an input that is read meanwhile."""


def disk_trouble(error: BaseException) -> str | None:
    """What the disk refused, in words; None for an error that is of another kind.

    Writers in Rust and C++ (safetensors, Arrow, PyTorch) put the number of the system's error into their text.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := re.search(r"\(os error (\d+)\)|errno:? (\d+)", str(error))):
        number = int(found[1] or found[2])
    if number is None and "No space left on device" in str(error):
        number = errno.ENOSPC
    return REMEDIES.get(number) if number is not None else None


def reason_of(error: BaseException) -> str:
    """Type and first line of an error of a library, for the message of ours."""
    lines = str(error).split("\n", 1)[0].split()
    said = " ".join(lines)[:200]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


@contextmanager
def reading(what: str | Path, remedy: str) -> Iterator[None]:
    """Turn what libraries raise while the block reads ``what`` into one error that names it; ours pass.

    For the border of a reader only, around as little of our code as possible: an error of ours in the block would be
    taken for damage. The original is its cause.

    Raises:
        DamagedError: the block raised anything else than an ``E2FashionError``.
    """
    try:
        yield
    except E2FashionError:
        raise
    except Exception as error:
        raise DamagedError(f"{what} cannot be read ({reason_of(error)}). {remedy}") from error


@contextmanager
def naming(target: Path) -> Iterator[None]:
    """Turn what the disk refuses in the block into one error that names ``target``; errors of inputs pass.

    Raises:
        E2FashionError: no space, no permission, a removed folder, ... while ``target`` is written.
    """
    try:
        yield
    except E2FashionError:
        raise
    except Exception as error:
        said = disk_trouble(error)
        if said is None or not _is_of_output(error, target):
            raise
        raise E2FashionError(f"'{target}' cannot be written: {said}.") from error


def _is_of_output(error: Exception, target: Path) -> bool:
    """Whether an error comes from writing ``target``: by its number, or by the path that it names."""
    if not isinstance(error, OSError) or error.errno in OF_OUTPUTS:
        return True
    if error.filename is None:
        return False
    real, named = Path(os.path.realpath(target)), Path(os.path.realpath(os.fsdecode(error.filename)))
    if error.errno == errno.EEXIST:
        return real != named and real.is_relative_to(named)
    beside = str(real.with_name(f".{real.name}."))
    return named.is_relative_to(real) or str(named).startswith(beside) or real.is_relative_to(named)
