"""Every key of the service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from omegaconf import MISSING

from e2fashion.options import Computing, Preprocessing
from e2fashion.types import E2FashionError

KEY_VARIABLE = "E2FASHION_API_KEY"
"""Environment variable with the key that clients send as ``Authorization: Bearer <key>`` or ``X-API-Key: <key>``."""
LOOPBACK = "127.0.0.1"


@dataclass
class ServeConfig(Preprocessing, Computing):
    """An encoder over HTTP: embeddings, search in an index, zero-shot classification, tags. docs/serving.md."""

    model: str = MISSING
    """Run folder, model folder, or hub name of a CLIP."""
    index: str | None = None
    """Folder of the index that ``/search`` reads, or its address ``s3://<bucket>/<index>``; null: no search."""
    tags: str | None = None
    """The file that ``tags fit`` wrote; null: ``tags.json`` in the run folder, if there is one."""
    name: str | None = None
    """Name of the model in answers; null: its folder's name."""
    host: Literal["127.0.0.1", "0.0.0.0", "::"] = "127.0.0.1"
    """Address to listen at; all but the loopback address need a key in the variable ``E2FASHION_API_KEY``."""
    port: int = 8000
    """Port to listen at."""
    batch_size: int = 16
    """The most requests that are encoded together, and images or texts per step."""
    batch_wait: float = 2.0
    """Milliseconds for which a batch that is not full waits for further requests."""
    workers: int = 1
    """Processes per device, each with the model."""
    timeout: float = 30.0
    """Seconds after which a request is given up."""
    max_waiting: int = 128
    """Requests that may wait at a time; further ones are answered with status 503."""
    max_body: int = 16
    """Largest body of a request, in MB."""
    max_pixels: int = 20_000_000
    """Largest image."""
    max_items: int = 64
    """The most images and texts of a request."""
    max_text: int = 4000
    """Longest text, in characters."""
    max_top: int = 200
    """The most products that a search returns."""

    def __post_init__(self) -> None:
        if not 1024 <= self.port <= 65535:
            raise E2FashionError(f"port is {self.port}; give one from 1024 to 65535")
        counts = ("batch_size", "workers", "max_waiting", "max_body", "max_pixels", "max_items", "max_text", "max_top")
        for name in counts:
            if (value := getattr(self, name)) < 1:
                raise E2FashionError(f"{name} is {value}; give a number from 1")
        if self.batch_wait < 0 or not self.timeout > 0:
            raise E2FashionError(
                f"batch_wait is {self.batch_wait:g} and timeout {self.timeout:g}; give milliseconds from 0 and seconds "
                "above 0"
            )


@dataclass
class DemoConfig(ServeConfig):
    """A page that shows a model, or two side by side: search, tags, and where they look. docs/serving.md."""

    other: str | None = None
    """A second model."""
    index_b: str | None = None
    """Index of the second model, of the same products."""
    tags_b: str | None = None
    """As ``tags``, of the second model."""
    name_b: str | None = None
    """As ``name``, of the second model."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.index is None or (self.other is not None and self.index_b is None):
            key = "index" if self.index is None else "index_b"
            raise E2FashionError(f"the page searches: give {key}=<folder>")
