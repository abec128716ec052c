"""A catalogue on disk: its manifest, and its splits as memory-mapped rows."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from datasets import Dataset, load_from_disk

from e2fashion.data.storage import REGIONS_COLUMN, decode_regions
from e2fashion.disk import (
    DamagedError,
    check_files,
    check_regular,
    check_replaceable,
    read_json,
    recover,
    seal,
    stored_as,
    what_lacks,
    write_json,
)
from e2fashion.terminal import counted
from e2fashion.types import SPLITS, E2FashionError, Sample, Split

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
SKIPPED_FILE = "skipped.csv"
REMEDY = "Prepare the catalogue again."
#: Files of a catalogue, with those that Hugging Face's `datasets` writes next to a split's when it maps its rows.
_OUR_FILES = re.compile(
    r"manifest\.json|skipped\.csv|(train|val|test)/(state\.json|dataset_info\.json|(data-[\d-]+of-\d+|cache-\w+)\.arrow)"
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Manifest:
    """The facts of one catalogue.

    ``source`` holds the source's name and options, ``settings`` those of the preparation, ``request`` a hash of
    both and of the source's tables: the same request is not prepared twice. ``splits`` counts images and products
    per split, ``shards`` the products in each of its files (none in a catalogue that an earlier version wrote),
    ``skipped`` the rows left out by reason. ``fingerprint`` is a SHA-256 over the content alone (order,
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
    number_columns: list[str] = field(default_factory=list)
    shards: dict[str, list[int]] = field(default_factory=dict)

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
            raise E2FashionError(
                f"{folder} is not a catalogue: it {what_lacks(folder, MANIFEST_FILE)}. Make one with "
                "'e2fashion data prepare <source> ...'."
            )
        values = read_json(file, REMEDY)
        version = values.get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise E2FashionError(
                f"{folder} has catalogue format {version}; this e2fashion reads up to {FORMAT_VERSION}. "
                f"Update e2fashion, or prepare the catalogue again."
            )
        known = {item.name for item in fields(cls)}
        of_manifest = {name: value for name, value in values.items() if name in known}
        manifest = stored_as(cls, {"format_version": None} | of_manifest, str(file), REMEDY)
        if any(counts.keys() < {"images", "products"} for counts in manifest.splits.values()):
            raise DamagedError(f"{file} is damaged: its splits are {manifest.splits}. {REMEDY}")
        if any(not isinstance(facts.get("bytes"), int) or ".." in name for name, facts in manifest.files.items()):
            raise DamagedError(f"{file} is damaged: its list of files cannot be read. {REMEDY}")
        return manifest


@dataclass(frozen=True)
class Catalogue:
    """A prepared catalogue. Rows of one product are adjacent, its views in ascending order.

    Columns of a split: ``product_id``, ``view`` (int32), ``image`` (encoded bytes, an ordinary JPEG or PNG),
    ``description``, ``group``, one nullable string per tag, one nullable float64 per column of numbers, and ``regions``
    (JSON) where the source has boxes.
    """

    path: Path
    manifest: Manifest
    _opened: dict[str, Dataset] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(cls, path: str | Path, again: bool = False) -> Catalogue:
        """Open the catalogue in the folder ``path``, compared with what its manifest says of it.

        Number of rows, columns, sizes and checksums of all files; no image is decoded. A file that has not changed
        since it was last compared is not read, unless ``again``.

        Raises:
            DamagedError: a file or the manifest is not what was written.
            E2FashionError: if the folder is not a catalogue, is empty, or was written by a newer version.
        """
        folder = Path(path)
        recover(folder)
        manifest = Manifest.load(folder)
        if not any(counts["images"] for counts in manifest.splits.values()):
            raise E2FashionError(f"The catalogue {folder} is empty. Prepare it again from a source with products.")
        check_files(folder, manifest.files, REMEDY, again=again)
        catalogue = cls(folder, manifest)
        for split in catalogue.split_names:
            catalogue.split(split)
        return catalogue

    @property
    def tag_columns(self) -> tuple[str, ...]:
        """Names of the tag columns."""
        return tuple(self.manifest.tag_columns)

    @property
    def number_columns(self) -> tuple[str, ...]:
        """Names of the columns of numbers, which are not tags: no template, entity or text reads them."""
        return tuple(self.manifest.number_columns)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the content: the same on every machine."""
        return self.manifest.fingerprint

    @property
    def split_names(self) -> tuple[Split, ...]:
        """The splits that hold products, in the order train, val, test."""
        return tuple(split for split in SPLITS if split in self.manifest.splits)

    def summary(self) -> str:
        """Images and products per split, and what was left out, in one line."""
        parts = [
            f"{split} {self.manifest.splits[split]['images']:,} images of "
            f"{self.manifest.splits[split]['products']:,} products"
            for split in self.split_names
        ]
        skipped = sum(self.manifest.skipped.values())
        return "; ".join(parts) + (f"; {counted(skipped, 'rows')} skipped, listed in {SKIPPED_FILE}" if skipped else "")

    def split(self, name: str) -> Dataset:
        """The rows of one split, mapped into memory.

        Raises:
            E2FashionError: if the catalogue has no such split, or its files are gone.
        """
        if name not in self.split_names:
            existing = ", ".join(self.split_names)
            raise E2FashionError(f"The catalogue {self.path} has no split '{name}'; it has: {existing}.")
        if name not in self._opened:
            self._opened[name] = _open_split(self.path, name, self.manifest)
        return self._opened[name]

    def first_rows(self, name: str) -> dict[str, int]:
        """The row of every product's first view in a split, in their order."""
        rows: dict[str, int] = {}
        for row, product in enumerate(self.split(name)["product_id"]):
            rows.setdefault(product, row)
        return rows

    def first_tags(self, name: str, column: str) -> dict[str, str | None]:
        """The tag of every product's first view in a split, in their order; None where it is missing or blank."""
        tags, first = self.split(name)[column][:], self.first_rows(name).items()
        return {product: tags[row] if (tags[row] or "").strip() else None for product, row in first}

    def check_tag(self, column: str) -> None:
        """Raise an E2FashionError for a column that holds no tags."""
        if column not in self.tag_columns:
            known = ", ".join(self.tag_columns) or "none"
            raise E2FashionError(
                f"The catalogue {self.path} has no tag column '{column}'; it has: {known}. "
                "Name one of them, or prepare the catalogue again with the tag (of a table: tags.<name>=<column>)."
            )

    def samples(self, name: str) -> Iterator[Sample]:
        """The rows of one split as :class:`~e2fashion.types.Sample`, in order."""
        rows = self.split(name)
        for number, row in enumerate(rows):
            regions = row.get(REGIONS_COLUMN)
            yield Sample(
                product_id=row["product_id"],
                image=row["image"],
                description=row["description"],
                tags={column: row[column] for column in self.tag_columns},
                view=row["view"],
                split=name,  # type: ignore[arg-type]  # split() has checked it
                group=row["group"],
                regions=None if regions is None else decode_regions(regions),
                row=f"{self.path.name}/{name} row {number}",
                numbers={column: row[column] for column in self.number_columns},
            )


def _open_split(folder: Path, split: str, manifest: Manifest) -> Dataset:
    """The rows of one split, if they are as many, of the columns and in the files that the folder says."""
    path = folder / split
    try:
        named = [file["filename"] for file in read_json(path / "state.json", REMEDY)["_data_files"]]
        for file in path.iterdir():
            check_regular(file, "")
        there = sorted(file.name for file in path.glob("data-*.arrow"))
        if sorted(named) != there:
            raise ValueError(f"its state.json names {named}, and its files are {there}")
        rows = load_from_disk(str(path), keep_in_memory=False)
        if len(rows) != (expected := manifest.splits[split]["images"]):
            raise ValueError(f"it has {len(rows):,} rows where {expected:,} were written")
        if missing := set(manifest.columns) - set(rows.column_names):
            raise ValueError(f"it lacks the column '{min(missing)}'")
    except Exception as error:  # whatever the libraries say of a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DamagedError(f"The split '{split}' of {folder} cannot be read ({reason}). {REMEDY}") from error
    return rows


def answers_request(target: Path, request: str, asked: Mapping[str, Any], overwrite: bool) -> bool:
    """Whether ``target`` already holds the catalogue of ``request``, undamaged; False when it may be written.

    ``asked`` has the source, its options and the settings behind ``request``, for the message of the error.

    Raises:
        E2FashionError: if ``target`` holds another catalogue and ``overwrite`` is off, or anything else at all:
            what is not a catalogue, and what we did not write, is never replaced.
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
        f"{target} holds another catalogue ({_difference(existing, asked)}). Choose another output, or replace it "
        "with overwrite=true."
    )


def _difference(existing: Manifest, asked: Mapping[str, Any]) -> str:
    held = {"source": existing.source.get("name"), **existing.source.get("options", {}), **existing.settings}
    asked = json.loads(json.dumps(asked))  # tuples are lists, as in the manifest
    keys = [key for key in {**held, **asked} if (held.get(key) or None) != (asked.get(key) or None)]
    found = "; ".join(f"{key} was {held.get(key, 'not set')} and is {asked.get(key, 'not set')}" for key in keys)
    return found or "its tables have changed since"


def check_is_catalogue(folder: Path) -> None:
    """Refuse to replace a folder unless it is a catalogue, however damaged, old or new, and holds nothing else.

    Raises:
        E2FashionError: it is not a catalogue (other programs also call a file manifest.json), or holds another file.
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
