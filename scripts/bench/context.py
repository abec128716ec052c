"""What every benchmark gets: its options, a temporary folder, and products to work on."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from PIL import Image

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.config import build_source
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.types import E2FashionError

KAGL = "fashion-product-images"
KAGL_LARGE = "fashion-product-images-1k-hires"
LARGE_PIXELS = 256
JPEG_QUALITY = 90


@dataclass(frozen=True)
class Products:
    """A catalogue, where its products come from, five columns that hold a tag of (nearly) every product, and the
    template of the text that ``configs/run`` trains on."""

    catalogue: Catalogue
    origin: str
    columns: tuple[str, ...]
    text: str


@dataclass
class Context:
    """Options of one call, and the products, prepared once each when first used.

    ``turns``: how often every variant runs; ``queries``: of the memory measurement; ``index_products``: of the larger
    index whose memory is measured; ``model``: a trained E2 for the measurement of flips (None: random weights).
    """

    folder: Path
    turns: int = 5
    queries: int = 2_000
    index_products: int = 100_000
    model: Path | None = None
    data: Path | None = field(default_factory=lambda: _data_folder())
    _prepared: dict[str, Products] = field(default_factory=dict)

    def products(self, count: int = 1_600) -> Products:
        """Products of KAGL where ``E2FASHION_DATA`` names the folder that holds it, else of SynthFashion."""
        return self._products(f"products-{count}", KAGL, count, None)

    def large_images(self, count: int = 128) -> Products:
        """Products with JPEGs of 256 x 256 pixels, as Fashion-Gen has them."""
        return self._products(f"large-{count}", KAGL_LARGE, count, LARGE_PIXELS)

    def _products(self, name: str, kagl: str, count: int, pixels: int | None) -> Products:
        if name not in self._prepared:
            folder = self.folder / name
            if self.data is None:
                self._prepared[name] = _synthetic(folder, count, pixels or 128)
            else:
                self._prepared[name] = _kagl(self.data / kagl, folder, count, pixels)
        return self._prepared[name]


def _synthetic(folder: Path, count: int, pixels: int) -> Products:
    source = build_source("synthetic", {"products": count, "image_size": pixels, "views": 1})
    catalogue = prepare_catalogue(source, folder, progress=False)
    # SynthFashion has four tags; the official code's fifth group is the description.
    columns = ("sub_category", "brand", "season", "composition", "description")
    text = "{sub_category} . {brand} . {season} . {description}"
    return Products(catalogue, f"{count} products of SynthFashion", columns, text)


def _kagl(data: Path, folder: Path, count: int, pixels: int | None) -> Products:
    """The first ``count`` products by a fixed shuffle, their images squeezed to ``pixels`` if that is given."""
    excerpt = folder.with_name(f"{folder.name}-source")
    (excerpt / "images").mkdir(parents=True)
    rows = pd.read_csv(data / "metadata.csv", dtype=str, keep_default_na=False)
    rows = rows.sample(n=min(count, len(rows)), random_state=0)
    rows["image"] = [str(_image(data / image, excerpt, pixels)) for image in rows["image"]]
    rows.to_csv(excerpt / "metadata.csv", index=False)
    source = build_source("kagl", {"path": str(excerpt), "outside": True})
    catalogue = prepare_catalogue(source, folder, progress=False)
    columns = ("sub_category", "brand", "season", "article_type", "colour")
    text = "{article_type} . {brand} . {season} . {description}"
    return Products(catalogue, f"{len(rows)} products of KAGL", columns, text)


def _image(file: Path, excerpt: Path, pixels: int | None) -> Path:
    if pixels is None:
        return file.resolve()
    target = (excerpt / "images" / file.name).resolve()
    with Image.open(file) as image:
        square = image.convert("RGB").resize((pixels, pixels), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    square.save(buffer, "JPEG", quality=JPEG_QUALITY)
    target.write_bytes(buffer.getvalue())
    return target


def _data_folder() -> Path | None:
    named = os.environ.get("E2FASHION_DATA")
    if not named:
        return None
    folder = Path(named)
    if not folder.is_dir():
        raise E2FashionError(f"E2FASHION_DATA is '{named}', which is no folder: name the one with {KAGL}, or unset it.")
    return folder
