"""What an index says about itself: ``index.json``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from e2fashion.data.transforms import Resize
from e2fashion.disk import read_json, stored_as, write_json
from e2fashion.encoder import EncoderIdentity
from e2fashion.hub import StoredPlace
from e2fashion.types import E2FashionError

FORMAT_VERSION = 1
INDEX_FILE = "index.json"
_REMEDY = "Build the index again."


@dataclass(frozen=True)
class IndexedEncoder(EncoderIdentity):
    """The encoder of an index, how it makes a square, and where it lay.

    ``source``, ``relative`` and ``hub`` are those of :class:`e2fashion.hub.StoredPlace`; ``source`` is empty where
    nobody said.
    """

    image_size: int
    resize: Resize
    source: str = ""
    relative: str = ""
    hub: bool = False

    @property
    def place(self) -> StoredPlace:
        """Where it lay, to be found from the index's folder."""
        return StoredPlace(self.source, self.relative, self.hub)


@dataclass(frozen=True)
class Origin:
    """Where products come from: a catalogue or files, the path, the splits of a catalogue, and a fingerprint."""

    kind: str
    path: str
    fingerprint: str
    splits: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Shard:
    """Embeddings ``<name>.safetensors`` and products ``<name>.arrow`` of ``rows`` rows, with the SHA-256 of both.

    ``removed`` are rows that no longer count: removed products, and the former state of updated ones.
    """

    name: str
    rows: int
    embeds_sha256: str
    products_sha256: str
    origin: Origin
    removed: list[int] = field(default_factory=list)

    @property
    def embeds_file(self) -> str:
        """File name of the embeddings."""
        return f"{self.name}.safetensors"

    @property
    def products_file(self) -> str:
        """File name of the products."""
        return f"{self.name}.arrow"


@dataclass(frozen=True)
class Pending:
    """What was being embedded: the verb, what identifies its request, products done, shards and skipped ones so far."""

    verb: str
    request: str
    total: int
    done: int = 0
    shards: list[Shard] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class IndexManifest:
    """The facts of an index.

    ``shards`` are what is searched. ``pending`` are those of a build, an addition or an update that was interrupted;
    they count once it is complete. ``skipped`` says what is wrong with pictures that could not be read; ``built_from``
    identifies what the index was first built from, ``last_change`` the last addition, update or removal, so that its
    command can be repeated.
    """

    encoder: IndexedEncoder
    shards: list[Shard] = field(default_factory=list)
    pending: Pending | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    built_from: str = ""
    last_change: str = ""
    created_by: str = ""
    format_version: int = FORMAT_VERSION

    @property
    def products(self) -> int:
        """Number of products that can be found."""
        return sum(shard.rows - len(shard.removed) for shard in self.shards)

    @property
    def data_fingerprint(self) -> str:
        """SHA-256 over all shards and removed rows: equal for indexes that hold the same in the same order."""
        content = [[shard.embeds_sha256, shard.products_sha256, shard.removed] for shard in self.shards]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def next_name(self) -> str:
        """A name for the next shard."""
        pending = self.pending.shards if self.pending else []
        return f"{max((int(shard.name) for shard in (*self.shards, *pending)), default=-1) + 1:05d}"

    def save(self, folder: Path) -> None:
        """Write into ``folder``; a killed process leaves the former manifest or the new one, whole."""
        write_json(folder / INDEX_FILE, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> IndexManifest:
        """Read what ``folder`` says about itself.

        Raises:
            E2FashionError: there is no index, it cannot be read, or a newer version wrote it.
        """
        file = folder / INDEX_FILE
        if not file.is_file():
            state = f"has no {INDEX_FILE}" if folder.is_dir() else "does not exist"
            raise E2FashionError(
                f"'{folder}' is no index: it {state}. Make one with 'e2fashion index build <catalogue> model=<model> "
                "output=<index>'"
            )
        values = read_json(file, _REMEDY)
        version = values.get("format_version")
        if type(version) is int and version > FORMAT_VERSION:
            raise E2FashionError(
                f"'{folder}' has index format {version}; this e2fashion reads up to {FORMAT_VERSION}. Update "
                "e2fashion, or build the index again"
            )
        manifest = stored_as(cls, values, str(file), _REMEDY)
        for shard in (*manifest.shards, *(manifest.pending.shards if manifest.pending else ())):
            if not shard.name.isdecimal() or not all(0 <= row < shard.rows for row in shard.removed):
                raise E2FashionError(f"{file} is damaged (shard {shard.name!r} of {shard.rows} rows). {_REMEDY}")
        return manifest

    def without_rows(self, removed: Mapping[str, Sequence[int]]) -> IndexManifest:
        """The same index with rows of shards (by name) marked as removed; shards without a row left are let go."""
        shards = [
            replace(shard, removed=sorted({*shard.removed, *removed.get(shard.name, ())})) for shard in self.shards
        ]
        return replace(self, shards=[shard for shard in shards if len(shard.removed) < shard.rows])
