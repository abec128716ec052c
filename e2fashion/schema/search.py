"""Every key of building an index of products, changing it, searching it, and measuring how well it is searched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from omegaconf import MISSING

from e2fashion.schema.common import Computing


@dataclass
class IndexBuildConfig(Computing):
    """An index of the products in ``source``, a catalogue, a folder of pictures, or a text file that lists pictures.

    ``output`` is its folder. A build that was interrupted goes on behind its last whole shard.
    """

    source: str = MISSING
    model: str = MISSING
    output: str = MISSING
    split: str = "all"
    name: str | None = None
    shard_rows: int = 8192
    batch_size: int = 64
    workers: int = 0
    on_error: Literal["stop", "skip"] = "stop"
    resize: Literal["squeeze", "crop", "pad"] | None = None
    size: int | None = None


@dataclass
class IndexChangeConfig(Computing):
    """Products of ``source`` that are added to an ``index``, or embedded anew; ``model`` null is what built it."""

    index: str = MISSING
    source: str = MISSING
    split: str = "all"
    model: str | None = None
    shard_rows: int = 8192
    batch_size: int = 64
    workers: int = 0
    on_error: Literal["stop", "skip"] = "stop"


@dataclass
class IndexRemoveConfig:
    """Products that leave an ``index``: ``ids`` with commas between them, and those that ``file`` lists, one a line."""

    index: str = MISSING
    ids: str = ""
    file: str | None = None


@dataclass
class IndexEvaluateConfig(Computing):
    """How well an ``index`` is searched: products by their text, and values of ``columns`` by their name.

    ``output`` is the records file (null: ``results.jsonl`` of the run folder, else of ``runs/search/<model>``).
    """

    index: str = MISSING
    columns: str = ""
    template: str = "{}"
    min_products: int = 10
    model: str | None = None
    resamples: int = 1000
    seed: int = 0
    output: str | None = None


@dataclass
class SearchConfig(Computing):
    """A search of an ``index`` by ``text``, by ``image``, or by both.

    ``where`` keeps products with a tag's value, or one of several. ``figure`` is a PNG of what was found.
    """

    index: str = MISSING
    text: str | None = None
    image: str | None = None
    weight: float = 0.5
    where: dict[str, Any] = field(default_factory=dict)
    top: int = 10
    engine: Literal["auto", "exact", "faiss"] = "auto"
    figure: str | None = None
    model: str | None = None
    verify: bool = True


@dataclass
class RecommendConfig(Computing):
    """A walk from ``product``, or ``image``, towards ``text`` and away from ``away`` (null: from the mean product)."""

    index: str = MISSING
    product: str | None = None
    image: str | None = None
    text: str = MISSING
    away: str | None = None
    where: dict[str, Any] = field(default_factory=dict)
    steps: int = 8
    stride: float = 0.1
    support: int = 50
    figure: str | None = None
    model: str | None = None
    verify: bool = True
