"""The model's side of the service: answers a batch of requests with one pass of each tower."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from e2fashion.arithmetic import set_threads
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.decode import read_pixels
from e2fashion.data.images import read_image
from e2fashion.disk import DamagedError
from e2fashion.disk.stores import StoreError
from e2fashion.encoder import Encoder, require_single_vectors
from e2fashion.measuring import load_named
from e2fashion.tasks.classification.classifier import check_region_weight, embed_labels, region_index
from e2fashion.tasks.classification.tag_predictor import (
    NAME,
    TagPredictor,
    load_tag_predictor,
    scale_and_bias,
    tag_probabilities,
)
from e2fashion.tasks.localization.explain import explain_image
from e2fashion.tasks.search.config import RecommendConfig
from e2fashion.tasks.search.index import ProductIndex, open_index
from e2fashion.tasks.search.recommend import recommend
from e2fashion.tasks.search.snapshot import Hit
from e2fashion.tasks.serving.config import ServeConfig
from e2fashion.tasks.serving.work import Answer, Work
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)
#: A text, the square of an image, uint8 (3, S, S), or of tasks that need more the whole image.
Item: TypeAlias = str | Tensor | Image.Image
ALONE = ("recommend", "explain")
"""Tasks whose images are not encoded with those of others."""
LABEL_SETS = 64
"""Sets of labels whose embeddings are kept."""


class Backend:
    """An encoder with an index and tags, where given.

    Args:
        encoder: embeds an item as one vector.
        index: the products of ``search``.
        tags: predicts ``tags``.
        config: ``batch_size`` and ``max_pixels``.

    Raises:
        E2FashionError: the encoder compares tokens.
    """

    def __init__(
        self, encoder: Encoder, index: ProductIndex | None, tags: TagPredictor | None, config: ServeConfig
    ) -> None:
        require_single_vectors(encoder, "the service")
        self.encoder = encoder
        self.index = index
        self.tags = tags
        self.config = config
        self._labels = lru_cache(LABEL_SETS)(partial(embed_labels, encoder))
        self._scale_and_bias = scale_and_bias(encoder)

    @classmethod
    def load(cls, config: ServeConfig, device: str) -> Backend:
        """Open what a configuration names.

        Raises:
            E2FashionError: a model, an index or a file of tags that cannot be read, or of another model.
        """
        set_threads(config.threads)
        encoder, _ = load_named(config)
        encoder.to(device)
        index = open_index(config.index, encoder) if config.index is not None else None
        file = Path(config.tags) if config.tags is not None else Path(config.model) / NAME
        tags = load_tag_predictor(encoder, file) if config.tags is not None or file.is_file() else None
        return cls(encoder, index, tags, config)

    def answer(self, works: Sequence[Work]) -> list[Answer]:
        """The answer to every request of a batch; one that cannot be answered does not spoil the others."""
        try:
            return self._answer(works)
        except Exception:  # of any request: they are repeated one by one
            if len(works) > 1:
                return [answer for work in works for answer in self.answer([work])]
            logger.exception("a request of the task '%s' failed", works[0].task)
            return [Answer(error="the model failed at this request; the log of the service says why", status=500)]

    def _answer(self, works: Sequence[Work]) -> list[Answer]:
        read = [self._read(work) for work in works]
        shared = [
            [] if isinstance(items, Answer) or work.task in ALONE else items
            for work, items in zip(works, read, strict=True)
        ]
        texts = [item for items in shared for item in items if isinstance(item, str)]
        images = [item for items in shared for item in items if not isinstance(item, str)]
        text_counts = [sum(isinstance(item, str) for item in items) for items in shared]
        image_counts = [len(items) - count for items, count in zip(shared, text_counts, strict=True)]
        text_embeds = self.encoder.embed_texts(texts, self.config.batch_size).split(text_counts)
        whole, regions = self._embed_images(images, any(self._needs_regions(work) for work in works))
        of_regions = regions.split(image_counts) if regions is not None else [None] * len(works)
        answered = []
        for work, items, *found in zip(works, read, text_embeds, whole.split(image_counts), of_regions, strict=True):
            if isinstance(items, Answer):
                answered.append(items)
                continue
            try:
                answered.append(Answer(self._result(work, items, *found), batch=len(works)))
            except (DamagedError, StoreError) as error:  # not the client's fault
                answered.append(Answer(error=str(error), status=503, batch=len(works)))
            except E2FashionError as error:
                answered.append(Answer(error=str(error), status=422, batch=len(works)))
        return answered

    def _read(self, work: Work) -> list[Item] | Answer:
        """The items of a request with its images decoded, or why it cannot be answered."""
        items: list[Item] = []
        for position, item in enumerate(work.items):
            try:
                items.append(item if isinstance(item, str) else self._read_image(item, work.task in ALONE))
            except E2FashionError as error:
                where = f"image {position}: " if len(work.items) > 1 else ""
                return Answer(error=f"{where}{error}", status=422)
        return items

    def _read_image(self, data: bytes, whole: bool) -> Item:
        """An image as the square that the model sees: those of a batch would not fit into memory as they are."""
        image = read_image(data, self.config.max_pixels)
        return image if whole else self.encoder.transform(read_pixels(image))

    def _needs_regions(self, work: Work) -> bool:
        if work.task == "tags" and self.tags is not None:
            return any(entity.features != "global" for entity in self.tags.entities)
        return work.task == "classify" and work.options["features"] != "global" and bool(self.encoder.entities)

    def _embed_images(self, images: Sequence[Tensor | Image.Image], regional: bool) -> tuple[Tensor, Tensor | None]:
        if regional:
            return self.encoder.embed_images_and_regions(images, self.config.batch_size)
        return self.encoder.embed_images(images, self.config.batch_size), None

    def _result(
        self, work: Work, items: Sequence[Item], texts: Tensor, images: Tensor, regions: Tensor | None
    ) -> dict[str, Any]:
        if work.task == "embed":
            return self._embeddings(items, texts, images)
        if work.task == "search":
            return self._search(work.options, items, texts, images)
        if work.task == "recommend":
            return self._recommend(work.options, items)
        if work.task == "classify":
            return self._classify(work.options, images, regions)
        if work.task == "tags":
            return self._predict_tags(images, regions)
        if work.task == "explain":
            return self._explain(work.options, items)
        return self.describe()

    def _embeddings(self, items: Sequence[Item], texts: Tensor, images: Tensor) -> dict[str, Any]:
        rows = {True: iter(texts), False: iter(images)}
        embeds = [next(rows[isinstance(item, str)]) for item in items]
        listed = [item for item in items if isinstance(item, str)]
        tokens = sum(map(len, self.encoder.tokenizer(listed)["input_ids"])) if listed else 0
        return {"embeds": torch.stack(embeds).numpy(), "tokens": tokens}

    def _search(self, options: dict[str, Any], items: Sequence[Item], texts: Tensor, images: Tensor) -> dict[str, Any]:
        weight, index = options["weight"], self._checked_index()
        query = texts if not len(images) else images if not len(texts) else weight * texts + (1 - weight) * images
        tags = index.stated_tags(next((item for item in items if isinstance(item, str)), None), options["tags"])
        query = index.with_tags(F.normalize(query, dim=-1), [tags], options["region_weight"])
        [hits] = index.nearest(query, options["where"], options["top"])
        load = lru_cache(None)(Catalogue.load)
        found = [_hit(hit, options["thumbnail"], load) for hit in hits]
        return {"products": len(index), "tags": tags, "hits": found}

    def _recommend(self, options: dict[str, Any], items: Sequence[Item]) -> dict[str, Any]:
        index = self._checked_index()
        given = {key: options[key] for key in ("product", "text", "away", "where", "steps")}
        image = next((item for item in items if not isinstance(item, str)), None)
        path = recommend(RecommendConfig(index=str(index.path), **given), index, image)
        load = lru_cache(None)(Catalogue.load)
        hits = [
            {**_hit(item.hit, options["thumbnail"], load), "grade": item.grade, "similarity": item.similarity}
            for item in path.hits
        ]
        return {"start_grade": path.start_grade, "hits": hits}

    def _checked_index(self) -> ProductIndex:
        if self.index is None:
            raise E2FashionError("this service has no index: start it with index=<folder>")
        return self.index

    def _explain(self, options: dict[str, Any], items: Sequence[Item]) -> dict[str, Any]:
        """Every map with its square as a data URI and its rows of heat from 0 to 1."""
        [image] = items
        assert isinstance(image, Image.Image)
        maps = []
        for item in explain_image(self.encoder, read_pixels(image), None, options["texts"]):
            heat = torch.from_numpy(item.heatmap.heat)
            side = round(len(heat) ** 0.5)
            maps.append(
                {
                    "method": item.heading,
                    "subject": item.subject,
                    "image": _data_uri(Image.fromarray(item.heatmap.image)),
                    "heat": (heat / heat.max().clamp(min=1e-9)).view(side, side).tolist(),
                    "selected": sorted(set(item.heatmap.selected)),
                }
            )
        return {"maps": maps}

    def _classify(self, options: dict[str, Any], images: Tensor, regions: Tensor | None) -> dict[str, Any]:
        labels: dict[str, str] = options["labels"]
        features, weight = options["features"], options["region_weight"]
        check_region_weight(weight)
        index = region_index(self.encoder, options["entity"]) if features != "global" else 0
        templates = tuple(options["templates"])
        embeds = self._labels(tuple(labels.values()), features, templates, ("{}",))
        scores = embeds.scores(images, None if regions is None else regions[:, index], weight)
        chances = tag_probabilities(scores, *self._scale_and_bias)
        return {
            "images": [
                {
                    "label": list(labels)[int(row.argmax())],
                    "labels": [
                        {"label": label, "score": score, "probability": chance}
                        for score, chance, label in sorted(
                            zip(row.tolist(), chance_row.tolist(), labels, strict=True), reverse=True
                        )
                    ],
                }
                for row, chance_row in zip(scores, chances, strict=True)
            ]
        }

    def _predict_tags(self, images: Tensor, regions: Tensor | None) -> dict[str, Any]:
        if self.tags is None:
            raise E2FashionError(
                "this service has no tags: fit them by `e2fashion tags fit <model> data=<catalogue>` and start it again"
            )
        return {
            "images": [
                {name: {"value": tag.value, "nearest": tag.best, "probability": tag.score} for name, tag in row.items()}
                for row in self.tags.tags_of(images, regions)
            ]
        }

    def describe(self) -> dict[str, Any]:
        """What the service can do: the model, its width and entities, the index, the tags that are predicted."""
        return {
            "dimension": self.encoder.dimension,
            "context_length": self.encoder.context_length,
            "image_size": self.encoder.transform.size,
            "entities": [entity.name for entity in self.encoder.entities],
            "products": len(self.index) if self.index is not None else None,
            "filters": self.index.tag_columns if self.index is not None else [],
            "tags": [entity.entity for entity in self.tags.entities] if self.tags is not None else [],
        }


def _hit(hit: Hit, thumbnail: int, load: Callable[[str], Catalogue]) -> dict[str, Any]:
    """A hit as JSON; with a side ``thumbnail`` in pixels also its image, a JPEG as a data URI (null: it is gone).

    ``load`` opens a catalogue once for all hits of a request.
    """
    result: dict[str, Any] = {
        "id": hit.product_id,
        "score": hit.score,
        "description": hit.description,
        "tags": dict(hit.tags),
    }
    if thumbnail:
        try:
            image = hit.image(load)
            image.thumbnail((thumbnail, thumbnail))
            result["image"] = _data_uri(image)
        except E2FashionError:
            result["image"] = None
    return result


def _data_uri(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
