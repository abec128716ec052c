"""One shard of an index on disk: embeddings as fp16 safetensors, mapped into memory, and products as an Arrow table."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from e2fashion.disk import atomic_file
from e2fashion.tasks.search.manifest import Origin, Shard
from e2fashion.types import E2FashionError

EMBEDS = "embeds"
PRODUCT_ID, DESCRIPTION, PLACE = "product_id", "description", "place"
"""Columns that every shard has; ``place`` says where the picture lies. All others are tags."""


def write_shard(folder: Path, name: str, embeds: Tensor, products: pa.Table, origin: Origin) -> Shard:
    """Write embeddings (n, C), rounded to fp16, and their n products; both files are complete or not there.

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
    """Embeddings (n, C) fp16 and the table of products, mapped into memory; ``verify`` compares checksums first.

    Raises:
        E2FashionError: a file is missing, truncated or changed; the message names it.
    """
    embeds_file, products_file = folder / shard.embeds_file, folder / shard.products_file
    for file, expected in ((embeds_file, shard.embeds_sha256), (products_file, shard.products_sha256)):
        if not file.is_file():
            raise E2FashionError(f"the index {folder} lacks its shard {file.name}: {_REMEDY}")
        if verify and file_sha256(file) != expected:
            raise E2FashionError(
                f"shard {file} is damaged: its SHA-256 is not the one that {folder.name} was built with; {_REMEDY}"
            )
    try:
        with safe_open(embeds_file, framework="pt") as content:
            embeds = content.get_tensor(EMBEDS)
        products = pa.ipc.open_file(pa.memory_map(str(products_file))).read_all()
    except (SafetensorError, OSError, pa.ArrowInvalid) as error:
        raise E2FashionError(f"shard {shard.name} of {folder} cannot be read ({error}); {_REMEDY}") from error
    if embeds.shape != (shard.rows, dimension) or embeds.dtype != torch.float16 or len(products) != shard.rows:
        raise E2FashionError(
            f"shard {shard.name} of {folder} holds {len(products)} products and embeddings of shape "
            f"{tuple(embeds.shape)} where {(shard.rows, dimension)} belongs; {_REMEDY}"
        )
    return embeds, products


def discard_others(folder: Path, shards: Sequence[Shard]) -> None:
    """Delete the files of shards that are none of ``shards``: those let go, and what an interrupt left behind.

    The approximate index goes too: it is of the former products.
    """
    kept = {name for shard in shards for name in (shard.embeds_file, shard.products_file)}
    for file in folder.iterdir():
        of_shard = file.suffix in (".safetensors", ".arrow") and file.stem.isdecimal()
        if (of_shard and file.name not in kept) or file.name.startswith("approximate-"):
            file.unlink()


_REMEDY = "build the index again, or restore the file"


def file_sha256(file: Path) -> str:
    """SHA-256 of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
