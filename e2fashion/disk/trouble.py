"""Names of files that lead to no other folder, and one-line errors for failures of the disk and damaged files."""

from __future__ import annotations

import errno
import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2fashion.types import E2FashionError

LONGEST = 200
"""Bytes of UTF-8 in a name; file systems allow 255, of which suffixes need some."""


def checked_name(key: str, value: str) -> str:
    """``value``, if it can be the name of a subfolder.

    Raises:
        E2FashionError: it is empty, begins with a dot, is too long, or contains a slash, a backslash or a control
            character; the message names ``key``.
    """
    if not value.strip() or value.startswith("."):
        problem = "is empty" if not value.strip() else "begins with a dot"
    elif re.search(r"[/\\]", value):
        problem = "contains a slash or backslash"
    elif any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in value):
        problem = "contains a control character"
    elif len(value.encode()) > LONGEST:
        problem = f"is longer than {LONGEST} bytes"
    else:
        return value
    raise E2FashionError(f"{key} is {value!r}, which {problem}: it names a folder; use letters, digits, '_' and '-'.")


def file_name(text: str) -> str:
    """A file name from any text: other characters than letters, digits, ``_``, ``-`` and dots become ``_``."""
    name = re.sub(r"[^\w.-]+", "_", text).lstrip(".").encode()[:LONGEST].decode(errors="ignore")
    return name or "_"


def real_path(path: str | Path) -> Path:
    """The absolute path without links; unlike ``Path.resolve`` also where a link leads to itself."""
    return Path(os.path.realpath(path))


class DamagedError(E2FashionError):
    """A file or folder that is truncated, changed or partly missing."""


def check_regular(file: Path, remedy: str) -> None:
    """Refuse a pipe, a device or a folder in place of a file: to open a pipe waits without end.

    Raises:
        DamagedError: it is one; ``remedy`` ends the message. A missing file passes.
    """
    if not file.is_file() and os.path.lexists(file):  # in this order: another process may remove the file meanwhile
        raise DamagedError(f"{file} cannot be read (it is not a regular file). {remedy}")


def what_lacks(folder: Path, name: str) -> str:
    """Why ``folder`` does not hold the file ``name``, as a predicate for error messages."""
    if folder.is_dir():
        return f"has no {name}"
    return "is a file, not a folder" if folder.exists() else "does not exist"


REMEDIES = {
    errno.ENOSPC: "the disk is full: free space, or choose an output on another disk",
    errno.EDQUOT: "your quota on this disk is used up: free space, or choose an output on another disk",
    errno.EROFS: "the disk is read-only: choose another output",
    errno.EACCES: "permission denied: choose an output that you may write",
    errno.EPERM: "permission denied: choose an output that you may write",
    errno.ENOENT: "a folder of this path does not exist, or has been removed",
    errno.EEXIST: "a part of this path is a file, not a folder: choose another output",
    errno.ENOTDIR: "a part of this path is a file, not a folder: choose another output",
    errno.EISDIR: "it is a folder, not a file: choose another output",
    errno.ENAMETOOLONG: "a name in this path is too long: choose a shorter one",
    errno.EIO: "the disk reports an error: check it, and write elsewhere",
    errno.EFBIG: "the file would be larger than this disk or your limits allow",
}
"""The meaning of an error number for an output, and the remedy."""

OF_OUTPUTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
"""Error numbers of writing only; the others may come from an input that is read in the block."""


def disk_trouble(error: BaseException) -> str | None:
    """The disk's failure in words; None for other errors.

    Writers in Rust and C++ (safetensors, Arrow, PyTorch) mention the system's error number in their text.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (match := re.search(r"\(os error (\d+)\)|errno:? (\d+)", str(error))):
        number = int(match[1] or match[2])
    if number is None and "No space left on device" in str(error):
        number = errno.ENOSPC
    return REMEDIES.get(number) if number is not None else None


def reason_of(error: BaseException) -> str:
    """Type and first line of a library's error, for our message."""
    line = " ".join(str(error).split("\n", 1)[0].split())[:200]
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


@contextmanager
def reading(what: str | Path, remedy: str) -> Iterator[None]:
    """Turn any error that libraries raise while reading ``what`` into a :class:`DamagedError` that names it.

    Wrap as little of our code as possible: its bugs would be reported as damage. The original error is the cause.

    Raises:
        DamagedError: the block raised anything but an ``E2FashionError``, which passes.
    """
    try:
        yield
    except E2FashionError:
        raise
    except Exception as error:
        raise DamagedError(f"{what} cannot be read ({reason_of(error)}). {remedy}") from error


@contextmanager
def naming(target: Path) -> Iterator[None]:
    """Turn failures of the disk while ``target`` is written into an error that names it; errors of inputs pass.

    Raises:
        E2FashionError: no space, no permission, a removed folder, ...
    """
    try:
        yield
    except E2FashionError:
        raise
    except Exception as error:
        reason = disk_trouble(error)
        if reason is None or not _is_of_output(error, target):
            raise
        raise E2FashionError(f"'{target}' cannot be written: {reason}.") from error


def _is_of_output(error: Exception, target: Path) -> bool:
    """Whether an error comes from writing ``target``: by its number, or by the path that it names."""
    if not isinstance(error, OSError) or error.errno in OF_OUTPUTS:
        return True
    if error.filename is None:
        return False
    real, named = real_path(target), real_path(os.fsdecode(error.filename))
    if error.errno == errno.EEXIST:
        return real != named and real.is_relative_to(named)
    siblings = str(real.with_name(f".{real.name}."))
    return named.is_relative_to(real) or str(named).startswith(siblings) or real.is_relative_to(named)
