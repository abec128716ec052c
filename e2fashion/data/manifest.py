"""What a catalogue says about itself: ``manifest.json``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from e2fashion.disk import DamagedError, read_json, seal, write_json
from e2fashion.types import SPLITS, E2FashionError

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
SKIPPED_FILE = "skipped.csv"
REMEDY = "Prepare the catalogue again."


@dataclass(frozen=True)
class Manifest:
    """The facts of one catalogue.

    ``source`` holds the source's name and options, ``settings`` those of the preparation, ``request`` a hash of
    both and of the source's tables: the same request is not prepared twice. ``splits`` counts images and products
    per split, ``skipped`` the rows left out by reason. ``fingerprint`` is a SHA-256 over the content alone (order,
    ids, bytes, texts, tags, splits): equal on every machine, whatever the paths. ``files`` lists the other files of
    the folder with size and checksum; empty in a catalogue that an earlier version wrote.
    """

    name: str
    source: dict[str, Any]
    settings: dict[str, Any]
    request: str
    splits: dict[str, dict[str, int]]
    tag_columns: list[str]
    columns: list[str]
    fingerprint: str
    split_rule: str
    skipped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    created_by: str = ""
    format_version: int = FORMAT_VERSION
    files: dict[str, dict[str, Any]] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write the manifest into ``folder``, sealed against changes."""
        write_json(folder / MANIFEST_FILE, seal(asdict(self)), indent=2)

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read the manifest of ``folder``.

        Raises:
            DamagedError: it cannot be read, or is not what was written.
            E2FashionError: there is none, or a newer version wrote it.
        """
        file = folder / MANIFEST_FILE
        if not file.is_file():
            state = "has no manifest.json" if folder.is_dir() else "does not exist"
            raise E2FashionError(
                f"{folder} is not a catalogue: it {state}. Make one with 'e2fashion data prepare <source> ...'."
            )
        values = read_json(file, REMEDY)
        version = values.get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise E2FashionError(
                f"{folder} has catalogue format {version}; this e2fashion reads up to {FORMAT_VERSION}. "
                f"Update e2fashion, or prepare the catalogue again."
            )
        for key, is_right in _CONTENT.items():
            if key not in values and key in _REQUIRED:
                raise DamagedError(f"{file} is damaged: it lacks '{key}'. {REMEDY}")
            if key in values and not is_right(values[key]):
                raise DamagedError(f"{file} is damaged: its '{key}' is {str(values[key])[:80]}. {REMEDY}")
        return cls(**{name: value for name, value in values.items() if name in _CONTENT})


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _is_splits(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() <= set(SPLITS)
        and all(
            isinstance(n, dict) and all(_is_number(n.get(key)) for key in ("images", "products"))
            for n in value.values()
        )
    )


def _is_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


def _is_files(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(facts, dict) and _is_number(facts.get("bytes")) and _is_text(facts.get("xxh3")) and ".." not in name
        for name, facts in value.items()
    )


#: What each field of a manifest must hold.
_CONTENT: dict[str, Callable[[Any], bool]] = {
    "name": _is_text,
    "source": _is_mapping,
    "settings": _is_mapping,
    "request": _is_text,
    "splits": _is_splits,
    "tag_columns": _is_texts,
    "columns": _is_texts,
    "fingerprint": _is_text,
    "split_rule": _is_text,
    "skipped": _is_counts,
    "notes": _is_texts,
    "created_by": _is_text,
    "format_version": _is_number,
    "files": _is_files,
}
_REQUIRED = {item.name for item in fields(Manifest) if item.default is MISSING and item.default_factory is MISSING}
_REQUIRED |= {"format_version"}
