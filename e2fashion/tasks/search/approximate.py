"""Approximate search with faiss for large indexes: built once, stored with the shards, its recall measured."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from e2fashion.disk import atomic_file, write_json
from e2fashion.tasks.search.exact import SPARE, Gallery, nearest, rescore
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

ROWS = 1_000_000
"""``engine: auto`` searches approximately above this number of products."""
PROBES = 64
"""Lists that a query reads (ours): recall against speed."""
TRAINING_ROWS_PER_LIST = 64
QUERIES = 200
RECALL_AT = 10


@dataclass(frozen=True)
class Approximate:
    """A faiss index of inverted lists over fp16 vectors, and its recall of the exact best ten.

    ``recall`` is over ``queries`` queries; ``of`` says what they were.
    """

    index: Any
    lists: int
    recall: float
    queries: int
    of: str

    def nearest(self, query: Tensor, gallery: Gallery, top: int, tie: Tensor) -> tuple[Tensor, Tensor]:
        """As :func:`~e2fashion.tasks.search.exact.nearest`, of the rows that faiss finds, maybe fewer."""
        wanted = min(top + SPARE, len(gallery))
        found = torch.from_numpy(self.index.search(query.float().contiguous().numpy(), wanted)[1])
        found = found[:, : max(1, int((found >= 0).sum(1).min()))]  # -1 where the lists were too short
        scores, positions = rescore(query.float(), gallery, found, tie)
        return scores[:, :top], positions[:, :top]

    def describe(self) -> str:
        """One line about the method and its recall."""
        return (
            f"approximate (faiss, {self.lists} lists, {PROBES} read): finds {100 * self.recall:.1f} % of the exact "
            f"best {RECALL_AT} of {self.queries} {self.of}"
        )


def open_approximate(
    folder: Path, fingerprint: str, gallery: Gallery, dimension: int, queries: Tensor | None = None
) -> Approximate:
    """The approximate index of a gallery, read from ``folder`` or built there; ``fingerprint`` is of its content.

    Recall is measured when it is built, with ``queries`` (Q, C) (None: vectors of random products, which are easier).

    Raises:
        E2FashionError: faiss is not installed, or the file is broken.
    """
    faiss = require_faiss()
    file = folder / f"approximate-{fingerprint[:12]}.faiss"
    facts = file.with_suffix(".json")
    if not (file.is_file() and facts.is_file()):
        _build(faiss, file, gallery, dimension, queries)
    try:
        index = faiss.read_index(str(file))
        values = json.loads(facts.read_text(encoding="utf-8"))
        index.nprobe = min(PROBES, index.nlist)
        return Approximate(index, **values)
    except (RuntimeError, ValueError, TypeError) as error:
        raise E2FashionError(f"{file} cannot be read ({error}): delete it, it will be built again") from error


def require_faiss() -> Any:
    """The module, with as many threads as PyTorch.

    Raises:
        E2FashionError: it is not installed.
    """
    if find_spec("faiss") is None:
        raise E2FashionError("approximate search needs faiss. Install it: pip install 'e2fashion[ann]'")
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    return faiss


def _build(faiss: Any, file: Path, gallery: Gallery, dimension: int, queries: Tensor | None) -> None:
    lists = max(1, min(round(4 * len(gallery) ** 0.5), len(gallery) // TRAINING_ROWS_PER_LIST))
    logger.info("building an approximate index of %s products in %s lists", f"{len(gallery):,}", f"{lists:,}")
    index = faiss.index_factory(dimension, f"IVF{lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
    generator = torch.Generator().manual_seed(0)
    sample = torch.randperm(len(gallery), generator=generator)[: lists * TRAINING_ROWS_PER_LIST].sort().values
    index.train(gallery.rows(sample).numpy())
    for _, rows in gallery.chunks():
        index.add(rows.numpy())
    index.nprobe = min(PROBES, lists)
    of = "descriptions of products"
    if queries is None:
        queries = gallery.rows(torch.randperm(len(gallery), generator=generator)[:QUERIES])
        of = "vectors of products"
    exact = nearest(queries, gallery, RECALL_AT)[1]
    found = torch.from_numpy(index.search(queries.numpy(), exact.shape[1])[1])
    recall = float((exact[:, :, None] == found[:, None, :]).any(-1).double().mean())
    facts = asdict(Approximate(None, lists, recall, len(queries), of))
    del facts["index"]
    write_json(file.with_suffix(".json"), facts, indent=None)
    with atomic_file(file) as partial:
        faiss.write_index(index, str(partial))
