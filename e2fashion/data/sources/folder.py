"""Any table with images: for the catalogue of a shop."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from e2fashion.data.sources.base import SourceProblem, SourceRow, added_option
from e2fashion.data.sources.tables import as_tag, as_text, open_table, require_columns
from e2fashion.disk import real_path
from e2fashion.types import E2FashionError

_REQUIRED = ("product_id", "image", "description")
_OPTIONAL = ("view", "split", "group")
_SUFFIXES = {".csv", ".tsv", ".parquet", ".jsonl", ".ndjson"}
_VIEW_DIGITS = 9
_ADDRESSES = ("http://", "https://", "ftp://", "s3://", "gs://")


@dataclass
class FolderSource:
    """A CSV, TSV, Parquet or JSON Lines table and its images.

    The image column holds file names, or (Parquet) the encoded bytes. URLs are refused: nothing is ever fetched.
    """

    path: str
    """The table, or a folder that holds exactly one."""
    table: str = ""
    """File name of the table in ``path``, where there are several."""
    images: str = "."
    """Folder of the image files, relative to the table."""
    columns: dict[str, str] = field(default_factory=dict)
    """Roles and their columns. ``product_id``, ``image`` and ``description`` are needed; ``view`` (0, 1, ... for
    several images of a product), ``split`` (train, val, test) and ``group`` (what must not cross splits) are optional.
    A role that is not given takes the column of its name if there is one; an empty name switches it off."""
    tags: dict[str, str] = field(default_factory=dict)
    """Tags and their columns, as in ``{brand: marke, season: saison}``."""
    missing_values: list[str] = field(default_factory=list)
    """Strings that mean a missing tag, as empty cells, null and NaN do."""
    only: dict[str, list[str]] = field(default_factory=dict)
    """Keep the rows that hold one of the values in each of these columns, as in ``{part: [train]}``."""
    encoding: str = "utf-8"
    """Encoding of a CSV or TSV file."""
    delimiter: str = ""
    """Delimiter of a CSV file; empty: detected."""
    outside: bool = added_option(False)
    """Allow images outside ``images`` and the table's folder: file names with ``..``, absolute ones, and links that
    lead out of them."""
    name: ClassVar[str] = "folder"

    def __post_init__(self) -> None:
        file = _find_table(Path(self.path), self.table)
        for part in self.columns:
            if part not in (*_REQUIRED, *_OPTIONAL):
                close = difflib.get_close_matches(part, (*_REQUIRED, *_OPTIONAL), n=1)
                hint = f" Did you mean '{close[0]}'?" if close else " Tags go into the option 'tags'."
                raise E2FashionError(
                    f"columns has no part '{part}'.{hint} The parts are: {', '.join((*_REQUIRED, *_OPTIONAL))}."
                )
        self._table = open_table(file, self.encoding, self.delimiter)
        self._parts = {part: self.columns.get(part) or part for part in _REQUIRED}
        for part in _OPTIONAL:
            named = self.columns.get(part)
            if named or (named is None and part in self._table.columns):
                self._parts[part] = named or part
        wanted = {f"columns.{part}": column for part, column in self._parts.items()}
        wanted |= {f"tags.{tag}": column for tag, column in self.tags.items()}
        require_columns(self._table, wanted | {f"only.{column}": column for column in self.only})
        self._images = file.parent / self.images
        inside = real_path(self._images).is_relative_to(real_path(file.parent))
        self._root = file.parent if inside else self._images
        if not self._images.is_dir():
            raise E2FashionError(
                f"images={self.images}: the folder {self._images} does not exist. Give the folder of the images, "
                f"relative to the table."
            )

    @property
    def tag_columns(self) -> tuple[str, ...]:
        """The names under ``tags``."""
        return tuple(self.tags)

    def __len__(self) -> int:
        return len(self._table)

    def rows(self) -> Iterator[SourceRow | SourceProblem]:
        """Every row of the table that ``only`` keeps.

        Raises:
            E2FashionError: at the end, if it kept none.
        """
        columns = list(dict.fromkeys([*self._parts.values(), *self.tags.values(), *self.only]))
        kept = 0
        for row in self._table.rows(columns):
            if isinstance(row, SourceProblem):
                yield row
            elif all(as_text(row[1][column]) in values for column, values in self.only.items()):
                kept += 1
                yield self._from_row(*row)
        if self.only and not kept:
            raise E2FashionError(f"only={self.only} keeps none of the {len(self._table)} rows: check its values.")

    def _from_row(self, where: str, values: Mapping[str, Any]) -> SourceRow | SourceProblem:
        text = {part: as_text(values[column]) for part, column in self._parts.items() if part != "image"}
        product_id = text["product_id"] or ""
        image = self._image(values[self._parts["image"]])
        if isinstance(image, str):
            remedy = "download the image and name its file: nothing is fetched"
            if not image:
                remedy = "name a file in every row"
            return SourceProblem(where, product_id, self._parts["image"], repr(image), remedy, "missing image")
        view = (text.get("view") or "0").strip()
        if not view.isdecimal() or len(view) > _VIEW_DIGITS:
            remedy = "number the images of a product 0, 1, 2 ..."
            return SourceProblem(where, product_id, self._parts["view"], repr(view), remedy, "invalid view")
        return SourceRow(
            row=where,
            product_id=product_id,
            image=image,
            description=text["description"] or "",
            tags={tag: as_tag(values[column], self.missing_values) for tag, column in self.tags.items()},
            view=int(view),
            split=text.get("split") or None,
            group=text.get("group"),
            root=None if self.outside else self._root,
        )

    def _image(self, value: Any) -> Path | bytes | str:
        """The image's file or bytes, or the value itself where it is neither."""
        if isinstance(value, dict) and value.get("bytes"):  # how Hugging Face's Image feature is stored
            value = value["bytes"]
        if isinstance(value, bytes):
            return value
        if isinstance(value, dict):
            value = value.get("path")
        name = (as_text(value) or "").strip()
        if not name or name.lower().startswith(_ADDRESSES):
            return name
        return self._images / name


def _find_table(path: Path, table: str) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise E2FashionError(f"path={path} does not exist. Give the table, or the folder that holds it.")
    if table:
        return path / table
    tables = sorted(file for file in path.iterdir() if file.is_file() and file.suffix.lower() in _SUFFIXES)
    if len(tables) != 1:
        names = ", ".join(file.name for file in tables) or "none"
        raise E2FashionError(
            f"{path} must hold exactly one table ({', '.join(sorted(_SUFFIXES))}) and holds {len(tables)}: {names}. "
            f"Name it: table=<file>."
        )
    return tables[0]
