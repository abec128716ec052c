"""Writers that change one index while others search it, all of them killed at random moments: what was acknowledged is
there, and nobody who searched failed.

``python -m scripts.torture index [rounds=20] [seconds=60] [seed=0]``
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

from e2fashion.data.transforms import ImageTransform
from e2fashion.tasks.search.build import add_products, build_index, compact, remove_products, sync_index
from e2fashion.tasks.search.config import EmbedConfig, IndexCompactConfig
from e2fashion.tasks.search.facts import Origin
from e2fashion.tasks.search.index import open_index
from scripts.torture.child import Child

WRITERS, READERS = 2, 3
PRODUCTS = 40
LIFE, LONGEST = (0.3, 4.0), 600.0
"""Seconds that a writer lives behind its first change before it is killed, and that anything may take."""


@dataclass
class Products:
    """Products without images: a vector follows from an id and its version."""

    versions: dict[str, int]

    @property
    def ids(self) -> pa.Array:
        """Every product's id."""
        return pa.array(list(self.versions), pa.string())

    @property
    def origin(self) -> Origin:
        """Nothing that exists."""
        return Origin("numbers", "numbers", "numbers")

    def content(self, position: int) -> bytes:
        """Product and version."""
        return repr(list(self.versions.items())[position]).encode()

    def square(self, position: int, transform: ImageTransform) -> Tensor:
        """Noise that depends on the content, uint8 (3, S, S)."""
        seed = int.from_bytes(hashlib.sha256(self.content(position)).digest()[:4])
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(256, (3, transform.size, transform.size), dtype=torch.uint8, generator=generator)

    def table(self, positions: Sequence[int]) -> pa.Table:
        """A tag holds the version."""
        chosen = [list(self.versions.items())[position] for position in positions]
        ids = pa.array([name for name, _ in chosen], pa.string())
        views, none = pa.array([0] * len(chosen), pa.int32()), pa.nulls(len(chosen), pa.string())
        versions = pa.array([f"v{version}" for _, version in chosen], pa.string())
        return pa.table({"product_id": ids, "view": views, "description": none, "image": ids, "version": versions})


class PixelEncoder:
    """An image is its pixels."""

    name, fingerprint, compares_tokens = "pixels", "pixels", False
    transform = ImageTransform(size=4, resize="squeeze")
    dimension = 48

    def embed_squares(self, squares: Tensor) -> Tensor:
        """(B, 3, 4, 4) to (B, 48)."""
        return F.normalize(squares.flatten(1).float() - 127.5, dim=-1)


ENCODER: Any = PixelEncoder()


@dataclass
class Round:
    """What a round came to."""

    changes: int = 0
    killed: int = 0
    searches: int = 0
    lost: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def write(folder: Path, name: str, seed: int) -> int:
    """Add, replace and remove products of a writer; ``<name>.log`` has what is begun and what is acknowledged."""
    chance = random.Random(seed)
    known = acknowledged(folder / f"{name}.log")[0]
    with (folder / f"{name}.log").open("a", encoding="utf-8") as log:
        while True:
            some = {
                f"{name}-{chance.randrange(PRODUCTS)}": chance.randrange(1_000_000) for _ in range(chance.randint(1, 6))
            }
            removing = chance.random() < 0.3
            change = {product: -1 for product in some if known.get(product, -1) >= 0} if removing else some
            if not change:
                continue
            log.write(f"begin {json.dumps(change)}\n")
            log.flush()
            if removing:
                remove_products(folder / "index", list(change))
            else:
                add_products(folder / "index", ENCODER, Products(change), EmbedConfig(), replace=True, progress=False)
            log.write(f"done {json.dumps(change)}\n")
            log.flush()
            known.update(change)
            if chance.random() < 0.1:
                compact(IndexCompactConfig(str(folder / "index")))


def read(folder: Path, name: str) -> int:
    """Search, in an index that stays open and in one that is opened each time, until there is a file ``stop``.

    ``<name>.log`` has a line per search.
    """
    number = 0
    kept = open_index(folder / "index", ENCODER)
    query = F.normalize(torch.randn(1, ENCODER.dimension, generator=torch.Generator().manual_seed(0)), dim=-1)
    with (folder / f"{name}.log").open("a", encoding="utf-8") as log:
        while not (folder / "stop").exists():
            number += 1
            index = kept if number % 4 else open_index(folder / "index", ENCODER)
            where = {"version": None} if number % 5 == 0 else {}
            (hits,) = index.nearest(query, where, top=5)
            if not where and len(hits) < 5:
                raise RuntimeError(f"{len(hits)} hits of {len(index)} products")
            log.write("search\n")
            log.flush()
    return 0


def acknowledged(log: Path) -> tuple[dict[str, int], set[str]]:
    """The version of every product (-1: removed) by a writer's log, and products whose last change was cut off."""
    known: dict[str, int] = {}
    open_: set[str] = set()
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
        state, _, content = line.partition(" ")
        change = json.loads(content)
        if state == "begin":
            open_ |= change.keys()
        else:
            known |= change
            open_ -= change.keys()
    return known, open_


def run_round(folder: Path, seconds: float, seed: int) -> Round:
    """Two writers, killed and started again, and three readers; then what is there against what was acknowledged."""
    chance, found = random.Random(seed), Round()
    folder.mkdir(parents=True)
    base = {f"base-{number}": 0 for number in range(10)}
    made = Child(lambda: _build(folder, base), folder).wait(LONGEST)
    if made.code != 0:
        raise RuntimeError(made.printed)
    readers = [Child(partial(read, folder, f"reader-{number}"), folder) for number in range(READERS)]
    writers: dict[int, tuple[Child, int, float | None]] = {}
    stop: float | None = None
    while stop is None or time.monotonic() < stop:
        if stop is None and all(_size(folder / f"reader-{number}.log") for number in range(READERS)):
            stop = time.monotonic() + seconds  # what it takes to start does not count
        for number in range(WRITERS):
            log, now = folder / f"writer-{number}.log", time.monotonic()
            if number in writers:
                child, before, end = writers[number]
                if end is None and _size(log) > before:
                    writers[number] = child, before, now + chance.uniform(*LIFE)
                if end is not None and now > end:
                    child.kill()
                    found.killed += 1
                elif not child.ends_within(0):
                    continue
                if (ended := child.wait(LONGEST)).code is not None:
                    found.failed.append(f"writer: {ended.last_line}")
            start = partial(write, folder, f"writer-{number}", chance.randrange(10**9))
            writers[number] = Child(start, folder), _size(log), None
        if any(child.ends_within(0) for child in readers):
            break
        time.sleep(0.02)
    (folder / "stop").touch()
    for child, _, _ in writers.values():
        child.kill()
        child.wait()
    for child in readers:
        if (ended := child.wait(seconds + LONGEST)).code != 0:
            found.failed.append(f"reader: {ended.last_line}")
    found.searches = sum(len(log.read_text().splitlines()) for log in folder.glob("reader-*.log"))
    expected, unclear = dict(base), set()
    for log in folder.glob("writer-*.log"):
        known, open_ = acknowledged(log)
        found.changes += log.read_text(encoding="utf-8").count("done")
        expected |= known
        unclear |= open_
    ended = Child(lambda: _judge(folder, expected, unclear), folder).wait(LONGEST)
    found.lost += ended.printed.splitlines() if ended.code else []
    return found


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _build(folder: Path, base: dict[str, int]) -> int:
    build_index(ENCODER, Products(base), folder / "index", progress=False)
    return 0


def _judge(folder: Path, expected: dict[str, int], unclear: set[str]) -> int:
    """Print what is not as it was acknowledged; then the index can still be changed."""
    index = open_index(folder / "index", ENCODER)
    snapshot = index.snapshot()
    snapshot.check()
    there = dict(zip(snapshot.product_ids, snapshot.column("version"), strict=True))
    lost = [
        f"{product}: {there.get(product)} in place of {version}"
        for product, version in expected.items()
        if product not in unclear and there.get(product) != (f"v{version}" if version >= 0 else None)
    ]
    lost += [f"{product} was never written" for product in there.keys() - expected.keys() - unclear]
    print("\n".join(lost))
    sync_index(folder / "index", ENCODER, Products({"last": 0}), progress=False)
    return int(bool(lost) or open_index(folder / "index").product_ids != ["last"])


def run_rounds(rounds: int, seconds: float, seed: int = 0) -> list[Round]:
    """So many rounds, each in a folder of its own."""
    import_module("lance_namespace")  # most of what LanceDB imports, without its threads, which survive no fork
    found = []
    for number in range(rounds):
        folder = Path(tempfile.mkdtemp(prefix="torture-index-"))
        try:
            found.append(run_round(folder / "round", seconds, seed + number))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print(f"round {number}: {found[-1]}", file=sys.stderr, flush=True)
    return found


def main(args: Iterable[str]) -> int:
    """Run and print the sums; 1 if anything was lost or failed."""
    given = dict(arg.split("=", 1) for arg in args)
    rounds = run_rounds(int(given.get("rounds", 20)), float(given.get("seconds", 60)), int(given.get("seed", 0)))
    lost, failed = sum(len(each.lost) for each in rounds), sum(len(each.failed) for each in rounds)
    print(
        f"{len(rounds)} rounds: {sum(each.changes for each in rounds):,} acknowledged changes, "
        f"{sum(each.killed for each in rounds):,} kills, {sum(each.searches for each in rounds):,} searches; "
        f"{lost} lost, {failed} failed"
    )
    return int(bool(lost or failed))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
