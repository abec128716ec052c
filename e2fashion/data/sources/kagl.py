"""Fashion Product Images, the data set that the FashionCLIP paper calls KAGL, in both of its published layouts.

``styles.csv`` with ``images/<id>.jpg`` is what Kaggle ships; ``metadata.csv`` is a cleaned subset with brands,
compositions, product groups and splits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from e2fashion.data.sources.base import SourceProblem, SourceRow, added_option
from e2fashion.data.sources.tables import DelimitedTable, require_columns
from e2fashion.types import E2FashionError

_METADATA_TAGS = (
    *("brand", "season", "sub_category", "article_type", "colour", "gender", "usage", "master_category"),
    *("composition", "year"),
)
_STYLES_TAGS = {
    **{"season": "season", "sub_category": "subCategory", "article_type": "articleType", "colour": "baseColour"},
    **{"gender": "gender", "usage": "usage", "master_category": "masterCategory", "year": "year"},
}
_WEARER = re.compile(r"\s+(?:Men|Women|Boys?|Girls?|Kids?|Unisex)(?:'?s)?\b", re.IGNORECASE)


@dataclass
class KaglSource:
    """Fashion Product Images (KAGL) in either of its layouts. The string "NA" is a value."""

    path: str
    """Folder of ``metadata.csv`` or ``styles.csv``, and ``images``."""
    text: Literal["name", "description"] = "name"
    """What becomes the description: the product's name, or its long description (metadata.csv only, 999 rows)."""
    brand_from_name: bool = False
    """Add a brand column to styles.csv, which has none: the words of the name before the wearer ("Puma Men Logo
    Shorts"), missing where the name has no such word."""
    encoding: str = "utf-8"
    """Encoding of the table."""
    outside: bool = added_option(False)
    """Allow images outside ``path``: file names with ``..``, absolute ones, and links that lead out of it."""
    name: ClassVar[str] = "kagl"

    def __post_init__(self) -> None:
        folder = Path(self.path)
        self._cleaned = (folder / "metadata.csv").is_file()
        if not self._cleaned and not (folder / "styles.csv").is_file():
            raise E2FashionError(_no_table(folder))
        if not (folder / "images").is_dir():
            raise E2FashionError(f"{folder} has no folder 'images': unpack the images next to the table.")
        if self.text == "description" and not self._cleaned:
            raise E2FashionError(
                "text=description needs metadata.csv: styles.csv has no descriptions. Write text=name."
            )
        if self.brand_from_name and self._cleaned:
            raise E2FashionError("brand_from_name=true is for styles.csv: metadata.csv has brands. Leave it out.")
        self._table = DelimitedTable(
            folder / ("metadata.csv" if self._cleaned else "styles.csv"),
            self.encoding,
            ",",
            join_last=not self._cleaned,
        )
        wanted: tuple[str, ...] = ("id", "image", self.text, *_METADATA_TAGS)
        if not self._cleaned:
            wanted = ("id", "productDisplayName", *_STYLES_TAGS.values())
        require_columns(self._table, {f"column {column} of the layout": column for column in wanted})

    @property
    def tag_columns(self) -> tuple[str, ...]:
        """The same names in both layouts; styles.csv lacks composition, and brand unless it is derived."""
        if self._cleaned:
            return _METADATA_TAGS
        return (*(("brand",) if self.brand_from_name else ()), *_STYLES_TAGS)

    def __len__(self) -> int:
        return len(self._table)

    def rows(self) -> Iterator[SourceRow | SourceProblem]:
        """Every line of the table."""
        for row in self._table.rows(self._table.columns):
            if isinstance(row, SourceProblem):
                yield row
            else:
                yield self._from_metadata(*row) if self._cleaned else self._from_styles(*row)

    def _from_metadata(self, where: str, values: Mapping[str, Any]) -> SourceRow:
        return SourceRow(
            row=where,
            product_id=values["id"],
            image=Path(self.path) / values["image"],
            description=values[self.text],
            tags={column: values[column] for column in _METADATA_TAGS},
            split=values.get("split") or None,
            group=values.get("group"),
            root=self._root,
        )

    def _from_styles(self, where: str, values: Mapping[str, Any]) -> SourceRow:
        name = values["productDisplayName"]
        tags: dict[str, str | None] = {column: values[original] for column, original in _STYLES_TAGS.items()}
        if self.brand_from_name:
            wearer = _WEARER.search(name)
            tags = {"brand": name[: wearer.start()] if wearer else None, **tags}
        image = Path(self.path) / "images" / f"{values['id']}.jpg"
        return SourceRow(where, values["id"], image, name, tags, root=self._root)

    @property
    def _root(self) -> Path | None:
        return None if self.outside else Path(self.path)


def _no_table(folder: Path) -> str:
    if not folder.is_dir():
        return f"path={folder}: this folder does not exist. Give the folder that holds styles.csv or metadata.csv."
    deeper = sorted(file.parent for file in (*folder.glob("*/styles.csv"), *folder.glob("*/metadata.csv")))
    hint = f" Did you mean path={deeper[0]}?" if deeper else ""
    return (
        f"{folder} holds neither metadata.csv nor styles.csv.{hint} Give the folder of 'Fashion Product Images', "
        f"which Kaggle publishes (paramaggarwal/fashion-product-images-small)."
    )
