"""Any data set of the Hugging Face hub, by the name that the user wrote, or a copy of it on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from e2fashion.data.sources.base import SourceProblem, SourceRow
from e2fashion.data.sources.tables import Table, as_text, require_columns
from e2fashion.data.text import TextTemplate
from e2fashion.types import SPLITS, E2FashionError

_REQUIRED = ("product_id", "image")
_PARTS = (*_REQUIRED, "description", "group")
_SPLIT_NAMES: dict[str, str] = {split: split for split in SPLITS} | {"validation": "val", "valid": "val"}


@dataclass
class HubSource:
    """A data set in the format of the Hugging Face hub.

    Nothing is fetched but the hub name that the user wrote; the rows must hold the encoded images. Rows with the same
    product id are its views, in their order.
    """

    path: str
    """A folder that ``datasets`` saved, a folder of Parquet files, or else a hub name such as ``owner/name``."""
    subset: str = ""
    """Subset (configuration) of the data set."""
    revision: str = ""
    """Revision of the data set on the hub."""
    columns: dict[str, str] = field(default_factory=dict)
    """Roles and their columns: ``product_id``, ``image``, ``description`` and, optional, ``group`` (what must not cross
    splits). A role that is not given takes the column of its name."""
    tags: dict[str, str] = field(default_factory=dict)
    """Tags and their columns."""
    text: str = ""
    """Template of a description made from the tags, as in ``{colour} {category}``; empty: the column's."""
    splits: dict[str, str] = field(default_factory=dict)
    """The data set's splits as train, val and test, others are left out; empty: train, val or validation, and test keep
    their roles, a single split is divided by group."""
    missing_values: list[str] = field(default_factory=list)
    """Strings that mean a missing tag."""
    name: ClassVar[str] = "hub"

    def __post_init__(self) -> None:
        if unknown := [part for part in self.columns if part not in _PARTS]:
            raise E2FashionError(
                f"columns has no part '{unknown[0]}'. The parts are: {', '.join(_PARTS)}; tags go into 'tags'."
            )
        from e2fashion.data.sources.datasets_tables import open_splits  # here, because `datasets` costs seconds

        tables = open_splits(self.path, self.subset, self.revision)
        self._splits = self._named(tables)
        self._tables = {split: tables[split] for split in self._splits}
        self._parts = {part: self.columns.get(part) or part for part in _REQUIRED}
        first = next(iter(self._tables.values()))[0]
        if not self.text:
            self._parts["description"] = self.columns.get("description") or "description"
        if "group" in self.columns or "group" in first.columns:
            self._parts["group"] = self.columns.get("group") or "group"
        wanted = {f"columns.{part}": column for part, column in self._parts.items()}
        for table in self._all_tables():
            require_columns(table, wanted | {f"tags.{tag}": column for tag, column in self.tags.items()})
        self._template = TextTemplate(self.text) if self.text else None
        if self._template is not None:
            self._template.validate(self.tags)

    @property
    def tag_columns(self) -> tuple[str, ...]:
        """The names under ``tags``."""
        return tuple(self.tags)

    @property
    def content_stamp(self) -> str:
        """What changes with the data: a request to prepare is known by it."""
        tables = [(split, len(table), getattr(table, "dataset", None)) for split, table in self._pairs()]
        return str([(split, rows, getattr(dataset, "_fingerprint", "")) for split, rows, dataset in tables])

    def __len__(self) -> int:
        return sum(len(table) for table in self._all_tables())

    def rows(self) -> Iterator[SourceRow | SourceProblem]:
        """Every row of the splits that are used."""
        next_view: dict[str, int] = {}
        columns = [*self._parts.values(), *self.tags.values()]
        for split, table in self._pairs():
            for row in table.rows(columns):
                yield row if isinstance(row, SourceProblem) else self._from_row(*row, self._splits[split], next_view)

    def _pairs(self) -> Iterator[tuple[str, Table]]:
        return ((split, table) for split, tables in self._tables.items() for table in tables)

    def _all_tables(self) -> Iterator[Table]:
        return (table for _, table in self._pairs())

    def _named(self, tables: Mapping[str, Any]) -> dict[str, str | None]:
        """Our split, or None where none is given, of every split that is used."""
        if missing := [split for split in self.splits if split not in tables]:
            raise E2FashionError(f"{self.path} has no split '{missing[0]}'. It has: {', '.join(tables)}.")
        if wrong := [split for split in self.splits.values() if split not in _SPLIT_NAMES]:
            raise E2FashionError(f"splits names a split '{wrong[0]}'; write one of {', '.join(SPLITS)}.")
        if self.splits:
            return dict(self.splits)
        if len(tables) == 1:
            return dict.fromkeys(tables)
        if odd := [split for split in tables if split not in _SPLIT_NAMES]:
            raise E2FashionError(
                f"{self.path} has the splits {', '.join(tables)}; what is '{odd[0]}'? Say which to use and as what, as "
                f"in splits={{{odd[0]}: test}}."
            )
        return {split: _SPLIT_NAMES[split] for split in tables}

    def _from_row(
        self, where: str, values: Mapping[str, Any], split: str | None, next_view: dict[str, int]
    ) -> SourceRow | SourceProblem:
        product_id = as_text(values[self._parts["product_id"]]) or ""
        image = values[self._parts["image"]]
        data = image.get("bytes") if isinstance(image, dict) else image
        if not isinstance(data, bytes):
            shown = repr(image.get("path") if isinstance(image, dict) else image)
            remedy = "save the data set with its images inside: nothing is fetched"
            return SourceProblem(where, product_id, self._parts["image"], shown, remedy, "missing image")
        tags = {tag: self._tag(values[column]) for tag, column in self.tags.items()}
        if self._template is not None:
            description = self._template.render(tags, "")
        else:
            description = as_text(values[self._parts["description"]]) or ""
        view = next_view.get(product_id, 0)
        next_view[product_id] = view + 1
        return SourceRow(
            row=where,
            product_id=product_id,
            image=data,
            description=description,
            tags=tags,
            view=view,
            split=split,
            group=as_text(values[self._parts["group"]]) if "group" in self._parts else None,
        )

    def _tag(self, value: Any) -> str | None:
        text = as_text(value)
        return None if text is None or text.strip() in self.missing_values else text
