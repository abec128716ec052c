"""Lists of a folder's files with size and checksum: what is missing, damaged, and what is not ours.

Sizes are compared whenever a folder is opened. Checksums (XXH3, about as fast as memory is read) are computed once
per state of a file: what was compared is kept in the user's cache folder, by size, time of change and inode.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import xxhash

from e2fashion.disk.atomic import write_json
from e2fashion.disk.json_files import read_json, seal
from e2fashion.disk.trouble import DamagedError
from e2fashion.types import E2FashionError

Listing = Mapping[str, Mapping[str, Any]]
"""Relative path to ``{"bytes": size, "xxh3": checksum}``."""

#: Lists the files of a model folder, in it.
CHECKSUMS_FILE = "checksums.json"

_SETTLED = 2.0
"""Seconds after its last change from which a file's time of change tells a further change."""
_BLOCK = 4 << 20


def list_files(folder: Path, leave_out: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
    """Every file of a folder but those of ``leave_out`` (relative paths), with size and checksum."""
    omitted = set(leave_out)
    return {
        name: {"bytes": (folder / name).stat().st_size, "xxh3": file_checksum(folder / name)}
        for name in _names(folder)
        if name not in omitted
    }


def check_files(folder: Path, files: Listing, remedy: str, *, again: bool = False) -> None:
    """Compare the files of a folder with their list; files that are not listed do not matter.

    ``again`` computes checksums also of files that have not changed since they were last compared.

    Raises:
        DamagedError: a file is missing, or its size or content is not the listed one; ``remedy`` ends the message.
    """
    known = {} if again else _known(folder)
    compared: dict[str, list[Any]] = {}
    for name, facts in files.items():
        file = folder / name
        try:
            status = file.stat()
            if status.st_size != facts["bytes"]:
                raise DamagedError(
                    f"{file} is damaged: it has {status.st_size:,} bytes, {facts['bytes']:,} were written. {remedy}"
                )
            stamp = [status.st_size, status.st_mtime_ns, status.st_ino, facts["xxh3"]]
            if known.get(name) != stamp and file_checksum(file) != facts["xxh3"]:
                raise DamagedError(f"{file} is damaged: its content is not what was written. {remedy}")
        except OSError as error:
            raise DamagedError(f"{file} is missing or cannot be read ({error.strerror}). {remedy}") from error
        if time.time() - status.st_mtime > _SETTLED:
            compared[name] = stamp
    if not again and known | compared != known:
        with suppress(OSError, E2FashionError):  # a cache that cannot be written costs time alone
            write_json(_cache_file(folder), known | compared, indent=None)


def write_checksums(folder: Path) -> None:
    """List the files of a finished folder in it, with their checksums, for :func:`check_checksums`."""
    write_json(folder / CHECKSUMS_FILE, seal({"files": list_files(folder, [CHECKSUMS_FILE])}))


def check_checksums(
    folder: Path, remedy: str, counts: Callable[[str], bool] = lambda name: True, *, again: bool = False
) -> None:
    """Compare the files of a folder that ``counts`` accepts (by relative path) with the list that lies in it.

    A folder without a list, as earlier versions and other programs write it, passes.

    Raises:
        DamagedError: a listed file, or the list, is missing or is not what was written; ``remedy`` ends the message.
    """
    if not os.path.lexists(folder / CHECKSUMS_FILE):
        return
    listed = read_json(folder / CHECKSUMS_FILE, remedy).get("files")
    if not isinstance(listed, dict) or not all(
        isinstance(facts, dict) and facts.keys() >= {"bytes", "xxh3"} for facts in listed.values()
    ):
        return  # another program's
    check_files(folder, {name: facts for name, facts in listed.items() if counts(name)}, remedy, again=again)


def check_replaceable(folder: Path, files: Iterable[str], remedy: str) -> None:
    """Refuse to replace a folder that holds anything but the files that we wrote there (relative paths).

    Raises:
        E2FashionError: the folder holds another file; the message names it.
    """
    ours = set(files)
    foreign = [name for name in _names(folder) if name not in ours]
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


def _names(folder: Path) -> Iterator[str]:
    """Relative paths of all files and links below a folder."""
    for place, folders, files in os.walk(folder):
        folders.sort()
        links = [name for name in folders if Path(place, name).is_symlink()]
        for name in sorted([*files, *links]):
            yield Path(place, name).relative_to(folder).as_posix()


def _cache_file(folder: Path) -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "e2fashion" / "verified" / f"{xxhash.xxh3_64_hexdigest(os.path.realpath(folder).encode())}.json"


def _known(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads(_cache_file(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
