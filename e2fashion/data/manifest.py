"""What a catalogue says about itself: ``manifest.json``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from e2fashion.disk import DamagedError, read_json, seal, stored_as, write_json
from e2fashion.types import E2FashionError

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
        known = {item.name for item in fields(cls)}
        own = {name: value for name, value in values.items() if name in known}
        manifest = stored_as(cls, {"format_version": None} | own, str(file), REMEDY)
        if any(counts.keys() < {"images", "products"} for counts in manifest.splits.values()):
            raise DamagedError(f"{file} is damaged: its splits are {manifest.splits}. {REMEDY}")
        if any(not isinstance(facts.get("bytes"), int) or ".." in name for name, facts in manifest.files.items()):
            raise DamagedError(f"{file} is damaged: its list of files cannot be read. {REMEDY}")
        return manifest
