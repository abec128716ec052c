"""Fashion-Gen's official HDF5 files, read a few rows at a time (13 GB stay on disk).

The release has train and validation; published numbers are on validation. Here that file is ``test``, and the
preparation carves val out of train by product (``val_fraction``), so that nothing is chosen on what is reported.
"""

from __future__ import annotations

import codecs
import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image

from e2fashion.data.images import encode_jpeg, encode_png
from e2fashion.data.sources.base import SourceProblem, SourceRow
from e2fashion.escape import visible
from e2fashion.types import E2FashionError

_FILES = {"train": "fashiongen_256_256_train.h5", "test": "fashiongen_256_256_validation.h5"}
_TAGS = {
    **{"brand": "input_brand", "season": "input_season", "sub_category": "input_subcategory"},
    **{"composition": "input_composition", "category": "input_category", "gender": "input_gender"},
    "department": "input_department",
}
_TEXTS = {name: f"input_{name}" for name in ("description", "concat_description", "name")}
_IMAGE = "input_image"
_PRODUCT = "input_productID"
ROWS_AT_ONCE = 64
_JPEG_QUALITY = 95


@dataclass
class FashionGenSource:
    """Fashion-Gen's two HDF5 files. Views are numbered in the order of a product's rows."""

    path: str
    """Folder of both HDF5 files."""
    text: Literal["description", "concat_description", "name"] = "description"
    """The field that becomes the description."""
    image_format: Literal["png", "jpeg"] = "png"
    """``png`` keeps the pixels exactly (about 40 kB an image); ``jpeg`` (quality 95, full color resolution) takes a
    third of the space and decodes faster, at the price of a second lossy compression."""
    encoding: str = "latin-1"
    """Encoding of the texts."""
    missing_values: list[str] = field(default_factory=lambda: ["nan", "None", "N/A", "NA", "null", "-"])
    """Texts that mean a missing one; upper and lower case are equal."""
    name: ClassVar[str] = "fashiongen"

    def __post_init__(self) -> None:
        if self.text not in _TEXTS:
            raise E2FashionError(f"text='{self.text}': write one of {', '.join(_TEXTS)}.")
        if self.image_format not in ("png", "jpeg"):
            raise E2FashionError(f"image_format='{self.image_format}': write png or jpeg.")
        try:
            codecs.lookup(self.encoding)
        except LookupError as error:
            raise E2FashionError(f"encoding='{self.encoding}' is unknown: write latin-1, cp1252 or utf-8.") from error
        self._missing = {value.strip().casefold() for value in self.missing_values}
        self._columns = (_PRODUCT, _TEXTS[self.text], *_TAGS.values())
        self._lengths = {split: self._check(Path(self.path) / file) for split, file in _FILES.items()}

    @property
    def tag_columns(self) -> tuple[str, ...]:
        """Brand, season, sub_category, composition, category, gender and department."""
        return tuple(_TAGS)

    def __len__(self) -> int:
        return sum(self._lengths.values())

    def rows(self) -> Iterator[SourceRow | SourceProblem]:
        """All rows of the train file, then those of the validation file."""
        next_view: dict[str, int] = {}
        for split, file in _FILES.items():
            with _open(Path(self.path) / file) as opened:
                for start in range(0, self._lengths[split], ROWS_AT_ONCE):
                    rows = range(start, min(start + ROWS_AT_ONCE, self._lengths[split]))
                    for number, row in zip(rows, self._read(opened, rows), strict=True):
                        where = f"{file} row {number}"
                        if row is None:
                            remedy = "the file is damaged there: fetch it again"
                            yield SourceProblem(where, "", _IMAGE, "HDF5 cannot read it", remedy, "damaged row")
                            continue
                        image, texts = row
                        product_id = texts[_PRODUCT]
                        view = next_view.get(product_id, 0)
                        next_view[product_id] = view + 1
                        yield SourceRow(
                            row=where,
                            product_id=product_id,
                            image=partial(self._encoded, image),
                            description=self._present(texts[_TEXTS[self.text]]) or "",
                            tags={tag: self._present(texts[column]) for tag, column in _TAGS.items()},
                            view=view,
                            split=split,
                        )

    def _read(self, opened: Any, rows: range) -> list[tuple[np.ndarray[Any, Any], dict[str, str]] | None]:
        """The image and the texts of every row; None for rows that HDF5 cannot read."""
        chunk = slice(rows.start, rows.stop)
        try:
            images = opened[_IMAGE][chunk]
            cells = {column: opened[column][chunk] for column in self._columns}
        except (OSError, RuntimeError, ValueError, TypeError):  # h5py raises these over damaged chunks
            if len(rows) == 1:
                return [None]
            return [row for number in rows for row in self._read(opened, range(number, number + 1))]
        return [
            (image, {column: _as_text(values[number], self.encoding) for column, values in cells.items()})
            for number, image in enumerate(images)
        ]

    def _present(self, text: str) -> str | None:
        return None if text.strip().casefold() in self._missing else text

    def _encoded(self, pixels: np.ndarray[Any, Any]) -> bytes:
        """The file of ``pixels`` (height, width, 3) uint8."""
        image = Image.fromarray(pixels)
        return encode_png(image) if self.image_format == "png" else encode_jpeg(image, _JPEG_QUALITY)

    def _check(self, file: Path) -> int:
        """The number of rows of ``file``, once every data set that is needed has been found in it."""
        if not file.is_file():
            raise E2FashionError(
                f"{file} is missing. Fashion-Gen is two files, {' and '.join(_FILES.values())}, in one folder "
                f"(path=<folder>). They come from its authors on request: see 'Fashion-Gen: The Generative Fashion "
                f"Dataset and Challenge' (Rostamzadeh et al., 2018)."
            )
        with _open(file) as opened, _one_error(file):
            for column in (_IMAGE, *self._columns):
                if not hasattr(opened.get(column), "shape"):  # a group, or nothing
                    close = difflib.get_close_matches(column, list(opened), n=1)
                    hint = f" Did you mean '{close[0]}'?" if close else ""
                    raise E2FashionError(
                        f"{file} has no data set '{column}'.{hint} It has: {', '.join(opened)}. Use the official file."
                    )
            shape = opened[_IMAGE].shape
            if len(shape) != 4 or shape[-1] != 3 or opened[_IMAGE].dtype != np.uint8:
                raise E2FashionError(
                    f"{file}: '{_IMAGE}' has shape {shape} and type {opened[_IMAGE].dtype}; expected (rows, height, "
                    f"width, 3) of uint8. Use the official file."
                )
            for column in self._columns:
                size_of = opened[column].shape
                if not size_of or size_of[0] != shape[0] or any(size != 1 for size in size_of[1:]):
                    raise E2FashionError(
                        f"{file}: '{column}' has shape {size_of}, '{_IMAGE}' has {shape[0]:,} rows. Use the official "
                        "file."
                    )
            return int(shape[0])


@contextmanager
def _one_error(file: Path) -> Iterator[None]:
    """What h5py raises over a damaged file, as one of our errors."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        reason = visible(" ".join(str(error).split()))[:200]
        raise E2FashionError(f"{file} is a damaged HDF5 file ({reason}): fetch it again.") from error


def _open(file: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise E2FashionError("Fashion-Gen needs h5py: pip install e2fashion[fashiongen]") from error
    try:
        return h5py.File(file, "r")
    except (OSError, RuntimeError, ValueError) as error:
        raise E2FashionError(
            f"{file} is not a readable HDF5 file ({visible(str(error))}): perhaps an incomplete download "
            f"({file.stat().st_size:,} bytes). Fetch it again."
        ) from error


def _as_text(cell: Any, encoding: str) -> str:
    """One cell, whether it holds encoded bytes, text or a number, in an array of shape (1,) or bare."""
    value = np.asarray(cell, dtype=object).reshape(-1)[0]
    if isinstance(value, bytes):
        return value.decode(encoding, "surrogateescape")
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)
