"""The text's share of vectors of image and text, chosen on val."""

from __future__ import annotations

import logging
from collections import Counter

import torch
from torch import Tensor

from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder
from e2fashion.tasks.search.sources import CatalogueProducts, Products
from e2fashion.tasks.search.vectors import joined, texts_of
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

WEIGHTS = tuple(step / 10 for step in range(10))
BEST, LEAST_PRODUCTS, BATCH_SIZE = 10, 5, 64


def choose_text_weight(encoder: Encoder, products: Products) -> float:
    """The share with the highest P@10 of tag values, asked for by their names, among the images of the val split.

    The smallest of equal ones. Values of fewer than five images are not asked for (ours).

    Raises:
        E2FashionError: the source is no catalogue with a val split and such values.
    """
    origin = products.origin
    catalogue = Catalogue.load(origin.path) if origin.kind == "catalogue" else None
    if catalogue is None or "val" not in catalogue.split_names:
        raise E2FashionError(f"text_weight cannot be chosen on {origin.path}, which has no val split: give it")
    val = CatalogueProducts(catalogue, ["val"])
    positions = range(len(val.ids))
    squares = [
        torch.stack([val.square(position, encoder.transform) for position in positions[start : start + BATCH_SIZE]])
        for start in range(0, len(positions), BATCH_SIZE)
    ]
    images = torch.cat([encoder.embed_squares(part) for part in squares])
    texts = texts_of(encoder, val.table(positions))
    text_embeds = encoder.embed_texts(texts)
    asked = []
    for values in (catalogue.split("val")[tag] for tag in catalogue.tag_columns):
        names = sorted(name for name, count in Counter(filter(None, values)).items() if count >= LEAST_PRODUCTS)
        right = torch.tensor([[value == name for value in values] for name in names])
        asked += [(encoder.embed_texts(names), right)] if names else []
    if not asked:
        raise E2FashionError(f"text_weight cannot be chosen on {origin.path}: its val split has too few tags: give it")

    def precision(weight: float) -> float:
        gallery = joined(images, texts, text_embeds, weight)
        return sum(_precision(query, gallery, right) for query, right in asked) / len(asked)

    measured = {weight: precision(weight) for weight in WEIGHTS}
    chosen = max(measured, key=lambda weight: (measured[weight], -weight))
    logger.info("text_weight %.1f: P@%d %.1f %%, without texts %.1f %%", chosen, BEST, measured[chosen], measured[0.0])
    return chosen


def _precision(query: Tensor, gallery: Tensor, right: Tensor) -> float:
    """P@10 in percent, or at as many as there are, the mean over queries (Q, C) with right answers (Q, N)."""
    found = (query @ gallery.T).topk(min(BEST, len(gallery)), dim=1).indices
    most = right.sum(1).clamp(max=found.shape[1])
    return float((100 * right.gather(1, found).sum(1) / most).mean())
