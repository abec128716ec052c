"""An index on disk: ``index.json``, and shards of fp16 embeddings (safetensors) and products (Arrow)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from e2fashion.data.transforms import Resize
from e2fashion.disk import atomic_file, read_json, stored_as, write_json
from e2fashion.encoder import EncoderIdentity
from e2fashion.hub import StoredSource
from e2fashion.types import E2FashionError

FORMAT_VERSION = 1
INDEX_FILE = "index.json"
EMBEDS = "embeds"
PRODUCT_ID, DESCRIPTION, LOCATION = "product_id", "description", "place"
"""Columns that every shard has; ``place`` says where the image is stored. All others are tags."""
_REMEDY = "Build the index again."
_SHARD_REMEDY = "build the index again, or restore the file"


@dataclass(frozen=True)
class IndexedEncoder(EncoderIdentity):
    """The encoder of an index, how it makes an image square, and where it was.

    ``source``, ``relative`` and ``hub`` are those of :class:`e2fashion.hub.StoredSource`; ``source`` is empty where it
    was not given.
    """

    image_size: int
    resize: Resize
    source: str = ""
    relative: str = ""
    hub: bool = False

    @property
    def location(self) -> StoredSource:
        """Where it was, relative to the folder of the index too."""
        return StoredSource(self.source, self.relative, self.hub)


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
    """What was being embedded: the verb, the identity of its request, products done, shards and skipped ones so far."""

    verb: str
    request: str
    total: int
    done: int = 0
    shards: list[Shard] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class IndexManifest:
    """The facts of an index.

    ``shards`` are searched. Those of ``pending``, a build, an addition or an update that was interrupted, count once it
    is complete. ``skipped`` says what is wrong with images that could not be read; ``built_from`` identifies what the
    index was first built from, ``last_change`` the last addition, update or removal, so that its command can be
    repeated.
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
        """How many products are searched."""
        return sum(shard.rows - len(shard.removed) for shard in self.shards)

    @property
    def all_shards(self) -> list[Shard]:
        """The shards that are searched, and those that are pending."""
        return [*self.shards, *(self.pending.shards if self.pending else [])]

    @property
    def data_fingerprint(self) -> str:
        """SHA-256 over all shards and removed rows: equal for indexes that hold the same in the same order."""
        content = [[shard.embeds_sha256, shard.products_sha256, shard.removed] for shard in self.shards]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def next_name(self) -> str:
        """A name for the next shard."""
        return f"{max((int(shard.name) for shard in self.all_shards), default=-1) + 1:05d}"

    def save(self, folder: Path) -> None:
        """Write into ``folder``; a killed process leaves the former manifest or the new one, whole."""
        write_json(folder / INDEX_FILE, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> IndexManifest:
        """Read the manifest in ``folder``.

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
        for shard in manifest.all_shards:
            if not shard.name.isdecimal() or not all(0 <= row < shard.rows for row in shard.removed):
                raise E2FashionError(f"{file} is damaged (shard {shard.name!r} of {shard.rows} rows). {_REMEDY}")
        return manifest

    def without_rows(self, removed: Mapping[str, Sequence[int]]) -> IndexManifest:
        """The same index with rows of shards (by name) marked as removed; shards without a row left are dropped."""
        shards = [
            replace(shard, removed=sorted({*shard.removed, *removed.get(shard.name, ())})) for shard in self.shards
        ]
        return replace(self, shards=[shard for shard in shards if len(shard.removed) < shard.rows])


def tag_columns(products: pa.Table) -> list[str]:
    """The columns of a table of products that are tags."""
    return [name for name in products.column_names if name not in (PRODUCT_ID, DESCRIPTION, LOCATION)]


def write_shard(folder: Path, name: str, embeds: Tensor, products: pa.Table, origin: Origin) -> Shard:
    """Write embeddings (n, C), rounded to fp16, and their n products; each file appears whole.

    Raises:
        E2FashionError: an embedding is not finite, or the numbers of rows differ.
    """
    if len(embeds) != len(products):
        raise E2FashionError(f"shard {name}: {len(embeds)} embeddings for {len(products)} products")
    bad = (~embeds.isfinite().all(dim=-1)).nonzero().flatten()
    if len(bad):
        product = products[PRODUCT_ID][int(bad[0])].as_py()
        raise E2FashionError(
            f"{len(bad)} embeddings are not finite, the first is that of product '{product}': the model has diverged"
        )
    files = [folder / f"{name}.safetensors", folder / f"{name}.arrow"]
    with atomic_file(files[0]) as partial:
        save_file({EMBEDS: embeds.half().contiguous()}, partial)
    with (
        atomic_file(files[1]) as partial,
        pa.OSFile(str(partial), "wb") as sink,
        pa.ipc.new_file(sink, products.schema) as writer,
    ):
        writer.write_table(products)
    embeds_sha256, products_sha256 = map(file_sha256, files)
    return Shard(name, len(products), embeds_sha256, products_sha256, origin)


def read_shard(folder: Path, shard: Shard, dimension: int, verify: bool = True) -> tuple[Tensor, pa.Table]:
    """Embeddings (n, C) fp16 and the table of products, memory-mapped; ``verify`` compares checksums first.

    Raises:
        E2FashionError: a file is missing, truncated or changed; the message names it.
    """
    embeds_file, products_file = folder / shard.embeds_file, folder / shard.products_file
    for file, expected in ((embeds_file, shard.embeds_sha256), (products_file, shard.products_sha256)):
        if not file.is_file():
            raise E2FashionError(f"the index {folder} lacks its shard {file.name}: {_SHARD_REMEDY}")
        if verify and file_sha256(file) != expected:
            raise E2FashionError(
                f"shard {file} is damaged: its SHA-256 is not the one that {folder.name} was built with; "
                f"{_SHARD_REMEDY}"
            )
    try:
        with safe_open(embeds_file, framework="pt") as content:
            embeds = content.get_tensor(EMBEDS)
        products = pa.ipc.open_file(pa.memory_map(str(products_file))).read_all()
    except (SafetensorError, OSError, pa.ArrowInvalid) as error:
        raise E2FashionError(f"shard {shard.name} of {folder} cannot be read ({error}); {_SHARD_REMEDY}") from error
    if embeds.shape != (shard.rows, dimension) or embeds.dtype != torch.float16 or len(products) != shard.rows:
        raise E2FashionError(
            f"shard {shard.name} of {folder} holds {len(products)} products and embeddings of shape "
            f"{tuple(embeds.shape)} where {(shard.rows, dimension)} belongs; {_SHARD_REMEDY}"
        )
    return embeds, products


def discard_others(folder: Path, shards: Sequence[Shard]) -> None:
    """Delete the files of shards that are none of ``shards``: those dropped, and what an interrupt left behind.

    The approximate index goes too: it is of the former products.
    """
    kept = {name for shard in shards for name in (shard.embeds_file, shard.products_file)}
    for file in folder.iterdir():
        of_shard = file.suffix in (".safetensors", ".arrow") and file.stem.isdecimal()
        if (of_shard and file.name not in kept) or file.name.startswith("approximate-"):
            file.unlink()


def file_sha256(file: Path) -> str:
    """SHA-256 of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
