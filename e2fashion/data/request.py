"""What was asked of a preparation, so that the same request is answered by what is already there."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from e2fashion.data.catalogue import FORMAT_VERSION, MANIFEST_FILE, REMEDY, Catalogue, Manifest
from e2fashion.data.sources.base import Source, requested_options
from e2fashion.disk import DamagedError, check_replaceable, real_path
from e2fashion.types import E2FashionError

_TABLE_SUFFIXES = {".csv", ".tsv", ".txt", ".parquet", ".json", ".jsonl", ".ndjson", ".h5", ".hdf5"}
_HASHED_BYTES = 64 << 20
#: Files of a catalogue, with those that Hugging Face's `datasets` writes next to a split's when it maps its rows.
_OUR_FILES = re.compile(
    r"manifest\.json|skipped\.csv|(train|val|test)/(state\.json|dataset_info\.json|(data-[\d-]+of-\d+|cache-\w+)\.arrow)"
)

logger = logging.getLogger(__name__)


def source_options(source: Source) -> dict[str, Any]:
    """The fields of a source as plain values."""
    return asdict(source) if is_dataclass(source) and not isinstance(source, type) else {}


def request_hash(source: Source, settings: Mapping[str, Any]) -> str:
    """SHA-256 over the source's name, options and tables, and the settings of the preparation.

    Tables up to 64 MB count by content, larger ones by size and time of change, images not at all. What a source's
    ``content_stamp`` says, if it has one, counts too.
    """
    options = requested_options(source)
    files: list[Path] = []
    if options.get("path") and Path(options["path"]).exists():  # or else a hub name
        path = real_path(options["path"])
        options["path"] = str(path)
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        files = [file for file in inside if file.is_file() and file.suffix.lower() in _TABLE_SUFFIXES]
    request = {
        "format": FORMAT_VERSION,
        "source": source.name,
        "options": options,
        "settings": dict(settings),
        "tables": [(file.name, _stamp(file)) for file in files],
    }
    if stamp := getattr(source, "content_stamp", None):
        request["content"] = stamp
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def answers_request(target: Path, request: str, overwrite: bool) -> bool:
    """Whether ``target`` already holds the catalogue of ``request``, undamaged; False when it may be written.

    Raises:
        E2FashionError: if ``target`` holds another catalogue and ``overwrite`` is off, or anything else at all:
            what is no catalogue, and what we did not write, is never replaced.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    check_is_catalogue(target)
    if overwrite:
        return False
    try:
        existing = Manifest.load(target)
        if existing.request == request:
            Catalogue.load(target)
            return True
    except DamagedError as damage:
        logger.warning("%s It is prepared again.", str(damage).removesuffix(REMEDY))
        return False
    raise E2FashionError(
        f"{target} holds another catalogue (source '{existing.source.get('name')}', "
        f"options {existing.source.get('options')}, settings {existing.settings}), or its tables have changed since. "
        f"Choose another output, or replace it with overwrite=true."
    )


def check_is_catalogue(folder: Path) -> None:
    """Refuse to replace a folder unless it is a catalogue, however damaged, old or new, and holds nothing else.

    Raises:
        E2FashionError: it is no catalogue (other programs also call a file manifest.json), or holds another file.
    """
    names = [file.relative_to(folder).as_posix() for file in folder.rglob("*")] if folder.is_dir() else []
    ours = [name for name in names if _OUR_FILES.fullmatch(name)]
    try:
        values = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        is_ours = isinstance(values, dict) and {"format_version", "fingerprint", "split_rule"} <= values.keys()
    except FileNotFoundError:
        is_ours = False
    except (OSError, ValueError, RecursionError):  # damaged: its other files decide
        is_ours = len(ours) > 1
    if not is_ours:
        raise E2FashionError(f"{folder} exists and is not a catalogue: it is left alone. Choose another output.")
    check_replaceable(folder, ours, "Move it elsewhere, or choose another output.")


def _stamp(file: Path) -> str:
    status = file.stat()
    if status.st_size > _HASHED_BYTES:
        return f"{status.st_size} bytes, {status.st_mtime_ns}"
    return hashlib.sha256(file.read_bytes()).hexdigest()
