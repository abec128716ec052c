"""Every key of building an index of products, changing it, searching it, and measuring the search."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from omegaconf import MISSING

from e2fashion.literals import TEXT_VALUES
from e2fashion.options import Computing, Preprocessing
from e2fashion.types import E2FashionError


def check_score_weight(weight: float | None) -> None:
    """Raise an E2FashionError for a weight of the regional score that is negative or not finite."""
    if weight is not None and not 0.0 <= weight < math.inf:
        raise E2FashionError(f"region_weight is {weight}; give a number from 0")


@dataclass
class EmbedConfig(Computing):
    """Which products of a source are embedded, and how."""

    split: list[str] = field(default_factory=lambda: ["all"])
    """Splits of a catalogue, or ``all``."""
    product: Literal["file", "folder"] | None = None
    """What a product is among images in files: each of them, or a folder, whose images are its views. Null: as the
    index was built, else ``file``."""
    commit_rows: int = 8192
    """Images that are written at once, and the most that an interrupt loses."""
    batch_size: int = 64
    """Images per step."""
    workers: int = 0
    """Processes that decode images; 0: the main process. With ``engine=ray`` actors that also embed, at least 1."""
    engine: Literal["local", "ray"] = "local"
    """What embeds: this process, or actors of Ray (extra ``ray``) with ``threads`` cores each (null: 1)."""
    address: str | None = None
    """A Ray cluster: ``host:port``, or ``auto`` for the one that runs on this machine; null: one is started."""
    on_error: Literal["stop", "skip"] = "stop"
    """``skip`` leaves images that cannot be read out and lists them in the index."""

    def __post_init__(self) -> None:
        for name, least in (("commit_rows", 1), ("batch_size", 1), ("workers", int(self.engine == "ray"))):
            if (value := getattr(self, name)) < least:
                raise E2FashionError(f"{name} is {value}; give a number from {least}")
        if self.address is not None and self.engine != "ray":
            raise E2FashionError(
                f"address is '{self.address}', which engine={self.engine} does not use: add engine=ray"
            )


@dataclass
class ContentConfig(EmbedConfig):
    """What an index is made of; later changes keep to it."""

    numbers: list[str] = field(default_factory=list)
    """Tags whose texts are parsed as numbers, with currency signs, thousands and a decimal comma: ``1.299,00 €``. Tags
    whose values all are plain numbers need not be named."""
    texts: list[str] = field(default_factory=list)
    """Tags that stay texts although all of their values are numbers."""
    lists: dict[str, str] = field(default_factory=dict, metadata={TEXT_VALUES: True})
    """Tags with several values, and what separates them: ``lists.colors=|``."""
    vector: Literal["image", "image_text"] = "image"
    """What a vector is made from: the image, or the image and the product's text by the model's template."""
    text_weight: float | None = None
    """The text's share of such a vector, from 0 to 1; null: the one with which the names of tags find most
    products that carry them, on the catalogue's val split."""

    similarity: Literal["global", "global+regions"] = "global"
    """What a vector is compared by: the image alone, or also the regions of the model's entities, which the tags that a
    query states are compared with. Source: ours, docs/method.md."""
    region_weight: float | None = None
    """Weight of the tags' similarity to their regions in that score; null: the one that is stored with the model."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_score_weight(self.region_weight)
        if self.region_weight is not None and self.similarity == "global":
            raise E2FashionError(
                f"region_weight is {self.region_weight:g}, but similarity=global compares no regions: give "
                "similarity=global+regions, or leave region_weight out"
            )
        if self.text_weight is not None and not 0.0 <= self.text_weight <= 1.0:
            raise E2FashionError(f"text_weight is {self.text_weight}; give the text's share, from 0 to 1")
        if self.text_weight is not None and self.vector == "image":
            raise E2FashionError(
                f"text_weight is {self.text_weight:g}, but vector=image has no text: give vector=image_text, or leave "
                "text_weight out"
            )


@dataclass
class IndexBuildConfig(Preprocessing, ContentConfig):
    """An index of products. A build that was interrupted continues behind what was written."""

    source: str = MISSING
    """A catalogue, a folder of images, or a text file that lists images, one a line."""
    model: str = MISSING
    """Run folder, model folder, or hub name of a CLIP."""
    output: str = MISSING
    """Folder of the index, or its address ``s3://<bucket>/<index>`` at an object store."""
    name: str | None = None
    """Name of the model in tables and messages; null: its folder's name."""


@dataclass
class IndexConfig:
    """What an index holds."""

    index: str = MISSING
    """Folder or address of the index; the first argument."""


@dataclass
class IndexCompactConfig(IndexConfig):
    """What is done with the files of an index."""

    lists: bool = False
    """Also build the inverted lists of approximate search; above a million images they are built in any case."""


@dataclass
class OpenIndexConfig(IndexConfig, Computing):
    """An index whose encoder is needed."""

    model: str | None = None
    """Folder or hub name of the encoder; null: the one that the index was built with."""


@dataclass
class IndexSyncConfig(EmbedConfig, OpenIndexConfig):
    """The products that an index shall hold, and no others."""

    source: str = MISSING
    """A catalogue, a folder of images, or a text file that lists images, one a line."""


@dataclass
class IndexAddConfig(IndexSyncConfig):
    """Products to add to an index."""

    replace: bool = False
    """Replace products that the index holds and that differ; false: they are an error."""


@dataclass
class IndexRemoveConfig(IndexConfig):
    """Products to remove from an index."""

    ids: list[str] = field(default_factory=list)
    """Product ids."""
    file: str | None = None
    """A text file with one product id a line."""


@dataclass
class IndexEvaluateConfig(OpenIndexConfig):
    """How well an index is searched: products by their text, categories by their name."""

    columns: list[str] = field(default_factory=list)
    """Tags whose values are queries by name."""
    template: str = "{}"
    """Text of such a query, with a slot ``{}`` for the value."""
    min_products: int = 10
    """Values of fewer products are not queried: their P@10 could not be 100."""
    region_weight: float | None = None
    """Weight of the tags that queries name, in an index with regions; null: the index's, 0: the global score."""
    views: Literal["best", "mean", "first"] = "first"
    """The vectors of a product that count, as in a search, whose default is ``best``."""
    resamples: int = 1000
    """Bootstrap resamples of the confidence intervals."""
    seed: int = 0
    """Seed of the bootstrap."""
    output: str | None = None
    """Records file; null: ``results.jsonl`` of the run folder, else of ``runs/search/<model>``."""


@dataclass
class QueryConfig(OpenIndexConfig):
    """Which products are searched, and what becomes of the result."""

    where: dict[str, Any] = field(default_factory=dict, metadata={TEXT_VALUES: True})
    """Tags that products must have: ``where.season=summer`` (in any case), one of several ``where.brand=[Puma,Nike]``,
    none ``where.brand=null``, a number or a range with both ends ``where.price=10..50``, ``where.price=..50``. Values
    are text as written: ``where.size=010``; a tag that is called null is ``[null]``."""
    where_not: dict[str, Any] = field(default_factory=dict, metadata={TEXT_VALUES: True})
    """Tags that products must not have, written as in ``where``; ``where_not.brand=null``: products with a brand."""
    filter: str | None = None
    """A condition on tags in SQL: ``filter="price < 50 AND brand != 'Puma'"``; names with blanks in backticks."""
    strict: bool = False
    """Whether a value in ``where`` that no product has is an error; false: a warning, and nothing is found."""
    figure: str | None = None
    """A PNG of the products that are returned; null: none."""
    verify: bool = True
    """Compare the index's files, or vectors, with their checksums first."""


@dataclass
class SearchConfig(QueryConfig):
    """A search by text, by image, or by both."""

    text: str | None = None
    """The text to search for."""
    image: str | None = None
    """The image to search for."""
    weight: float = 0.5
    """The text's share of a query of both, from 0 to 1."""
    tags: dict[str, Any] = field(default_factory=dict, metadata={TEXT_VALUES: True})
    """Tags to compare with the regions of their entities, in an index with ``similarity=global+regions``:
    ``tags.brand=Nike``. Without any: those of the index's products that the text names."""
    region_weight: float | None = None
    """Weight of that in the score; null: the index's, 0: the global score."""
    top: int = 10
    """Number of products."""
    views: Literal["best", "mean", "first"] = "best"
    """The vectors of a product that count: the one that fits best, their mean, or that of its first view."""
    engine: Literal["auto", "exact", "approximate"] = "auto"
    """``exact``, ``approximate`` (LanceDB's inverted lists, see ``index compact``), or ``auto``: exact up to a million
    images."""


@dataclass
class RecommendConfig(QueryConfig):
    """A path from a product or an image towards a text, as a graded list of products."""

    product: str | None = None
    """The product of the index to start from."""
    image: str | None = None
    """An image to start from instead."""
    text: str = MISSING
    """Text of the direction."""
    away: str | None = None
    """Text of the opposite direction; null: the mean of all products that ``where`` leaves."""
    steps: int = 8
    """Steps of the path, and the most products of the list."""
    stride: float = 0.1
    """Length of a step; vectors have length 1."""
    support: int = 50
    """Images nearest to a text, whose mean represents it."""
