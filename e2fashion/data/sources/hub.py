"""Any data set of the Hugging Face hub, by the name that the user wrote, or a copy of it on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from e2fashion.data.sources.base import SPLIT_NAMES, SourceProblem, SourceRow
from e2fashion.data.sources.tables import ParquetTable, Table, as_tag, as_text, require_columns
from e2fashion.data.text import TextTemplate
from e2fashion.disk import check_tree, reading, reason_of
from e2fashion.hub import silence_of_hub
from e2fashion.types import SPLITS, E2FashionError

if TYPE_CHECKING:
    from datasets import Dataset

_REQUIRED = ("product_id", "image")
_PARTS = (*_REQUIRED, "description", "group")


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
        tables = open_splits(self.path, self.subset, self.revision)
        self._splits = self._named(tables)
        self._tables = [(split, table) for split in self._splits for table in tables[split]]
        self._parts = {part: self.columns.get(part) or part for part in _REQUIRED}
        _, first = self._tables[0]
        if not self.text:
            self._parts["description"] = self.columns.get("description") or "description"
        if "group" in self.columns or "group" in first.columns:
            self._parts["group"] = self.columns.get("group") or "group"
        wanted = {f"columns.{part}": column for part, column in self._parts.items()}
        for _, table in self._tables:
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
        tables = [(split, len(table), getattr(table, "dataset", None)) for split, table in self._tables]
        return str([(split, rows, getattr(dataset, "_fingerprint", "")) for split, rows, dataset in tables])

    def __len__(self) -> int:
        return sum(len(table) for _, table in self._tables)

    def rows(self) -> Iterator[SourceRow | SourceProblem]:
        """Every row of the splits that are used."""
        next_view: dict[str, int] = {}
        columns = [*self._parts.values(), *self.tags.values()]
        for split, table in self._tables:
            for row in table.rows(columns):
                yield row if isinstance(row, SourceProblem) else self._from_row(*row, self._splits[split], next_view)

    def _named(self, tables: Mapping[str, Any]) -> dict[str, str | None]:
        """Our split, or None where none is given, of every split that is used."""
        if missing := [split for split in self.splits if split not in tables]:
            raise E2FashionError(f"{self.path} has no split '{missing[0]}'. It has: {', '.join(tables)}.")
        if wrong := [split for split in self.splits.values() if split not in SPLIT_NAMES]:
            raise E2FashionError(f"splits names a split '{wrong[0]}'; write one of {', '.join(SPLITS)}.")
        if self.splits:
            return dict(self.splits)
        if len(tables) == 1:
            return dict.fromkeys(tables)
        if odd := [split for split in tables if split not in SPLIT_NAMES]:
            raise E2FashionError(
                f"{self.path} has the splits {', '.join(tables)}; what is '{odd[0]}'? Say which to use and as what, as "
                f"in splits={{{odd[0]}: test}}."
            )
        return {split: SPLIT_NAMES[split] for split in tables}

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
        tags = {tag: as_tag(values[column], self.missing_values) for tag, column in self.tags.items()}
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


_ROWS_AT_ONCE = 64


@dataclass
class DatasetTable:
    """One split of a data set in memory-mapped files; images stay encoded."""

    dataset: Dataset
    file: Path
    columns: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        import datasets  # in functions, because it costs seconds

        self.columns = tuple(self.dataset.column_names)
        for column, feature in self.dataset.features.items():
            if isinstance(feature, datasets.Image):
                self.dataset = self.dataset.cast_column(column, datasets.Image(decode=False))

    def __len__(self) -> int:
        return len(self.dataset)

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]] | SourceProblem]:
        """Every row as Python values, counted from 1."""
        names = list(dict.fromkeys(columns))
        batches = self.dataset.select_columns(names).iter(_ROWS_AT_ONCE)
        rows = (row for batch in batches for row in zip(*(batch[name] for name in names), strict=True))
        for number, values in enumerate(rows, start=1):
            yield f"{self.file} row {number}", dict(zip(names, values, strict=True))


def open_splits(path: str, subset: str = "", revision: str = "") -> dict[str, list[Table]]:
    """The tables of every split of ``path``: an existing path, else a hub name.

    Parquet files are called as on the hub, ``<split>-00000-of-00002.parquet``, in the folder or in its folder ``data``
    (or ``subset``); a name without a number is a separate split.

    Raises:
        E2FashionError: a path without a data set, or a name that cannot be loaded.
    """
    folder = Path(path)
    if not folder.exists():
        return _from_hub(path, subset, revision)
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        splits = _saved(folder)
        return {str(split): [DatasetTable(rows, folder / str(split))] for split, rows in splits.items()}
    folders = [folder / subset] if subset else [folder, folder / "data"]
    files = [folder] if folder.is_file() else next(filter(None, (sorted(f.glob("*.parquet")) for f in folders)), [])
    if not files:
        raise E2FashionError(
            f"{folder} holds no data set: neither one that datasets' save_to_disk wrote, nor Parquet files in "
            f"{' or '.join(map(str, folders))}."
        )
    tables: dict[str, list[Table]] = {}
    for file in files:
        tables.setdefault(file.stem.split("-")[0], []).append(ParquetTable(file))
    return tables


def _saved(folder: Path) -> dict[str, Dataset]:
    """The splits that ``save_to_disk`` wrote, every value checked: Arrow crashes on damaged offsets when it reads."""
    import datasets

    with reading(f"The data set {folder}", "Save or fetch it again."):
        check_tree(folder, "Save or fetch the data set again.")
        saved = datasets.load_from_disk(str(folder), keep_in_memory=False)
        splits = dict(saved) if isinstance(saved, datasets.DatasetDict) else {str(saved.split or "data"): saved}
        for split in splits.values():
            split.data.validate(full=True)
    return {str(name): split for name, split in splits.items()}


def _from_hub(name: str, subset: str, revision: str) -> dict[str, list[Table]]:
    import datasets
    from huggingface_hub.constants import is_offline_mode

    if not is_offline_mode() and (silence := silence_of_hub(name, "README.md", "dataset")) is not None:
        raise E2FashionError(
            f"'{name}' is neither a folder nor a file, so it was taken for a hub name, and the hub cannot be asked "
            f"({silence}). Give a folder that holds it (path=<folder>); HF_HUB_OFFLINE=1 takes what was fetched before."
        )
    try:
        loaded = datasets.load_dataset(name, subset or None, revision=revision or None)
    except (OSError, ValueError, RuntimeError) as error:  # missing, no network, no such subset, scripts
        offline = " and HF_HUB_OFFLINE is set" if is_offline_mode() else ""
        raise E2FashionError(
            f"'{name}' (no such folder or file, so it was taken for a hub name{offline}) cannot be loaded: "
            f"{reason_of(error)}"
        ) from error
    return {str(split): [DatasetTable(rows, Path(name) / str(split))] for split, rows in loaded.items()}
