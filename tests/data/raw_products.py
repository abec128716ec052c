"""Small images, an in-memory source, and the layouts of the real sources, made on the spot."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from e2fashion.data.sources.base import SourceProblem, SourceRow

STYLES_HEADER = "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName"


def picture(seed: int = 0, size: tuple[int, int] = (24, 20), kind: str = "JPEG", mode: str = "RGB") -> bytes:
    """An encoded image of noise: every seed gives another one."""
    channels = {"RGB": 3, "L": 1, "CMYK": 4, "RGBA": 4}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    return encoded(Image.fromarray(pixels[..., 0] if channels == 1 else pixels, mode=mode), kind)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def row(number: int, **changes: Any) -> SourceRow:
    """A sound row; equal numbers give equal rows."""
    values: dict[str, Any] = {
        "row": f"table line {number}",
        "product_id": f"p{number}",
        "image": picture(number),
        "description": f"Garment number {number}",
        "tags": {"brand": f"brand {number % 3}", "season": None},
    }
    return SourceRow(**{**values, **changes})


class ListSource:
    """A source whose rows are given."""

    name: ClassVar[str] = "list"

    def __init__(self, given: Sequence[SourceRow | SourceProblem]) -> None:
        self.given = given

    @property
    def tag_columns(self) -> tuple[str, ...]:
        return ("brand", "season")

    def __len__(self) -> int:
        return len(self.given)

    def rows(self) -> Iterator[SourceRow | SourceProblem]:
        return iter(self.given)


class PricedSource(ListSource):
    """Brands and prices."""

    @property
    def tag_columns(self) -> tuple[str, ...]:
        return ("brand", "price")


def write_csv(file: Path, header: Iterable[str], records: Iterable[Sequence[str]], **options: Any) -> Path:
    with file.open("w", newline="", encoding=options.pop("encoding", "utf-8")) as stream:
        writer = csv.writer(stream, **options)
        writer.writerow(header)
        writer.writerows(records)
    return file


def write_styles(folder: Path, names: Sequence[str]) -> Path:
    """The Kaggle layout: lines as they are on Kaggle, the last column never quoted."""
    (folder / "images").mkdir(parents=True)
    lines = [STYLES_HEADER]
    for number, name in enumerate(names, start=1):
        lines.append(f"{number},Men,Apparel,Topwear,Shirts,NA,Fall,2011,Casual,{name}")
        (folder / "images" / f"{number}.jpg").write_bytes(picture(number))
    (folder / "styles.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_fashiongen(folder: Path, views: dict[str, Sequence[int]]) -> Path:
    """Both HDF5 files in the official layout; ``views`` holds the number of views of every product per file."""
    import h5py

    folder.mkdir(parents=True, exist_ok=True)
    first_product = 100
    for part, counts in views.items():
        products = [first_product + number for number, count in enumerate(counts) for _ in range(count)]
        first_product += len(counts)
        generator = np.random.default_rng(first_product)
        with h5py.File(folder / f"fashiongen_256_256_{part}.h5", "w") as file:
            pixels = generator.integers(0, 256, (len(products), 256, 256, 3), dtype=np.uint8)
            file["input_image"] = pixels
            file["index"] = np.arange(len(products))[:, None]
            file["index_2"] = np.arange(len(products))[:, None]
            file["input_productID"] = np.array(products, dtype=np.float64)[:, None]
            file["input_msrpUSD"] = np.full((len(products), 1), 95.0)
            texts = {
                "name": "Été shirt",
                "description": "Long sleeve shirt {}",
                "concat_description": "Long sleeve shirt. Été {}",
                "category": "TOPS",
                "subcategory": "SHIRTS",
                "brand": "Comme",
                "season": "SS2017",
                "composition": "100% cotton.",
                "gender": "Men",
                "department": "CLOTHING",
                "pose": "id_gridfs_1",
            }
            for column, text in texts.items():
                cells = [text.format(product).encode("latin-1") for product in products]
                file[f"input_{column}"] = np.array(cells, dtype="S60")[:, None]
    return folder
