"""Splits of a Hugging Face data set as tables: saved by ``datasets``, a folder of Parquet files, or by its hub name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, DatasetDict
from huggingface_hub.constants import is_offline_mode

from e2fashion.data.sources.base import SourceProblem
from e2fashion.data.sources.tables import ParquetTable, Table
from e2fashion.disk import check_tree, reading, reason_of
from e2fashion.hub import silence_of_hub
from e2fashion.types import E2FashionError

_ROWS_AT_ONCE = 64


@dataclass
class DatasetTable:
    """One split of a data set in memory-mapped files; images stay encoded."""

    dataset: Dataset
    file: Path
    columns: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.columns = tuple(self.dataset.column_names)
        for column, feature in self.dataset.features.items():
            if isinstance(feature, datasets.Image):
                self.dataset = self.dataset.cast_column(column, datasets.Image(decode=False))

    def __len__(self) -> int:
        return len(self.dataset)

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]] | SourceProblem]:
        """Every row as Python values, counted from 1."""
        names = list(dict.fromkeys(columns))
        number = 0
        for batch in self.dataset.select_columns(names).iter(_ROWS_AT_ONCE):
            for values in zip(*(batch[name] for name in names), strict=True):
                number += 1
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
    """The splits that ``save_to_disk`` wrote, every value looked at: Arrow crashes on damaged offsets when it reads."""
    with reading(f"The data set {folder}", "Save or fetch it again."):
        check_tree(folder, "Save or fetch the data set again.")
        saved = datasets.load_from_disk(str(folder), keep_in_memory=False)
        splits = dict(saved) if isinstance(saved, DatasetDict) else {str(saved.split or "data"): saved}
        for split in splits.values():
            split.data.validate(full=True)
    return {str(name): split for name, split in splits.items()}


def _from_hub(name: str, subset: str, revision: str) -> dict[str, list[Table]]:
    if not is_offline_mode() and (silence := silence_of_hub(name, "README.md", "dataset")) is not None:
        raise E2FashionError(
            f"'{name}' is no folder or file, so it was taken for a hub name, and the hub cannot be asked ({silence}). "
            "Give a folder that holds it (path=<folder>); HF_HUB_OFFLINE=1 takes what was fetched before."
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
