"""Every key of building an index of products, changing it, searching it, and measuring the search."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from omegaconf import MISSING

from e2fashion.literals import TEXT_VALUES
from e2fashion.options import Computing, Preprocessing
from e2fashion.types import E2FashionError


@dataclass
class EmbedConfig(Computing):
    """Which products of a source are embedded, and how."""

    split: list[str] = field(default_factory=lambda: ["all"])
    """Splits of a catalogue, or ``all``; the first view of every product."""
    shard_rows: int = 8192
    """Products per file, and the most that an interrupted build loses."""
    batch_size: int = 64
    """Images per step."""
    workers: int = 0
    """Processes that decode images; 0: the main process."""
    on_error: Literal["stop", "skip"] = "stop"
    """``skip`` leaves images that cannot be read out and lists them in the index."""

    def __post_init__(self) -> None:
        for name, least in (("shard_rows", 1), ("batch_size", 1), ("workers", 0)):
            if (value := getattr(self, name)) < least:
                raise E2FashionError(f"{name} is {value}; give a number from {least}")


@dataclass
class IndexBuildConfig(Preprocessing, EmbedConfig):
    """An index of products. A build that was interrupted continues behind its last whole shard."""

    source: str = MISSING
    """A catalogue, a folder of images, or a text file that lists images, one a line."""
    model: str = MISSING
    """Run folder, model folder, or hub name of a CLIP."""
    output: str = MISSING
    """Folder of the index."""
    name: str | None = None
    """Name of the model in tables and messages; null: its folder's name."""


@dataclass
class IndexConfig:
    """What an index holds."""

    index: str = MISSING
    """Folder of the index; the first argument."""


@dataclass
class OpenIndexConfig(IndexConfig, Computing):
    """An index whose encoder is needed."""

    model: str | None = None
    """Folder or hub name of the encoder; null: the one that the index was built with."""


@dataclass
class IndexChangeConfig(EmbedConfig, OpenIndexConfig):
    """Products to add to an index, or to embed again."""

    source: str = MISSING
    """A catalogue, a folder of images, or a text file that lists images, one a line."""


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
    """Values of fewer products are no queries: their P@10 could not be 100."""
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
    """Tags that products must have: ``where.season=Summer``, one of several ``where.brand=[Puma,Nike]``, none
    ``where.brand=null``. Values are text as written: ``where.size=010``; a tag that is called null is ``[null]``."""
    figure: str | None = None
    """A PNG of the products that are returned; null: none."""
    verify: bool = True
    """Compare the checksums of all shards first."""


@dataclass
class SearchConfig(QueryConfig):
    """A search by text, by image, or by both."""

    text: str | None = None
    """The text to search for."""
    image: str | None = None
    """The image to search for."""
    weight: float = 0.5
    """The text's share of a query of both, from 0 to 1."""
    top: int = 10
    """Number of products."""
    engine: Literal["auto", "exact", "faiss"] = "auto"
    """``exact``, ``faiss`` (extra ``ann``), or ``auto``: exact up to a million products."""


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
