"""From a product along the direction of a text: a graded list, each product further along than the one before.

The idea is GradedRec's, the steps are ours. Texts and images are in different regions of CLIP's space, so a
direction between texts leads nowhere among images: it is taken between the images that are nearest to the texts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from e2fashion.encoder import ImageInput
from e2fashion.tasks.search.config import RecommendConfig
from e2fashion.tasks.search.exact import nearest
from e2fashion.tasks.search.index import ProductIndex, conditions_of, encode_query, load_index_encoder, open_index
from e2fashion.tasks.search.snapshot import Hit
from e2fashion.types import E2FashionError


@dataclass(frozen=True)
class GradedHit:
    """A product on the path: ``hit.score`` is its cosine to the point reached, ``similarity`` that to the start.

    ``grade`` is how far it lies along the direction; every product's is larger than that of the one before.
    """

    hit: Hit
    similarity: float
    grade: float


@dataclass(frozen=True)
class Recommendations:
    """The products on a path, the grade of its start, and the start itself where it is a product of the index."""

    hits: list[GradedHit]
    start_grade: float
    start: Hit | None = None


def recommend(
    config: RecommendConfig, index: ProductIndex | None = None, image: ImageInput | None = None
) -> Recommendations:
    """The products on the path from a product of the index, or from an image, towards a text.

    The direction leads from the mean of the ``support`` images nearest to ``away`` (None: of all that ``where`` leaves)
    to that of those nearest to ``text``. At every step, ``stride`` long, the nearest product that is not in the list
    yet and lies further along is taken; the path ends where there is none.

    Args:
        config: the settings; ``index`` names the one that is opened if none is given here.
        index: an open index with its encoder.
        image: the start, in memory; None: that of the configuration.

    Raises:
        E2FashionError: no start or two, no text, a number that makes no sense, or texts that find the same images.
    """
    image = config.image if image is None else image
    if (config.product is None) == (image is None):
        raise E2FashionError("give one start: a product of the index, or an image")
    for name in ("steps", "stride", "support"):
        if (value := getattr(config, name)) <= 0:
            raise E2FashionError(f"{name} is {value}; give a number above 0")
    index = index or open_index(config.index, load_index_encoder(config), config.verify)
    encoder, snapshot = index.checked_encoder(), index.snapshot()
    gallery, rows = snapshot.gallery("first")
    gallery = gallery[:, : snapshot.dimension]
    if (chosen := snapshot.chosen(conditions_of(config))) is not None:
        kept = torch.isin(rows, chosen)
        gallery, rows = gallery[kept], rows[kept]
    gallery = gallery.float()
    if not len(gallery):
        raise E2FashionError(f"no product of {index.path} fulfils all conditions: leave one out")
    start = encode_query(encoder, image=image) if config.product is None else index.vector_of(config.product)
    towards = _center(gallery, encode_query(encoder, config.text), config.support)
    if config.away is None:
        origin = gallery.double().mean(0, keepdim=True).float()
    else:
        origin = _center(gallery, encode_query(encoder, config.away), config.support)
    length = (towards - origin).norm()
    if length < 1e-6:
        other = "all products" if config.away is None else f"'{config.away}'"
        raise E2FashionError(
            f"'{config.text}' finds the same images as {other}: no direction leads from one to the other"
        )
    direction = (towards - origin) / length
    similarity, grade = torch.cat([start, direction]) @ gallery.T
    start_grade = float((start * direction).sum())
    left = grade > start_grade
    first = None
    if config.product is not None:
        row = int(snapshot.firsts[snapshot.product(config.product)])
        (first,) = snapshot.hits([row], [1.0])
        left &= rows != row
    path: list[tuple[int, float]] = []
    for step in range(1, config.steps + 1):
        if not left.any():
            break
        # Both terms of the cosine with the point reached are known for every product.
        way = step * config.stride
        reached = (start + way * direction).norm()
        score = ((similarity + way * grade) / reached).masked_fill(~left, -torch.inf)
        best = int(score.argmax())
        path.append((best, float(score[best])))
        left &= grade > grade[best]
    hits = snapshot.hits([int(rows[best]) for best, _ in path], [cosine for _, cosine in path])
    graded = [
        GradedHit(hit, float(similarity[best]), float(grade[best])) for hit, (best, _) in zip(hits, path, strict=True)
    ]
    return Recommendations(graded, start_grade, first)


def _center(gallery: Tensor, query: Tensor, support: int) -> Tensor:
    """The mean (1, C) of the rows nearest to ``query`` (1, C)."""
    return gallery[nearest(query, gallery, support)[1][0]].mean(0, keepdim=True)
