"""A catalogue in memory for the tests of what reads one."""

from __future__ import annotations

import io
from dataclasses import dataclass

import datasets
import numpy as np
from PIL import Image

TAG_COLUMNS = ("brand", "season")


def picture(colour: int, height: int = 20, width: int = 16) -> bytes:
    """A PNG with a gradient, so that mirroring and cropping show, and ``colour`` as its red."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = colour
    pixels[..., 1] = np.arange(width) * 10
    pixels[..., 2] = np.arange(height)[:, None] * 10
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class StubCatalogue:
    """What :class:`e2fashion.data.catalogue.Catalogue` offers, without files."""

    rows: dict[str, datasets.Dataset]
    tag_columns: tuple[str, ...] = TAG_COLUMNS

    @property
    def split_names(self) -> tuple[str, ...]:
        return tuple(self.rows)

    def split(self, name: str) -> datasets.Dataset:
        return self.rows[name]


def stub_split(products: int, prefix: str = "p") -> datasets.Dataset:
    """Product i has 1 + i % 3 views; its red is 10 i + view; every fourth lacks a brand, every third a season."""
    columns: dict[str, list] = {
        name: [] for name in ("product_id", "view", "image", "description", "group", *TAG_COLUMNS)
    }
    for product in range(products):
        for view in range(1 + product % 3):
            columns["product_id"].append(f"{prefix}{product}")
            columns["view"].append(view)
            columns["image"].append(picture((10 * product + view) % 256))
            columns["description"].append(f"a shirt number {product}")
            columns["group"].append(f"g{product}")
            columns["brand"].append(None if product % 4 == 3 else f"Brand {product % 2}")
            columns["season"].append(None if product % 3 == 2 else "Summer")
    features = datasets.Features({name: datasets.Value("string") for name in columns})
    features["view"], features["image"] = datasets.Value("int32"), datasets.Value("binary")
    return datasets.Dataset.from_dict(columns, features=features)


def stub_catalogue(train: int = 12, val: int = 5) -> StubCatalogue:
    return StubCatalogue({"train": stub_split(train), "val": stub_split(val, "v"), "test": stub_split(4, "t")})
