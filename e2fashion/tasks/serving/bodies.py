"""The bodies of requests, as the OpenAPI page shows them, and the work that each of them asks for."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from e2fashion.tasks.serving.config import ServeConfig
from e2fashion.tasks.serving.work import Work

DATA_URI = "data:image/"
#: Longest list of labels or templates.
MAX_LABELS = 10_000

ModelName: TypeAlias = Annotated[str | None, Field(description="Name of the model; null: the first one.")]
Thumbnail: TypeAlias = Annotated[
    int, Field(ge=0, le=1024, description="Longest side in pixels of the products' images; 0: without images.")
]
Images: TypeAlias = Annotated[str | list[str], Field(description="One image or several, as data URIs.")]


class RequestError(HTTPException):
    """A request that cannot be answered, with its HTTP status."""

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(status, message)


class Body(BaseModel):
    """Keys of every body."""

    model_config = ConfigDict(extra="forbid")

    model: ModelName = None

    def work(self, config: ServeConfig) -> Work:
        """What the body asks for.

        Raises:
            RequestError: it is beyond the limits of ``config``.
        """
        raise NotImplementedError


class ImageItem(BaseModel):
    """An image to embed."""

    model_config = ConfigDict(extra="forbid")

    image: Annotated[str, Field(description="A data URI, as in data:image/jpeg;base64,...")]


class EmbeddingsBody(Body):
    """Texts and images to embed, in the shape of OpenAI's API."""

    input: Annotated[
        str | ImageItem | list[str | ImageItem],
        Field(description="Texts; images as data URIs, alone or as {'image': <data URI>}. No URL is ever fetched."),
    ]
    encoding_format: Annotated[
        Literal["float", "base64"], Field(description="Numbers, or the base64 of little-endian float32.")
    ] = "float"
    dimensions: Annotated[int | None, Field(description="The model's width, if given.")] = None
    user: Annotated[str | None, Field(description="Ignored.")] = None

    def work(self, config: ServeConfig) -> Work:
        """The texts and images, within the limits."""
        listed = self.input if isinstance(self.input, list) else [self.input]
        return Work("embed", _items(listed, config))


class SearchBody(Body):
    """A text, an image, or both, and what the products found must fulfil."""

    text: Annotated[str | None, Field(description="The text to search for.")] = None
    image: Annotated[str | None, Field(description="The image to search for, a data URI.")] = None
    weight: Annotated[float, Field(ge=0, le=1, description="The text's share of a query of both.")] = 0.5
    where: Annotated[
        dict[str, Any], Field(description="Tags that products must have: a value, a list of values, or null for none.")
    ] = {}
    tags: Annotated[
        dict[str, str], Field(description="Tags to compare with regions; without: those that the text names.")
    ] = {}
    region_weight: Annotated[float | None, Field(ge=0, description="Weight of the tags; null: the index's.")] = None
    top: Annotated[int, Field(ge=1, description="Number of products.")] = 10
    thumbnail: Thumbnail = 0

    def work(self, config: ServeConfig) -> Work:
        """The query, within the limits."""
        if (self.text is None and self.image is None) or (self.text is not None and not self.text.strip()):
            raise RequestError("there is nothing to search for: give a text, an image or both")
        for text in (self.text or "", *(json.dumps(each, ensure_ascii=False) for each in (self.where, self.tags))):
            _check_text(text, config)
        if self.top > config.max_top:
            raise RequestError(f"top is {self.top}; this service returns up to {config.max_top} products")
        options = self.model_dump(include={"weight", "where", "tags", "region_weight", "top", "thumbnail"})
        images = _images(self.image, config) if self.image is not None else ()
        return Work("search", images if self.text is None else (self.text, *images), options)


class RecommendBody(Body):
    """A start, a text to move towards, and what the products must fulfil."""

    product: Annotated[str | None, Field(description="The product of the index to start from.")] = None
    image: Annotated[str | None, Field(description="An image to start from instead, a data URI.")] = None
    text: Annotated[str, Field(description="Text of the direction.")]
    away: Annotated[str | None, Field(description="Text of the opposite direction; null: the mean product.")] = None
    where: Annotated[dict[str, Any], Field(description="As in /search.")] = {}
    steps: Annotated[int, Field(ge=1, le=50, description="The most products.")] = 8
    thumbnail: Thumbnail = 0

    def work(self, config: ServeConfig) -> Work:
        """The start, within the limits."""
        if not self.text.strip():
            raise RequestError("the text is empty: say what to move towards")
        for text in (self.text, self.away or "", self.product or "", json.dumps(self.where, ensure_ascii=False)):
            _check_text(text, config)
        options = self.model_dump(include={"product", "text", "away", "where", "steps", "thumbnail"})
        return Work("recommend", _images(self.image, config) if self.image is not None else (), options)


class ExplainBody(Body):
    """An image, and the texts whose evidence in it is wanted."""

    image: Annotated[str, Field(description="A data URI.")]
    texts: Annotated[list[str], Field(max_length=4, description="Texts; without any the selection maps of an E2.")] = []

    def work(self, config: ServeConfig) -> Work:
        """The image and texts, within the limits."""
        for text in self.texts:
            _check_text(text, config)
        return Work("explain", _images(self.image, config), {"texts": self.texts})


class ClassifyBody(Body):
    """Images, and the names to choose from."""

    images: Images
    labels: Annotated[
        list[str] | dict[str, str], Field(description="Names, or names with the texts that represent them.")
    ]
    templates: Annotated[list[str], Field(description="Texts with a slot {} for the label.")] = ["{}"]
    features: Annotated[
        Literal["global", "region", "both"], Field(description="Of an E2 also an entity's region, or both.")
    ] = "global"
    entity: Annotated[str | None, Field(description="Whose region.")] = None
    region_weight: Annotated[float, Field(ge=0, le=1, description="The region's share of both.")] = 0.5

    def work(self, config: ServeConfig) -> Work:
        """The images and labels, within the limits."""
        labels = self.labels if isinstance(self.labels, dict) else dict.fromkeys(self.labels)
        if len(labels) != len(self.labels):
            raise RequestError("a label occurs more than once: each class needs another name")
        if len(labels) * len(self.templates) > MAX_LABELS:
            raise RequestError(f"{len(labels) * len(self.templates):,} labels in templates; give up to {MAX_LABELS:,}")
        texts = {label: label if text is None else text for label, text in labels.items()}
        for text in (*texts, *texts.values(), *self.templates):
            _check_text(text, config)
        options = self.model_dump(include={"templates", "features", "entity", "region_weight"})
        return Work("classify", _images(self.images, config), options | {"labels": texts})


class TagsBody(Body):
    """Images whose tags are predicted."""

    images: Images

    def work(self, config: ServeConfig) -> Work:
        """The images, within the limits."""
        return Work("tags", _images(self.images, config))


def _images(images: str | Sequence[str], config: ServeConfig) -> tuple[str | bytes, ...]:
    return _items([ImageItem(image=image) for image in ([images] if isinstance(images, str) else images)], config)


def _items(given: Sequence[str | ImageItem], config: ServeConfig) -> tuple[str | bytes, ...]:
    """Texts as they are, images as their encoded bytes."""
    if not 1 <= len(given) <= config.max_items:
        raise RequestError(f"{len(given)} items; give 1 to {config.max_items} in a request")
    items: list[str | bytes] = []
    for item in given:
        if isinstance(item, ImageItem) or item.startswith(DATA_URI):
            items.append(_image_bytes(item.image if isinstance(item, ImageItem) else item))
            continue
        _check_text(item, config)
        if not item.strip():
            raise RequestError("a text is empty")
        items.append(item)
    return tuple(items)


def _check_text(text: str, config: ServeConfig) -> None:
    if len(text) > config.max_text:
        raise RequestError(f"a text of {len(text):,} characters; this service takes up to {config.max_text:,}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError("a text is not valid Unicode (a lone surrogate)") from error


def _image_bytes(uri: str) -> bytes:
    """The bytes of a data URI; nothing is ever fetched."""
    head, comma, data = uri.partition(",")
    if not uri.startswith(DATA_URI) or not comma or not head.endswith(";base64"):
        raise RequestError(
            f"'{uri[:40]}' is not an image: give a data URI, as in data:image/jpeg;base64,... (URLs are never fetched)"
        )
    try:
        return base64.b64decode(data, validate=True)
    except ValueError as error:
        raise RequestError(f"the base64 of an image is damaged ({error})") from error
