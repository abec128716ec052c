"""Lists of a folder's files with size and checksum, to detect missing, damaged and foreign files.

Sizes are compared whenever a folder is opened. Checksums (XXH3, about as fast as memory is read) are computed once per
state of a file: results are cached in the user's cache folder by size, modification time and inode.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import xxhash

from e2fashion.disk.atomic import write_json
from e2fashion.disk.json_files import read_json, seal
from e2fashion.disk.trouble import DamagedError, check_regular
from e2fashion.types import E2FashionError

Listing = Mapping[str, Mapping[str, Any]]
"""Relative path to ``{"bytes": size, "xxh3": checksum}``."""

#: The list of files in a model folder.
CHECKSUMS_FILE = "checksums.json"

_SETTLED = 2.0
"""Seconds after a change from which the modification time reveals any further change."""
_BLOCK = 4 << 20


def file_names(folder: Path, counts: Callable[[str], bool] = lambda name: True) -> list[str]:
    """Relative paths of the files and links below a folder that ``counts`` accepts."""
    return [name for name, _ in _entries(folder) if counts(name)]


def check_tree(folder: Path, remedy: str) -> None:
    """Refuse pipes, devices and broken links among the files below a folder, which a library opens by itself.

    Raises:
        DamagedError: there is one; ``remedy`` ends the message.
    """
    for _, entry in _entries(folder):
        if not entry.is_file(follow_symlinks=False) and not (file := Path(entry.path)).is_dir():
            check_regular(file, remedy)


def _entries(folder: str | Path, inside: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Files and links below a folder, with their relative paths: by name, those of a folder before its subfolders.

    With entries instead of paths, which cost several times as much: an index has thousands of files.
    """
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:  # another process removed it
        return
    folders = []
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            folders.append(entry)
        else:
            yield inside + entry.name, entry
    for entry in folders:
        yield from _entries(entry.path, f"{inside}{entry.name}/")


def list_files(folder: Path, counts: Callable[[str], bool] = lambda name: True) -> dict[str, dict[str, Any]]:
    """Size and checksum of the files of a folder that ``counts`` accepts (by relative path)."""
    return {name: _facts(folder / name) for name in file_names(folder, counts)}


def check_files(folder: Path, files: Listing, remedy: str, *, again: bool = False, removable: bool = False) -> None:
    """Compare the files of a folder with their list; files that are not listed are ignored.

    ``again`` also computes the checksums of files that have not changed since the last comparison. With ``removable``
    ``files`` are all that count, and one that another process removed meanwhile passes.

    Raises:
        DamagedError: a file is missing or has another size or content; ``remedy`` ends the message.
    """
    known = {} if again else _known(folder)
    compared: dict[str, list[Any]] = {}
    for name, facts in files.items():
        file = folder / name
        try:
            status = file.stat()
            if not stat.S_ISREG(status.st_mode):
                check_regular(file, remedy)
            if status.st_size != facts["bytes"]:
                raise DamagedError(
                    f"{file} is damaged: it has {status.st_size:,} bytes, {facts['bytes']:,} were written. {remedy}"
                )
            stamp = [status.st_size, status.st_mtime_ns, status.st_ino, facts["xxh3"]]
            if known.get(name) != stamp and file_checksum(file) != facts["xxh3"]:
                raise DamagedError(f"{file} is damaged: its content is not what was written. {remedy}")
        except OSError as error:
            check_regular(file, remedy)  # a link to nothing
            if removable and isinstance(error, FileNotFoundError):
                continue
            raise DamagedError(f"{file} is missing or cannot be read ({error.strerror}). {remedy}") from error
        if time.time() - status.st_mtime > _SETTLED:
            compared[name] = stamp
    now_known = compared if removable else known | compared
    if not again and now_known != known:
        with suppress(OSError, E2FashionError):  # without the cache it only takes longer
            write_json(_cache_file(folder), now_known, indent=None)


def write_checksums(folder: Path) -> None:
    """Write the list of a finished folder's files with their checksums, for :func:`check_checksums`."""
    write_json(folder / CHECKSUMS_FILE, seal({"files": list_files(folder, lambda name: name != CHECKSUMS_FILE)}))


def update_checksums(folder: Path, listed: Listing, counts: Callable[[str], bool]) -> None:
    """Bring the list in a folder up to date whose files, those that ``counts`` accepts, are never changed.

    Files that are ``listed`` in it are not read again; those that are gone are left out.
    """
    there = file_names(folder, counts)
    if set(there) != listed.keys():
        files = {name: listed.get(name) or _facts(folder / name) for name in there}
        write_json(folder / CHECKSUMS_FILE, seal({"files": files}))


def check_checksums(
    folder: Path, remedy: str, counts: Callable[[str], bool] = lambda name: True, *, again: bool = False
) -> None:
    """Compare the files of a folder that ``counts`` accepts (by relative path) with the list in the folder.

    A folder without a list, from earlier versions or other programs, passes.

    Raises:
        DamagedError: the list is damaged, or a listed file is missing or damaged; ``remedy`` ends the message.
    """
    listed = read_checksums(folder, remedy)
    check_files(folder, {name: facts for name, facts in listed.items() if counts(name)}, remedy, again=again)


def read_checksums(folder: Path, remedy: str) -> dict[str, dict[str, Any]]:
    """The list in a folder; empty where there is none, or another program's.

    Raises:
        DamagedError: it is damaged.
    """
    if not os.path.lexists(folder / CHECKSUMS_FILE):
        return {}
    listed = read_json(folder / CHECKSUMS_FILE, remedy).get("files")
    if not isinstance(listed, dict) or not all(
        isinstance(facts, dict) and facts.keys() >= {"bytes", "xxh3"} for facts in listed.values()
    ):
        return {}
    return listed


def check_replaceable(folder: Path, files: Iterable[str], remedy: str) -> None:
    """Raise an E2FashionError for a folder with other files than ``files`` (relative paths), which we wrote."""
    written = set(files)
    foreign = [name for name in file_names(folder) if name not in written]
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise E2FashionError(f"'{folder}' also holds '{foreign[0]}'{more}, which e2fashion did not write. {remedy}")


def file_checksum(file: Path) -> str:
    """XXH3 (128 bits) of a file's content, in hexadecimal digits."""
    digest = xxhash.xxh3_128()
    with file.open("rb", buffering=0) as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _facts(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "xxh3": file_checksum(file)}


def _cache_file(folder: Path) -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "e2fashion" / "verified" / f"{xxhash.xxh3_64_hexdigest(os.path.realpath(folder).encode())}.json"


def _known(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads(_cache_file(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
