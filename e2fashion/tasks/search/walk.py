"""From a product along the direction of a text: a graded list, each product further along than the one before.

The idea is GradedRec's, the steps are ours. Texts and pictures lie apart in CLIP's space, so that a direction between
texts leads nowhere among pictures: it is taken between pictures that the texts find.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from e2fashion.encoder import ImageInput
from e2fashion.tasks.search.exact import CHUNK_ROWS, nearest
from e2fashion.tasks.search.filters import Where, matching
from e2fashion.tasks.search.gallery import Gallery
from e2fashion.tasks.search.index import Hit, ProductIndex
from e2fashion.tasks.search.query import encode_query
from e2fashion.types import E2FashionError

STEPS = 8
STRIDE = 0.1
SUPPORT = 50


@dataclass(frozen=True)
class GradedHit:
    """A product on the way: ``hit.score`` is its cosine to the place reached, ``similarity`` that to the start.

    ``grade`` is how far it lies along the direction; every product's is larger than the one's before.
    """

    hit: Hit
    similarity: float
    grade: float


def recommend(
    index: ProductIndex,
    text: str,
    product_id: str | None = None,
    image: ImageInput | None = None,
    away: str | None = None,
    where: Where | None = None,
    steps: int = STEPS,
    stride: float = STRIDE,
    support: int = SUPPORT,
) -> tuple[float, list[GradedHit]]:
    """The grade of the start, and the products met on the way from it towards ``text``.

    Start is a product of the index or a picture. The direction leads from the mean of the ``support`` pictures nearest
    to ``away`` (None: of all that ``where`` leaves) to that of those nearest to ``text``. At every step, ``stride``
    long, the nearest product that was not met yet and lies further along is taken; the way ends where there is none.

    Raises:
        E2FashionError: no start or two, no text, a number that makes no sense, or texts that find the same pictures.
    """
    if (product_id is None) == (image is None):
        raise E2FashionError("give one start: a product of the index, or a picture")
    for name, value in (("steps", steps), ("stride", stride), ("support", support)):
        if value <= 0:
            raise E2FashionError(f"{name} is {value}; give a number above 0")
    encoder = index.checked_encoder()
    chosen = torch.arange(len(index.products))
    if where:
        chosen = torch.from_numpy(matching(index.products, where).nonzero()[0])
    if not len(chosen):
        raise E2FashionError(f"no product fulfils all of {dict(where or {})}: leave a condition out")
    gallery = index.gallery.select(chosen)
    start = index.vector_of(product_id) if product_id is not None else encode_query(encoder, image=image)
    towards = _centre(gallery, encode_query(encoder, text), support)
    origin = _mean(gallery) if away is None else _centre(gallery, encode_query(encoder, away), support)
    length = (towards - origin).norm()
    if length < 1e-6:
        there = "all products" if away is None else f"'{away}'"
        raise E2FashionError(f"'{text}' finds the same pictures as {there}: no direction leads from one to the other")
    direction = (towards - origin) / length
    similarity, grade = _inner_products(gallery, torch.cat([start, direction]))
    begin = float((start * direction).sum())
    left = grade > begin
    if product_id is not None:
        left &= chosen != index.place_of(product_id)
    found: list[GradedHit] = []
    for step in range(1, steps + 1):
        if not left.any():
            break
        # Both terms of the cosine with the place reached are known for every product.
        way = step * stride
        reached = (start + way * direction).norm()
        score = ((similarity + way * grade) / reached).masked_fill(~left, -torch.inf)
        best = int(score.argmax())
        (hit,) = index.hits([int(chosen[best])], [float(score[best])])
        found.append(GradedHit(hit, float(similarity[best]), float(grade[best])))
        left &= grade > grade[best]
    return begin, found


def _centre(gallery: Gallery, query: Tensor, support: int) -> Tensor:
    """The mean (1, C) of the rows nearest to ``query`` (1, C)."""
    places = nearest(query, gallery, support)[1][0]
    return gallery.rows(places).mean(0, keepdim=True)


def _mean(gallery: Gallery) -> Tensor:
    """The mean row: (1, C)."""
    starts = range(0, len(gallery), CHUNK_ROWS)
    total = sum(gallery.chunk(start, min(start + CHUNK_ROWS, len(gallery))).double().sum(0) for start in starts)
    return (torch.as_tensor(total) / len(gallery)).float()[None]


def _inner_products(gallery: Gallery, vectors: Tensor) -> Tensor:
    """Of every row with ``vectors`` (V, C): (V, N)."""
    starts = range(0, len(gallery), CHUNK_ROWS)
    return torch.cat(
        [vectors @ gallery.chunk(start, min(start + CHUNK_ROWS, len(gallery))).T for start in starts], dim=1
    )
