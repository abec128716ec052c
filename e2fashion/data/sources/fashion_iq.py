"""FashionIQ as its authors give it out, and its images as products.

The release holds relative captions, galleries, and images, many of them gone from the web.

Layout below one folder: ``captions/cap.<category>.<split>.json`` (a list of
``{candidate, target, captions: [c1, c2]}``; of test, targets are not given out),
``image_splits/split.<category>.<split>.json`` (a list of ids), and ``images/<id>.png`` or ``.jpg``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from e2fashion.data.image_files import is_image_file, without_ending
from e2fashion.data.sources.base import SourceProblem, SourceRow
from e2fashion.text_files import read_json
from e2fashion.types import SPLITS, E2FashionError

CATEGORIES = ("dress", "shirt", "toptee")
TRIPLET_KEYS = ("candidate", "target", "captions")
GALLERIES = ("original", "val")
ENDINGS = (".png", ".jpg", ".jpeg")
CAPTIONS_FOLDER, SPLITS_FOLDER, IMAGES_FOLDER = "captions", "image_splits", "images"

Gallery = Literal["original", "val"]
"""``original``: the ids of the split file; ``val``: the references and targets of the captions alone (easier)."""


@dataclass(frozen=True)
class Triplet:
    """A reference image, the difference that is asked for, and the target image; ``captions`` as written.

    ``category`` is the file's: ids are looked up in that category's gallery.
    """

    category: str
    reference: str
    target: str
    captions: tuple[str, ...]

    @property
    def instructions(self) -> tuple[str, ...]:
        """The captions that say something: 15 of the data set are empty, and none may be left."""
        return tuple(caption.strip() for caption in self.captions if caption.strip())


@dataclass(frozen=True)
class BadEntry:
    """Entry ``number`` (from 0) of a caption file that is not a triplet, and why."""

    file: Path
    number: int
    fault: str


@dataclass(frozen=True)
class FashionIQ:
    """The data set below ``path``, its images in ``images`` (None: ``<path>/images``); no image is read here.

    Raises:
        E2FashionError: a folder that is missing, with what it should hold.
    """

    path: Path
    images: Path | None = None

    def __post_init__(self) -> None:
        for name in (CAPTIONS_FOLDER, SPLITS_FOLDER):
            if not (self.path / name).is_dir():
                raise E2FashionError(
                    f"{self.path} has no folder '{name}': give FashionIQ's folder, with {CAPTIONS_FOLDER}/, "
                    f"{SPLITS_FOLDER}/ and {IMAGES_FOLDER}/"
                )
        if not self.image_folder.is_dir():
            raise E2FashionError(
                f"FashionIQ's images are missing: there is no folder {self.image_folder}. They are not part of its "
                f"repository; put them there as <id>.png or <id>.jpg, or name their folder with images=<folder>"
            )

    @property
    def image_folder(self) -> Path:
        """The folder of the images."""
        return self.images or self.path / IMAGES_FOLDER

    @cached_property
    def _files(self) -> dict[str, Path]:
        """Every image by id; a listing once is cheaper than three questions per id.

        Of several files of one id, the endings that FashionIQ's authors use come first.
        """
        images = sorted(file for file in self.image_folder.iterdir() if is_image_file(file))
        files: dict[str, Path] = {}
        for file in sorted(images, key=lambda file: file.suffix.lower() not in ENDINGS):
            files.setdefault(without_ending(file).name, file)
        return files

    def file_of(self, identifier: str) -> Path | None:
        """The file of an image; None where it is missing."""
        return self._files.get(identifier)

    def missing(self, identifiers: Iterable[str]) -> list[str]:
        """Those without an image, each once, in order."""
        return [identifier for identifier in dict.fromkeys(identifiers) if identifier not in self._files]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the captions, the galleries, and the names of the images that are there."""
        digest = hashlib.sha256()
        for folder in (CAPTIONS_FOLDER, SPLITS_FOLDER):
            for file in sorted((self.path / folder).glob("*.json")):
                digest.update(file.name.encode() + file.read_bytes())
        names = sorted(file.name for file in self.image_folder.iterdir())
        digest.update("\n".join(names).encode())
        return digest.hexdigest()

    def splits(self) -> list[str]:
        """Those of train, val and test that any category has a list of images of."""
        folder = self.path / SPLITS_FOLDER
        return [split for split in SPLITS if any(folder.glob(f"split.*.{split}.json"))]

    def has_targets(self, category: str, split: str) -> bool:
        """Whether the captions of a split say which image they ask for: those of test do not."""
        rows = _read_list(self._captions_file(category, split))
        return any(isinstance(row, dict) and "target" in row for row in rows)

    def _captions_file(self, category: str, split: str) -> Path:
        return self.path / CAPTIONS_FOLDER / f"cap.{check_category(category)}.{split}.json"

    def triplets(self, category: str, split: str) -> list[Triplet]:
        """The relative captions of a category in the order of their file, those without images among them.

        Raises:
            E2FashionError: an unknown category, or a file that is missing or holds something else.
        """
        triplets = []
        for entry in self.entries(category, split):
            if isinstance(entry, BadEntry):
                raise E2FashionError(f"{entry.file}, entry {entry.number}: {entry.fault}")
            triplets.append(entry)
        return triplets

    def entries(self, category: str, split: str) -> Iterator[Triplet | BadEntry]:
        """As :meth:`triplets`, with what is not a triplet at its source among them.

        Raises:
            E2FashionError: an unknown category, or a file that is missing or holds no list.
        """
        file = self._captions_file(category, split)
        for number, row in enumerate(_read_list(file)):
            if fault := _fault(row):
                yield BadEntry(file, number, fault)
            else:
                captions = tuple(caption or "" for caption in row["captions"])
                yield Triplet(category, row["candidate"], row["target"], captions)

    def gallery(self, category: str, split: str, gallery: Gallery = "original") -> list[str]:
        """The ids to search among, each once and without an image among them too, in the order of their files.

        Raises:
            E2FashionError: an unknown category or gallery, a file that is missing, or no ids at all.
        """
        if gallery not in GALLERIES:
            raise E2FashionError(f"gallery is '{gallery}'; choose {' or '.join(GALLERIES)}")
        if gallery == "val":
            triplets = self.triplets(category, split)
            listed = [identifier for triplet in triplets for identifier in (triplet.reference, triplet.target)]
            source = f"the captions of {category}, {split}"
        else:
            file = self.path / SPLITS_FOLDER / f"split.{check_category(category)}.{split}.json"
            listed, source = [str(identifier) for identifier in _read_list(file)], str(file)
        if not listed:
            raise E2FashionError(f"the gallery is empty: {source} holds no ids")
        return list(dict.fromkeys(listed))


def check_category(category: str) -> str:
    """The category as it is.

    Raises:
        E2FashionError: FashionIQ has no such category.
    """
    if category not in CATEGORIES:
        raise E2FashionError(f"FashionIQ has no category '{category}': choose from {', '.join(CATEGORIES)}")
    return category


def empty_captions(triplets: Sequence[Triplet]) -> int:
    """How many captions say nothing."""
    return sum(len(triplet.captions) - len(triplet.instructions) for triplet in triplets)


def _fault(row: Any) -> str | None:
    """Why an entry of a caption file is not a triplet; None of one that is."""
    if not isinstance(row, dict) or any(key not in row for key in TRIPLET_KEYS):
        return f"{ascii(row)[:80]} lacks one of {', '.join(TRIPLET_KEYS)}"
    for key in ("candidate", "target"):
        if not isinstance(row[key], str):
            return f"'{key}' is {ascii(row[key])[:80]}, no id of an image"
    captions = row["captions"]
    if not isinstance(captions, list) or not all(isinstance(caption, str | None) for caption in captions):
        return "'captions' is not a list of texts, as in [first, second]"
    return None


def _read_list(file: Path) -> list[Any]:
    if not file.is_file():
        raise E2FashionError(f"FashionIQ's file {file} is missing: take it from the data set's repository")
    content = read_json(file, "FashionIQ's file")
    if not isinstance(content, list):
        raise E2FashionError(f"{file} holds a {type(content).__name__}, not a list: is it FashionIQ's file?")
    return content


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
        """How images without a caption, and captions without words, were handled."""
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
