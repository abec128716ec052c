"""FashionIQ's images as products: what its galleries hold, to be embedded once, searched and looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from e2fashion.data.fashion_iq import CATEGORIES, BadEntry, FashionIQ, Triplet, check_category, empty_captions
from e2fashion.data.sources.base import SourceProblem, SourceRow
from e2fashion.types import E2FashionError

#: What a text calls the categories, whose names are part of the names of files.
WORDS = {"dress": "dress", "shirt": "shirt", "toptee": "top"}


@dataclass
class FashionIqSource:
    """The images of FashionIQ.

    A product is one image, and its tag ``category`` is dress, shirt or top. Images have no description: the captions
    that target an image replace it ("is blue and longer and has short sleeves"), joined by "and"; empty captions are
    ignored, and an image without a caption is described by its category. The manifest counts both. Images that are
    missing or in more than one list are listed as problems. The queries are read by ``e2fashion compose``.
    """

    path: str
    """Folder of the release, with ``captions``, ``image_splits`` and the images in ``images``."""
    images: str = ""
    """Another folder of images; empty: ``images`` in ``path``."""
    categories: list[str] = field(default_factory=lambda: list(CATEGORIES))
    """The categories to keep."""
    splits: dict[str, str] = field(default_factory=dict)
    """The release's train, val and test as splits of the catalogue, others are left out; empty: all, by their names."""
    name: ClassVar[str] = "fashion_iq"

    def __post_init__(self) -> None:
        self._data = FashionIQ(Path(self.path), Path(self.images) if self.images else None)
        there = self._data.splits()
        if missing := [split for split in self.splits if split not in there]:
            raise E2FashionError(
                f"{self.path} has no split '{missing[0]}'. Its lists of images are of: {', '.join(there) or 'none'}."
            )
        self._splits = self.splits or {split: split for split in there}
        self._lists = {
            (split, category): self._data.gallery(check_category(category), split)
            for split in self._splits
            for category in self.categories
        }
        if not self._lists:
            raise E2FashionError(f"{self.path}: no split and category is left to read. Check splits and categories.")
        self._texts: dict[tuple[str, str], dict[str, list[str]]] = {key: {} for key in self._lists}
        self._empty, self._bad = 0, list[BadEntry]()
        for (split, category), texts in self._texts.items():
            if not self._data.has_targets(category, split):
                continue
            entries = list(self._data.entries(category, split))
            triplets = [entry for entry in entries if isinstance(entry, Triplet)]
            self._bad += [entry for entry in entries if isinstance(entry, BadEntry)]
            self._empty += empty_captions(triplets)
            for triplet in triplets:
                texts.setdefault(triplet.target, []).extend(triplet.instructions)

    @property
    def tag_columns(self) -> tuple[str, ...]:
        """The category alone."""
        return ("category",)

    @property
    def content_stamp(self) -> str:
        """What changes with the files below the folder: a request to prepare is known by it."""
        return self._data.fingerprint

    @property
    def notes(self) -> list[str]:
        """How images without a caption, and captions without words, were met."""
        asked_by = {name: key for key, names in reversed(self._lists.items()) for name in names}
        named = sum(bool(self._texts[key].get(name)) for name, key in asked_by.items())
        return [
            f"The texts of {named:,} of {len(asked_by):,} listed images are what captions say that ask for them; the "
            f"others have their category. {self._empty:,} empty captions were passed over"
        ]

    def __len__(self) -> int:
        return sum(map(len, self._lists.values())) + len(self._bad)

    def rows(self) -> Iterator[SourceRow | SourceProblem]:
        """The images of every list in its order, behind the entries of caption files that are none."""
        for entry in self._bad:
            remedy = "mend the entry, or take the file from the data set's repository"
            yield SourceProblem(
                f"{entry.file.name} entry {entry.number}", "", "captions", entry.fault, remedy, "no caption entry"
            )
        seen: dict[str, str] = {}
        for (split, category), names in self._lists.items():
            where, texts = f"split.{category}.{split}.json", self._texts[split, category]
            for name in names:
                file = self._data.file_of(name)
                if first := seen.get(name):
                    remedy = f"none is needed: it stays as {first} has it"
                    yield SourceProblem(where, name, "product_id", f"{first} lists it too", remedy, "in two lists")
                elif file is None:
                    remedy = f"put it into {self._data.image_folder} as {name}.jpg or .png"
                    yield SourceProblem(where, name, "image", "no such image", remedy, "missing image")
                else:
                    word = WORDS[category]
                    text = " and ".join(dict.fromkeys(texts.get(name, ()))) or word
                    kept = self._splits[split]
                    yield SourceRow(f"{where} {name}", name, file, text, {"category": word}, split=kept)
                seen.setdefault(name, where)
