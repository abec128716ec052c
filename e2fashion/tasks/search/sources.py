"""Products to embed: the images of a catalogue, or images in files."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute
from torch import Tensor

from e2fashion.data.catalogue import MANIFEST_FILE, Catalogue
from e2fashion.data.dataset import CatalogueRows
from e2fashion.data.decode import read_pixels
from e2fashion.data.image_files import COMMON_FORMATS, find_images, is_image_file, without_ending
from e2fashion.data.text import TextTemplate
from e2fashion.data.transforms import ImageTransform
from e2fashion.disk import real_path
from e2fashion.tasks.search.facts import Origin
from e2fashion.tasks.search.storage import DESCRIPTION, LOCATION, PRODUCT_ID, VIEW
from e2fashion.text_files import read_list
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)
BY_FILE, BY_FOLDER = "files", "folders"
"""Kinds of an origin: a product is an image in a file, or a folder of them."""
_ALTERNATIVES = "give a catalogue, a folder of images, or a text file that lists images"


@runtime_checkable
class Products(Protocol):
    """Images of products in a fixed order, those of a product next to each other."""

    @property
    def origin(self) -> Origin:
        """Where they come from."""

    @property
    def ids(self) -> pa.Array:
        """The product of every image."""

    def square(self, position: int, transform: ImageTransform) -> Tensor:
        """An image, uint8 (3, S, S); an E2FashionError names one that cannot be read."""

    def content(self, position: int) -> bytes:
        """The bytes of an image as they are stored."""

    def table(self, positions: Sequence[int]) -> pa.Table:
        """``product_id``, ``view``, ``description``, ``image`` (where it is) and a column per tag, of these images."""


#: A catalogue (or its folder), a folder of images, a text file that lists some, their files, ids with files, or
#: :class:`Products`.
ProductSource: TypeAlias = Products | Catalogue | Path | str | Sequence[Path | str] | Mapping[str, Path | str]


def open_products(
    source: ProductSource, splits: Sequence[str] = ("all",), all_exist: bool = True, by_folder: bool = False
) -> Products:
    """The products of ``source``; ``splits`` are of a catalogue.

    With ``all_exist`` False missing files are left to :meth:`Products.square` to name. With ``by_folder`` the images of
    a folder are the views of one product.

    Raises:
        E2FashionError: there is no product, or an id occurs more than once.
    """
    if isinstance(source, str | Path) and (Path(source) / MANIFEST_FILE).is_file():
        source = Catalogue.load(source)
    if isinstance(source, Catalogue):
        return CatalogueProducts(source, splits)
    return source if isinstance(source, Products) else _files(source, all_exist, by_folder)


class CatalogueProducts:
    """Every image of some splits, read from the memory-mapped catalogue."""

    def __init__(self, catalogue: Catalogue, splits: Sequence[str] = ("all",)) -> None:
        names = list(dict.fromkeys(splits))
        self.splits: list[str] = list(catalogue.split_names) if names in ([], ["all"]) else names
        self.catalogue = catalogue
        # The transform of the rows is never used: square() is given the encoder's.
        self._rows = [
            CatalogueRows(catalogue.split(name), (), TextTemplate("{description}"), ImageTransform())
            for name in self.splits
        ]
        self._starts = np.cumsum([0, *map(len, self._rows)])
        several = pa.compute.value_counts(pa.concat_arrays([rows.product_ids for rows in self._rows]))
        several = several.filter(pa.compute.greater(several.field("counts"), 1))
        if len(several):
            raise E2FashionError(
                f"{len(several)} product ids occur in several splits of {catalogue.path}, the first is "
                f"'{several[0]['values'].as_py()}': every product needs a different id"
            )

    @property
    def origin(self) -> Origin:
        """The catalogue, its fingerprint and the splits."""
        return Origin("catalogue", str(real_path(self.catalogue.path)), self.catalogue.fingerprint, self.splits)

    @cached_property
    def ids(self) -> pa.Array:
        """The product of every row, split after split."""
        parts = [self.catalogue.split(name).with_format("arrow")["product_id"][:] for name in self.splits]
        chunks = [part.chunks if isinstance(part, pa.ChunkedArray) else [part] for part in parts]
        return pa.concat_arrays([chunk.cast(pa.string()) for part in chunks for chunk in part])

    def _row_of(self, position: int) -> tuple[int, int]:
        """The split (its number) and the row in it."""
        number = int(np.searchsorted(self._starts, position, side="right")) - 1
        return number, int(position - self._starts[number])

    def square(self, position: int, transform: ImageTransform) -> Tensor:
        """The image of a row."""
        number, row = self._row_of(position)
        return transform(self._rows[number].image(row))

    def content(self, position: int) -> bytes:
        """The encoded image of a row."""
        number, row = self._row_of(position)
        return self._rows[number].encoded(row)

    def table(self, positions: Sequence[int]) -> pa.Table:
        """Texts, tags and numbers as the catalogue has them; ``image`` is ``<split>/<row>``."""
        columns = [PRODUCT_ID, VIEW, DESCRIPTION, *self.catalogue.tag_columns, *self.catalogue.number_columns]
        parts = []
        rows_of_splits: dict[int, list[int]] = {}
        for number, row in map(self._row_of, positions):
            rows_of_splits.setdefault(number, []).append(row)
        for number, rows in rows_of_splits.items():
            split = self.splits[number]
            part = self.catalogue.split(split).select_columns(columns).with_format("arrow")[rows]
            parts.append(part.append_column(LOCATION, pa.array([f"{split}/{row}" for row in rows])))
        return pa.concat_tables(parts)


class FileProducts:
    """Images in files by product id and view, without texts or tags."""

    def __init__(self, views: Mapping[str, Sequence[Path]], path: str, kind: str) -> None:
        self.files = [file for files in views.values() for file in files]
        self.ids: pa.Array = pa.array([name for name, files in views.items() for _ in files], pa.string())
        self._views = [view for files in views.values() for view in range(len(files))]
        self._path, self._kind = path, kind

    @property
    def origin(self) -> Origin:
        """The folder or list; the fingerprint is over ids, sizes and times of change."""
        digest = hashlib.sha256()
        for name, file in zip(self.ids.to_pylist(), self.files, strict=True):
            state = file.stat() if _is_file(file) else None
            facts = f"{state.st_size}\0{state.st_mtime_ns}" if state else "missing"
            digest.update(f"{name}\0{facts}\n".encode())
        return Origin(self._kind, self._path, digest.hexdigest())

    def square(self, position: int, transform: ImageTransform) -> Tensor:
        """The image, upright and on white."""
        return transform(read_pixels(self.files[position]))

    def content(self, position: int) -> bytes:
        """The bytes of the file; none where it cannot be read, which :meth:`square` reports."""
        file = self.files[position]
        try:
            return file.read_bytes() if _is_file(file) else b""
        except OSError:
            return b""

    def table(self, positions: Sequence[int]) -> pa.Table:
        """``image`` is the file."""
        columns = {
            PRODUCT_ID: self.ids.take(pa.array(positions)),
            VIEW: pa.array([self._views[position] for position in positions], pa.int32()),
            DESCRIPTION: pa.nulls(len(positions), pa.string()),
            LOCATION: pa.array([str(real_path(self.files[position])) for position in positions], pa.string()),
        }
        return pa.table(columns)


def _files(source: Any, all_exist: bool, by_folder: bool) -> FileProducts:
    path = str(real_path(source)) if isinstance(source, str | Path) else "files"
    if isinstance(source, Mapping):
        views = {str(name): [_path(file)] for name, file in source.items()}
    else:
        files, root = (
            _listed(Path(source)) if isinstance(source, str | Path) else ([_path(file) for file in source], None)
        )
        if by_folder:
            views = {}
            for file in files:
                folder = file.parent.relative_to(root).as_posix() if root else file.parent.name
                views.setdefault(folder, []).append(file)
            if "." in views:
                raise E2FashionError(
                    f"'{views['.'][0]}' is in no folder of a product: move it into one, or leave product=folder out"
                )
        else:
            views = {name: [file] for name, file in _by_stem(files, root).items()}
    listed = [file for files in views.values() for file in files]
    if all_exist and (missing := next((file for file in listed if not _is_file(file)), None)):
        raise E2FashionError(f"the image '{missing}' does not exist or is no regular file: give files that exist")
    if not listed:
        raise E2FashionError(f"'{path}' holds no images ({COMMON_FORMATS}): {_ALTERNATIVES}")
    return FileProducts(views, path, BY_FOLDER if by_folder else BY_FILE)


def _is_file(file: Path) -> bool:
    """Whether it is a file; unlike ``Path.is_file`` also for a name that is longer than file names can be."""
    return os.path.isfile(file)  # noqa: PTH113


def _path(file: Path | str) -> Path:
    if not isinstance(file, Path | str):
        raise E2FashionError(f"an index is built from files, and {type(file).__name__} is none: {_ALTERNATIVES}")
    return Path(file)


def _listed(source: Path) -> tuple[list[Path], Path | None]:
    """The files of a folder, or those that a text file lists one a line, relative to it; and the folder of names."""
    if source.is_dir():
        found = find_images(source)
        if found.ignored:
            logger.warning("%s: %s", source, found.words())
        return found.files, source
    if source.is_file() and is_image_file(source):
        return [source], source.parent
    if source.is_file():
        lines = read_list(source, "a text file that lists images, one a line")
        return [source.parent / line for line in lines], None
    state = "is no regular file" if source.exists() else "does not exist"
    raise E2FashionError(f"'{source}' {state}: {_ALTERNATIVES}")


def _by_stem(files: Sequence[Path], root: Path | None) -> dict[str, Path]:
    """Files by their name without ending, below ``root`` if that is given."""
    found: dict[str, Path] = {}
    for file in files:
        name = without_ending(file.relative_to(root) if root else Path(file.name)).as_posix()
        if name in found:
            raise E2FashionError(
                f"'{found[name]}' and '{file}' are both product '{name}': rename one, or give a mapping from product "
                "id to file"
            )
        found[name] = file
    return found
