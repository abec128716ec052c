"""Plainly labelled images: Fashion-MNIST's idx files, or a folder with a folder per class."""

from __future__ import annotations

import gzip
import hashlib
import io
import logging
import math
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from e2fashion.data.image_files import COMMON_FORMATS, HEIC_ENDINGS, HEIC_REMEDY, FoundImages, ending_of, is_image_file
from e2fashion.data.sources.base import SPLIT_NAMES, SourceProblem, SourceRow
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

FASHION_MNIST = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_PARTS = {"train": "train", "test": "t10k"}
_MOST_BYTES = 1 << 30  # of an array: twenty times Fashion-MNIST's
_IMAGES, _LABELS = 0x00000803, 0x00000801  # unsigned bytes in three dimensions, in one


@dataclass
class LabelledSource:
    """Images with one class each, which becomes the tag ``label`` and, as the only text there is, the description.

    ``val_fraction`` and ``test_fraction`` do not apply: they keep products with the same text together, which are whole
    classes here.
    """

    path: str
    """Folder of Fashion-MNIST's four files (``train-images-idx3-ubyte.gz`` ...; ``t10k`` is test), or of class folders,
    ``<class>/<image>`` or ``<split>/<class>/<image>``."""
    classes: list[str] = field(default_factory=lambda: list(FASHION_MNIST))
    """Names of the classes of idx files, in the order of their numbers."""
    val_share: float = 0.1
    """Share of every class of train that becomes val, where there is no val split."""
    test_share: float = 0.1
    """Share of every class that becomes test, where there are no splits."""
    seed: int = 0
    """Seed of these splits; equal files stay together."""
    invert: bool = False
    """Invert the images of idx files, which are bright on black, to dark on white, as shop photos are."""
    name: ClassVar[str] = "labelled"

    def __post_init__(self) -> None:
        for option, share in (("val_share", self.val_share), ("test_share", self.test_share)):
            if not 0 <= share < 1:
                raise E2FashionError(f"{option} is {share}; give a share of every class, from 0 to below 1.")
        folder = Path(self.path)
        if not folder.is_dir():
            raise E2FashionError(
                f"path={folder}: this folder does not exist. Give the folder of the idx files or of the class folders."
            )
        self._idx = any(
            _idx_file(folder, part, kind) for part in _PARTS.values() for kind in ("images-idx3", "labels-idx1")
        )
        if self.invert and not self._idx:
            raise E2FashionError(
                "invert=true is for idx files, which are bright on black; class folders stay as they are."
            )
        self._rows = self._from_idx(folder) if self._idx else self._from_folders(folder)

    @property
    def tag_columns(self) -> tuple[str, ...]:
        """The class alone."""
        return ("label",)

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self) -> Iterator[SourceRow | SourceProblem]:
        """Train before test, in the order of the files; in folders by class and name."""
        yield from self._rows

    def _from_idx(self, folder: Path) -> list[SourceRow | SourceProblem]:
        rows: list[SourceRow | SourceProblem] = []
        for split, part in _PARTS.items():
            images = _read_idx(folder, part, "images-idx3", _IMAGES)
            labels = _read_idx(folder, part, "labels-idx1", _LABELS)
            if len(images) != len(labels):
                raise E2FashionError(f"{folder}: {part} has {len(images)} images and {len(labels)} labels.")
            digests = [hashlib.sha256(image.tobytes()).digest() for image in images]
            known = [number for number, label in enumerate(labels) if label < len(self.classes)]
            named = self._splits([self.classes[labels[number]] for number in known], [digests[p] for p in known], split)
            splits = dict(zip(known, named, strict=True))
            for number, (image, label) in enumerate(zip(images, labels, strict=True)):
                product_id = f"{split}-{number:05}"
                if number not in splits:
                    where = f"{part}-labels-idx1-ubyte item {number}"
                    value = f"label {label}, and classes names {len(self.classes)}"
                    remedy = "name every class in classes"
                    rows.append(SourceProblem(where, product_id, "label", value, remedy, "label without a class"))
                    continue
                where, name = f"{part}-images-idx3-ubyte item {number}", self.classes[label]
                file = partial(_as_png, 255 - image if self.invert else image)
                rows.append(SourceRow(where, product_id, file, name, {"label": name}, split=splits[number]))
        return rows

    def _from_folders(self, folder: Path) -> list[SourceRow | SourceProblem]:
        top = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
        given = [path for path in top if path.name in SPLIT_NAMES]
        if not top:
            raise E2FashionError(f"{folder} holds neither Fashion-MNIST's idx files nor class folders.")
        if given and len(given) < len(top):
            odd = next(path.name for path in top if path not in given)
            raise E2FashionError(
                f"{folder} holds splits ({', '.join(path.name for path in given)}) next to '{odd}': put class "
                f"folders into the splits, or have class folders alone."
            )
        files: dict[str, list[Path]] = defaultdict(list)
        ignored: Counter[str] = Counter()
        for root in given or [folder]:
            split: str = SPLIT_NAMES[root.name] if given else ""
            for file in sorted((*root.glob("*"), *root.glob("*/*"))):
                if file.name.startswith(".") or (file.parent == root and not file.is_dir()):
                    ignored[ending_of(file)] += 1
                elif file.parent != root and not file.parent.name.startswith("."):
                    files[split].append(file)
        if ignored:
            logger.warning("%s, hidden or outside the class folders: %s", folder, FoundImages([], ignored).words())
        rows: list[SourceRow | SourceProblem] = []
        for split, listed in files.items():
            labels = [file.parent.name for file in listed]
            digests = [_digest(file) for file in listed]
            carve = split == "" or (split == "train" and "val" not in files)
            splits = self._splits(labels, digests, split) if carve else [split] * len(listed)
            rows += [_folder_row(folder, file, given_to) for file, given_to in zip(listed, splits, strict=True)]
        if not rows:
            raise E2FashionError(f"{folder} has no images in its class folders: give <class>/<image>.")
        return rows

    def _splits(self, labels: Sequence[str], digests: Sequence[bytes], split: str) -> list[str]:
        """The split of every image: ``split`` as given, val carved out of train, or all three made (empty)."""
        if split not in ("", "train"):
            return [split] * len(labels)
        by_class: dict[str, set[bytes]] = defaultdict(set)
        for label, digest in zip(labels, digests, strict=True):
            by_class[label].add(digest)
        assigned: dict[tuple[str, bytes], str] = {}
        for label, alike in by_class.items():
            order = sorted(alike, key=lambda digest: hashlib.sha256(f"{self.seed}:".encode() + digest).digest())
            test = round(self.test_share * len(order)) if split == "" else 0
            val = round(self.val_share * len(order))
            names = (["test"] * test + ["val"] * val)[: len(order) - 1]  # train keeps at least one
            names += ["train"] * (len(order) - len(names))
            assigned |= {(label, digest): name for digest, name in zip(order, names, strict=True)}
        return [assigned[label, digest] for label, digest in zip(labels, digests, strict=True)]


def _folder_row(folder: Path, file: Path, split: str) -> SourceRow | SourceProblem:
    name = str(file.relative_to(folder))
    if file.is_dir():
        remedy = "put its images into the class folder: deeper folders are not read"
        return SourceProblem(name, name, "image", repr(file.name), remedy, "a folder within a class folder")
    if not is_image_file(file):
        heic = file.suffix.lower() in HEIC_ENDINGS
        remedy = HEIC_REMEDY if heic else f"remove it; images are {COMMON_FORMATS}"
        return SourceProblem(name, name, "image", repr(file.name), remedy, "not an image")
    label = file.parent.name
    return SourceRow(name, name, file, label, {"label": label}, split=split)


def _digest(file: Path) -> bytes:
    """The SHA-256 of a file, by which equal ones stay together; of what is not a regular file, its name's."""
    if not file.is_file():
        return hashlib.sha256(str(file).encode()).digest()
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _idx_file(folder: Path, part: str, kind: str) -> Path | None:
    plain = folder / f"{part}-{kind}-ubyte"
    return next((file for file in (plain.with_name(f"{plain.name}.gz"), plain) if file.is_file()), None)


def _read_idx(folder: Path, part: str, kind: str, magic: int) -> NDArray[np.uint8]:
    """The array in an idx file: a magic number, the lengths of its dimensions (big-endian int32), then bytes."""
    file = _idx_file(folder, part, kind)
    if file is None:
        raise E2FashionError(f"{folder} has no {part}-{kind}-ubyte.gz: all four files of Fashion-MNIST must be in it.")
    dimensions = magic & 0xFF
    try:
        # Read as far as the header says, not to the end: a few bytes of gzip can unpack to gigabytes.
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            start = stream.read(4 * (1 + dimensions))
            header = np.frombuffer(start, dtype=">i4") if len(start) == 4 * (1 + dimensions) else np.zeros(1)
            if header[0] != magic:
                raise E2FashionError(f"{file} is not an idx file of {dimensions} dimension(s): fetch it again.")
            shape = tuple(int(size) for size in header[1:])
            size = math.prod(shape)
            if min(shape) < 0 or size > _MOST_BYTES:
                raise E2FashionError(
                    f"{file} says that it holds an array of {shape}: give files of up to {_MOST_BYTES:,} bytes."
                )
            data = stream.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise E2FashionError(f"{file} cannot be unpacked ({error}): fetch it again.") from error
    if len(data) < size:
        raise E2FashionError(f"{file} holds {len(data)} bytes for an array of {shape}: it is cut off, fetch it again.")
    if len(data) > size:
        raise E2FashionError(f"{file} holds more bytes than an array of {shape} has: fetch it again.")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _as_png(image: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()
