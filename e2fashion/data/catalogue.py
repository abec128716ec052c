"""The one on-disk format of products: a folder with a manifest and one memory-mapped data set per split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset, load_from_disk

from e2fashion.data.manifest import SKIPPED_FILE, Manifest
from e2fashion.data.storage import REGIONS_COLUMN, decode_regions
from e2fashion.types import SPLITS, E2FashionError, Sample, Split


@dataclass(frozen=True)
class Catalogue:
    """A prepared catalogue. Rows of one product stand together, its views in ascending order.

    Columns of a split: ``product_id``, ``view`` (int32), ``image`` (encoded bytes, an ordinary JPEG or PNG),
    ``description``, ``group``, one nullable string per tag, and ``regions`` (JSON) where the source knows boxes.
    """

    path: Path
    manifest: Manifest
    _opened: dict[str, Dataset] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(cls, path: str | Path) -> Catalogue:
        """Open the catalogue in the folder ``path``; no picture is read.

        Raises:
            E2FashionError: if the folder is no catalogue, is empty, or was written by a newer version.
        """
        folder = Path(path)
        manifest = Manifest.load(folder)
        if not any(counts["images"] for counts in manifest.splits.values()):
            raise E2FashionError(f"The catalogue {folder} is empty. Prepare it again from a source with products.")
        return cls(folder, manifest)

    @property
    def tag_columns(self) -> tuple[str, ...]:
        """Names of the tag columns."""
        return tuple(self.manifest.tag_columns)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the content: the same on every machine."""
        return self.manifest.fingerprint

    @property
    def split_names(self) -> tuple[Split, ...]:
        """The splits that hold products, in the order train, val, test."""
        return tuple(split for split in SPLITS if split in self.manifest.splits)

    def summary(self) -> str:
        """Pictures and products per split, and what was left out, in one line."""
        parts = [
            f"{split} {self.manifest.splits[split]['images']:,} pictures of "
            f"{self.manifest.splits[split]['products']:,} products"
            for split in self.split_names
        ]
        skipped = sum(self.manifest.skipped.values())
        return "; ".join(parts) + (f"; {skipped:,} rows skipped, listed in {SKIPPED_FILE}" if skipped else "")

    def split(self, name: str) -> Dataset:
        """The rows of one split, mapped into memory.

        Raises:
            E2FashionError: if the catalogue has no such split, or its files are gone.
        """
        if name not in self.split_names:
            existing = ", ".join(self.split_names)
            raise E2FashionError(f"The catalogue {self.path} has no split '{name}'; it has: {existing}.")
        if name not in self._opened:
            try:
                self._opened[name] = load_from_disk(str(self.path / name), keep_in_memory=False)
            except (OSError, ValueError) as error:
                raise E2FashionError(
                    f"The split '{name}' of {self.path} cannot be read ({error}). Prepare the catalogue again."
                ) from error
        return self._opened[name]

    def samples(self, name: str) -> Iterator[Sample]:
        """The rows of one split as :class:`~e2fashion.types.Sample`, in order."""
        rows = self.split(name)
        for number, row in enumerate(rows):
            regions = row.get(REGIONS_COLUMN)
            yield Sample(
                product_id=row["product_id"],
                image=row["image"],
                description=row["description"],
                tags={column: row[column] for column in self.tag_columns},
                view=row["view"],
                split=name,  # type: ignore[arg-type]  # split() has checked it
                group=row["group"],
                regions=None if regions is None else decode_regions(regions),
                row=f"{self.path.name}/{name} row {number}",
            )
