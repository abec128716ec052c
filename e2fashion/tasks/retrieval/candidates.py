"""Candidate lists of sampled retrieval: drawn once from a seed, stored, and read again by every later evaluation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from e2fashion.disk import atomic_file
from e2fashion.types import E2FashionError

FORMAT = 1
Fill = Literal["report", "top_up"]


@dataclass(frozen=True)
class DrawRule:
    """How lists are drawn: ``count`` rivals of the same sub-category for each query.

    ``queries`` None asks about every product, a number about that many random ones in each of ``draws`` rounds.
    Where a sub-category has fewer than ``count`` others, ``report`` keeps the list short (E2) and ``top_up`` adds
    products of other sub-categories (FashionSAP). A product of unknown sub-category is left out under ``report``
    and gets rivals of any sub-category under ``top_up``.
    """

    count: int = 100
    queries: int | None = None
    draws: int = 1
    fill: Fill = "report"
    seed: int = 0


@dataclass(frozen=True)
class CandidateLists:
    """``query`` (Q,) int64 products, and ``candidates`` (Q, 1 + count) int64 products: the query's own first, -1 last.

    ``left_out`` counts the products that could not be asked about because their sub-category is unknown.
    """

    query: Tensor
    candidates: Tensor
    left_out: int


def draw_candidates(product_ids: Sequence[str], categories: Sequence[str | None], rule: DrawRule) -> CandidateLists:
    """Draw by ``rule``. The lists of a seed do not depend on the order of the products.

    Raises E2FashionError when no product can be asked about, or ``queries`` asks for more than there are.
    """
    order = np.array(sorted(range(len(product_ids)), key=product_ids.__getitem__), dtype=np.int64)
    names = [categories[place] for place in order]
    places: dict[str | None, list[int]] = {}
    for i, name in enumerate(names):
        places.setdefault(name, []).append(i)
    members = {name: np.array(own, dtype=np.int64) for name, own in places.items() if name is not None}
    everybody, nobody = np.arange(len(order)), np.empty(0, dtype=np.int64)
    strangers: dict[str | None, np.ndarray] = {}
    askable = np.array([i for i, name in enumerate(names) if name is not None or rule.fill == "top_up"], dtype=np.int64)
    if not len(askable):
        raise E2FashionError(
            f"none of {len(product_ids)} products has a sub-category to draw rivals from: give the catalogue a "
            "sub_category column, or choose fill=top_up"
        )
    wanted = len(askable) if rule.queries is None else rule.queries
    if not 1 <= wanted <= len(askable) or rule.draws < 1 or rule.count < 1:
        raise E2FashionError(
            f"queries={rule.queries}, draws={rule.draws}, count={rule.count} with {len(askable)} products to ask "
            "about: choose at least 1 of each and no more queries than products"
        )
    generator = np.random.default_rng(rule.seed)
    queries, lists = [], []
    for _ in range(rule.draws):
        chosen = askable if rule.queries is None else np.sort(generator.choice(askable, wanted, replace=False))
        for query in chosen:
            name = names[query]
            group = nobody if name is None else members[name]
            own = _sample(group, query, rule.count, generator)
            if rule.fill == "top_up" and len(own) < rule.count:
                if name not in strangers:
                    strangers[name] = np.setdiff1d(everybody, group, assume_unique=True)
                own = np.concatenate([own, _sample(strangers[name], query, rule.count - len(own), generator)])
            row = np.full(1 + rule.count, -1, dtype=np.int64)
            row[: 1 + len(own)] = order[[query, *own]]
            queries.append(order[query])
            lists.append(row)
    return CandidateLists(
        torch.from_numpy(np.array(queries)), torch.from_numpy(np.stack(lists)), len(product_ids) - len(askable)
    )


def _sample(members: np.ndarray, query: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """Up to ``count`` of the sorted ``members`` without the query."""
    rivals = members[members != query]
    return generator.choice(rivals, min(count, len(rivals)), replace=False)


def stored_candidates(
    folder: Path,
    split: str,
    data_fingerprint: str,
    product_ids: Sequence[str],
    categories: Sequence[str | None],
    rule: DrawRule,
    others: Sequence[Path] = (),
) -> CandidateLists:
    """The lists of ``rule`` for these products: read from ``folder`` or ``others``, else drawn and kept in ``folder``.

    What lies in one of ``others`` is not copied, and nothing is written there: a catalogue may be shared, or read-only.

    The file's name tells split, rule, and a digest of products, sub-categories and the catalogue's fingerprint. It
    is an ``.npz`` without pickles, in the order of the sorted product ids.

    Raises E2FashionError when the file found is broken or was drawn for something else.
    """
    order = sorted(range(len(product_ids)), key=product_ids.__getitem__)
    identity = json.dumps([data_fingerprint, [(product_ids[i], categories[i]) for i in order]])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    asked = "all" if rule.queries is None else str(rule.queries)
    name = f"sample_{rule.count}_{split}_{asked}x{rule.draws}_{rule.fill}_seed{rule.seed}_{digest}.npz"
    path = next((place / name for place in (folder, *others) if (place / name).exists()), folder / name)
    header = json.dumps({"format": FORMAT, "split": split, "digest": digest, **asdict(rule)}, sort_keys=True)
    place = np.array(order, dtype=np.int64)
    if path.exists():
        return _read(path, header, place)
    drawn = draw_candidates(product_ids, categories, rule)
    rank = np.empty_like(place)
    rank[place] = np.arange(len(place))
    candidates = drawn.candidates.numpy()
    with atomic_file(path) as partial, partial.open("wb") as stream:
        np.savez_compressed(
            stream,
            header=np.array(header),
            product_ids=np.array([product_ids[i] for i in order]),
            query=rank[drawn.query.numpy()].astype(np.int32),
            candidates=np.where(candidates < 0, -1, rank[candidates]).astype(np.int32),
            left_out=np.array(drawn.left_out),
        )
    return drawn


def _read(path: Path, header: str, place: np.ndarray) -> CandidateLists:
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["header"]) != header:
                raise E2FashionError(
                    f"candidate lists {path} were drawn by {file['header']}, asked for {header}: delete the file"
                )
            query, candidates, left_out = file["query"], file["candidates"], int(file["left_out"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise E2FashionError(f"candidate lists {path} cannot be read ({error}): delete the file") from error
    return CandidateLists(
        torch.from_numpy(place[query]),
        torch.from_numpy(np.where(candidates < 0, -1, place[candidates])),
        left_out,
    )
