"""Approximate search for large indexes: LanceDB's inverted lists, and how much of the exact best they find."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from e2fashion.encoder import Encoder
from e2fashion.tasks.search.query import Conditions
from e2fashion.tasks.search.snapshot import Snapshot
from e2fashion.tasks.search.storage import (
    DESCRIPTION,
    VECTOR,
    Approximation,
    open_table,
    require_lancedb,
    writing,
)

logger = logging.getLogger(__name__)

QUERIES, RECALL_AT = 200, 10


def build_lists(folder: Path, encoder: Encoder | None = None) -> None:
    """Build the inverted lists of an index, and note their recall.

    The queries are descriptions of random products, or without an encoder or descriptions vectors of random images,
    which are easier.
    """
    with writing(folder):
        table = open_table(folder)
        logger.info("building inverted lists over %s images of %s", f"{table.count_rows():,}", folder)
        config = require_lancedb().index.IvfFlat(distance_type="dot")
        table.create_index(VECTOR, config=config, replace=True)
    snapshot = Snapshot(folder)
    queries, of = _queries(snapshot, encoder)
    exact = snapshot.nearest(queries, Conditions(), RECALL_AT, "best", "exact")[1]
    found = snapshot.nearest(queries, Conditions(), RECALL_AT, "best", "approximate")[1]
    recall = float((exact[:, :, None] == found[:, None, :]).any(-1).double().mean())
    with writing(folder) as facts:
        replace(facts, approximation=Approximation(recall, len(queries), of)).save(folder)


def _queries(snapshot: Snapshot, encoder: Encoder | None) -> tuple[Tensor, str]:
    """Random queries (Q, C), and what they are."""
    generator = np.random.default_rng(0)
    if encoder is not None:
        texts = [text for text in snapshot.column(DESCRIPTION) if text and text.strip()]
        if texts:
            chosen = generator.choice(len(texts), min(QUERIES, len(texts)), replace=False)
            return encoder.embed_texts([texts[number] for number in chosen]), "descriptions of products"
    rows = generator.choice(len(snapshot.row_ids), min(QUERIES, len(snapshot.row_ids)), replace=False)
    return snapshot.vectors[torch.from_numpy(rows), : snapshot.dimension], "vectors of images"
