"""What a catalogue says about itself: ``manifest.json``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from e2fashion.types import E2FashionError

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
SKIPPED_FILE = "skipped.csv"


@dataclass(frozen=True)
class Manifest:
    """The facts of one catalogue.

    ``source`` holds the source's name and options, ``settings`` those of the preparation, ``request`` a hash of
    both and of the source's tables: the same request is not prepared twice. ``splits`` counts images and products
    per split, ``skipped`` the rows left out by reason. ``fingerprint`` is a SHA-256 over the content alone (order,
    ids, bytes, texts, tags, splits): equal on every machine, whatever the paths.
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

    def save(self, folder: Path) -> None:
        """Write the manifest into ``folder``."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        (folder / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read the manifest of ``folder``.

        Raises:
            E2FashionError: if there is none, it cannot be read, or a newer version wrote it.
        """
        file = folder / MANIFEST_FILE
        if not file.is_file():
            state = "has no manifest.json" if folder.is_dir() else "does not exist"
            raise E2FashionError(
                f"{folder} is not a catalogue: it {state}. Make one with 'e2fashion data prepare <source> ...'."
            )
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            version = values["format_version"]
        except (ValueError, KeyError, TypeError) as error:
            raise E2FashionError(f"{file} is damaged ({error!r}). Prepare the catalogue again.") from error
        if version > FORMAT_VERSION:
            raise E2FashionError(
                f"{folder} has catalogue format {version}; this e2fashion reads up to {FORMAT_VERSION}. "
                f"Update e2fashion, or prepare the catalogue again."
            )
        names = {item.name for item in fields(cls)}
        try:
            return cls(**{name: value for name, value in values.items() if name in names})
        except TypeError as error:
            raise E2FashionError(f"{file} is damaged ({error}). Prepare the catalogue again.") from error
