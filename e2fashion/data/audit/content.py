"""One pass over a catalogue: what its checks compare, without its pictures."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from e2fashion.data.audit.image_hash import THUMB, hash_pictures
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.decode import decode_image
from e2fashion.data.text_length import TextLimit
from e2fashion.terminal import progress_bar
from e2fashion.types import E2FashionError

_ROWS_AT_ONCE = 256
_BYTES_AT_ONCE = 4 << 20  # of decoded pictures: what stays in a processor's cache as floats
_PNG_START = b"\x89PNG"


@dataclass
class Content:
    """Every row of every split, in the order of the catalogue; lists and arrays are as long as there are rows.

    ``place`` is the number of a row in its split; ``first`` says whether it is the first view of its product; ``size``
    is (width, height); ``pixels`` a digest of the decoded picture, None where it cannot be decoded (``unreadable``
    holds why, by row number); ``hashes`` uint64 (N,) and ``thumbs`` uint8 (N, 3, 16, 16) what it looks like, zeros
    where there is none; ``tokens`` the length of a product's text, 0 at its further views.
    """

    split: list[str] = field(default_factory=list)
    place: list[int] = field(default_factory=list)
    product: list[str] = field(default_factory=list)
    view: list[int] = field(default_factory=list)
    first: list[bool] = field(default_factory=list)
    group: list[str | None] = field(default_factory=list)
    description: list[str] = field(default_factory=list)
    tags: dict[str, list[str | None]] = field(default_factory=dict)
    size: list[tuple[int, int] | None] = field(default_factory=list)
    kind: list[str] = field(default_factory=list)
    pixels: list[bytes | None] = field(default_factory=list)
    unreadable: dict[int, str] = field(default_factory=dict)
    tokens: list[int] = field(default_factory=list)
    hashes: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    thumbs: np.ndarray = field(default_factory=lambda: np.zeros((0, 3, THUMB, THUMB), dtype=np.uint8))

    def __len__(self) -> int:
        return len(self.product)

    @property
    def products(self) -> list[int]:
        """The rows of the products' first views."""
        return [row for row, first in enumerate(self.first) if first]

    def name(self, row: int) -> tuple[str, str, int]:
        """Split, product id and view: what a report calls a row, and what rows are sorted by."""
        return self.split[row], self.product[row], self.view[row]


def read_content(catalogue: Catalogue, limit: TextLimit, progress: bool = True) -> Content:
    """Read and decode every row of ``catalogue`` once.

    Raises:
        E2FashionError: the template of ``limit`` has a field that the catalogue lacks.
    """
    limit.template.validate(catalogue.tag_columns)
    content = Content(tags={tag: [] for tag in catalogue.tag_columns})
    total = sum(counts["images"] for counts in catalogue.manifest.splits.values())
    looks = _Looks(content)
    with progress_bar(total=total, desc="Checking", unit=" rows", shown=progress) as bar:
        for split in catalogue.split_names:
            before, previous = len(content), None
            for batch in catalogue.split(split).iter(_ROWS_AT_ONCE):
                products: list[str] = batch["product_id"]
                first = [own != last for own, last in zip(products, [previous, *products[:-1]], strict=True)]
                previous = products[-1]
                chosen = [row for row, is_first in enumerate(first) if is_first]
                tokens = dict(zip(chosen, limit.lengths(batch, chosen), strict=True))
                content.tokens += [tokens.get(row, 0) for row in range(len(products))]
                content.place += range(len(content) - before, len(content) - before + len(products))
                content.split += [split] * len(products)
                content.product += products
                content.view += batch["view"]
                content.first += first
                content.group += batch["group"]
                content.description += batch["description"]
                for tag, values in content.tags.items():
                    values += batch[tag]
                for image in batch["image"]:
                    looks.add(image)
                bar.update(len(products))
    content.hashes, content.thumbs = looks.finish()
    return content


class _Looks:
    """Decodes pictures one after another, and hashes those of one size together."""

    def __init__(self, content: Content) -> None:
        self.content = content
        self._hashes = [content.hashes]
        self._thumbs = [content.thumbs]
        self._waiting: dict[tuple[int, int], dict[int, Tensor]] = defaultdict(dict)
        self._rows = self._bytes = 0

    def add(self, data: bytes) -> None:
        """Append a picture's size, kind and digest to the content, or why it cannot be decoded."""
        content = self.content
        row = len(content.size)
        content.kind.append("PNG" if data.startswith(_PNG_START) else "JPEG")
        self._rows += 1
        try:
            picture = decode_image(data)
        except E2FashionError as error:
            content.unreadable[row] = str(error)
            content.size.append(None)
            content.pixels.append(None)
        else:
            height, width = picture.shape[1:]
            digest = hashlib.sha256(f"{width}x{height}".encode())
            digest.update(rearrange(picture, "c h w -> h w c", c=3).contiguous().numpy().data)
            content.size.append((width, height))
            content.pixels.append(digest.digest())
            self._waiting[height, width][self._rows - 1] = picture
            self._bytes += picture.numel()
        if self._rows >= _ROWS_AT_ONCE or self._bytes >= _BYTES_AT_ONCE:
            self._flush()

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Hashes and thumbnails of all pictures, in order."""
        self._flush()
        return np.concatenate(self._hashes), np.concatenate(self._thumbs)

    def _flush(self) -> None:
        hashes = np.zeros(self._rows, dtype=np.uint64)
        thumbs = np.zeros((self._rows, 3, THUMB, THUMB), dtype=np.uint8)
        for pictures in self._waiting.values():
            places = list(pictures)
            hashes[places], thumbs[places] = hash_pictures(torch.stack(list(pictures.values())))
        self._hashes.append(hashes)
        self._thumbs.append(thumbs)
        self._waiting.clear()
        self._rows = self._bytes = 0
