"""AmazonFashion: titles and brands of an online market, with several images a product.

The release has train and test; the preparation carves val out of train by product (``val_fraction``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from e2fashion.data.sources.base import SourceProblem, SourceRow, added_option
from e2fashion.text_files import read_json
from e2fashion.types import E2FashionError

_PRODUCTS = "meta-fashion.json"
_SPLITS = "split.json"
_IMAGES = "Fashion"
_FIELD = "images"


@dataclass
class AmazonFashionSource:
    """Titles and brands of AmazonFashion.

    The title becomes the description. An empty or missing brand is unknown. Images are views in the order of the list.
    Products that only one of the two files holds are listed as problems.
    """

    path: str
    """Folder of ``meta-fashion.json``, ``split.json`` and the images in ``Fashion``."""
    sub_category: str = ""
    """One sub-category for all products, which the release lacks, so that ``sample_100`` can draw candidates from all
    of them; empty: no such column."""
    unknown_brands: list[str] = field(default_factory=lambda: ["unknown", "nan", "none", "n/a", "null"])
    """Brands that mean an unknown one; upper and lower case are equal."""
    outside: bool = added_option(False)
    """Allow images outside ``path``: file names with ``..``, absolute ones, and links that lead out of it."""
    name: ClassVar[str] = "amazon_fashion"

    def __post_init__(self) -> None:
        folder = Path(self.path)
        self._products = _read(folder / _PRODUCTS, dict, "{asin: {title, brand, images: [file, ...]}}")
        splits = _read(folder / _SPLITS, list, "{train: [asin, ...], test: [asin, ...]}")
        self._split_of: dict[str, str] = {}
        self._twice: list[tuple[str, str]] = []
        for split, products in splits.items():
            for product in map(str, products):
                if self._split_of.setdefault(product, split) != split:
                    self._twice.append((product, split))
        if not (folder / _IMAGES).is_dir():
            raise E2FashionError(f"{folder} has no folder '{_IMAGES}': unpack the images to {_IMAGES}/<asin>/<file>.")
        self._unknown = {brand.strip().casefold() for brand in self.unknown_brands}

    @property
    def tag_columns(self) -> tuple[str, ...]:
        """The brand, and the sub-category where one is given."""
        return ("brand", "sub_category") if self.sub_category else ("brand",)

    def __len__(self) -> int:
        known = (self._products.get(product) for product in self._split_of)
        images = sum(max(1, len(_image_files(facts))) for facts in known)
        return images + len(self._twice) + sum(product not in self._split_of for product in self._products)

    def rows(self) -> Iterator[SourceRow | SourceProblem]:
        """The images of every product of ``split.json`` in its order, then what ``meta-fashion.json`` has beyond."""
        for product, split in self._split_of.items():
            facts, where = self._products.get(product), f"{_PRODUCTS} {product}"
            if facts is None:
                remedy = f"add it to {_PRODUCTS}, or take it out of {_SPLITS}"
                yield SourceProblem(
                    f"{_SPLITS} {split}", product, "product_id", repr(product), remedy, "unknown product"
                )
                continue
            if not (files := _image_files(facts)):
                value = repr(facts.get(_FIELD))
                yield SourceProblem(where, product, _FIELD, value, f"list the files of {product}", "no image")
            for view, file in enumerate(files):
                yield SourceRow(
                    row=where,
                    product_id=product,
                    image=Path(self.path) / _IMAGES / product / file,
                    root=None if self.outside else Path(self.path),
                    description=_text(facts.get("title")),
                    tags=self._tags(facts),
                    view=view,
                    split=split,
                )
        for product, split in self._twice:
            first, remedy = self._split_of[product], f"leave it in one split of {_SPLITS}"
            value = f"'{split}', but it is in '{first}' too"
            yield SourceProblem(f"{_SPLITS} {split}", product, "split", value, remedy, "product in two splits")
        for product in self._products:
            if product not in self._split_of:
                where, remedy = f"{_PRODUCTS} {product}", f"name it in {_SPLITS}"
                yield SourceProblem(where, product, "split", "none", remedy, "in no split")

    def _tags(self, facts: dict[str, Any]) -> dict[str, str | None]:
        brand = _text(facts.get("brand"))
        tags: dict[str, str | None] = {"brand": None if brand.strip().casefold() in self._unknown else brand}
        return {**tags, "sub_category": self.sub_category} if self.sub_category else tags


def _read(file: Path, member: type, layout: str) -> dict[str, Any]:
    """The mapping in a JSON file, each of whose values is a ``member``."""
    if not file.is_file():
        raise E2FashionError(
            f"{file} is missing. AmazonFashion is {_PRODUCTS}, {_SPLITS} and {_IMAGES}/, in one folder: give it with "
            f"path=<folder>."
        )
    content = read_json(file, "the file of the release")
    if not isinstance(content, dict) or not all(isinstance(value, member) for value in content.values()):
        raise E2FashionError(f"{file} is not laid out as {layout}: use the file of the release.")
    return content


def _image_files(facts: dict[str, Any] | None) -> list[str]:
    """The file names of a product; none where the list is missing or no list of names."""
    files = (facts or {}).get(_FIELD)
    return files if isinstance(files, list) and all(isinstance(file, str) and file for file in files) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
