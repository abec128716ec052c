"""One pass over a catalogue: what its checks compare, with a hash and a thumbnail of each image."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from einops import rearrange, reduce
from torch import Tensor

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.decode import decode_image
from e2fashion.data.text import TextMeter
from e2fashion.terminal import progress_bar
from e2fashion.types import E2FashionError

SIDE = 32  # of the square that is hashed
THUMB = 16  # of the color square that is compared
_FREQUENCIES = 8  # per axis: 64 bits
_LUMA = (0.299, 0.587, 0.114)
_FLAT = 0.05  # gray levels: a coefficient this close to the median is noise, as in a plain image
_LEAST_DEVIATION = 4.0  # gray levels: below it an image is plain, and its contrast no measure


def hash_images(images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Hashes and thumbnails of images of one size; neither depends on size, aspect ratio or encoding, but for noise.

    An image is averaged to 32 x 32 gray levels; a bit says whether one of the 64 lowest coefficients of their cosine
    transform lies above the median of all.

    Args:
        images: uint8 (B, 3, H, W).

    Returns:
        uint64 (B,) and uint8 (B, 3, 16, 16).
    """
    pixels = images.float() @ _averaging(images.shape[3], SIDE).T
    pixels = _averaging(images.shape[2], SIDE) @ pixels
    gray = torch.einsum("c, b c h w -> b h w", torch.tensor(_LUMA), pixels)
    basis = _cosines()
    coefficients = rearrange(basis @ gray @ basis.T, "b v u -> b (v u)", v=_FREQUENCIES, u=_FREQUENCIES)
    median = coefficients.median(dim=1, keepdim=True).values
    bits = (coefficients > median + _FLAT).numpy()
    hashes = np.packbits(bits, axis=1).view(">u8").astype(np.uint64)[:, 0]
    thumbs = reduce(pixels, "b c (y v) (x u) -> b c y x", "mean", y=THUMB, x=THUMB)
    return hashes, thumbs.round().clamp(0, 255).byte().numpy()


def close_hashes(hashes: np.ndarray, limit: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of the uint64 ``hashes`` (N,) that differ in at most ``limit`` bits, in blocks of two index arrays.

    If 64 bits are dealt into ``limit + 1`` parts, such a pair is equal in one part at least: each part is sorted, and
    only neighbors that are equal in it are compared. A pair may come more than once, always the smaller index first.
    """
    bits = np.unpackbits(hashes.astype(">u8").view(np.uint8).reshape(-1, 8), axis=1)
    for part in range(limit + 1):
        # Every (limit + 1)th bit: coarse ones, in which many images agree, are spread over all parts.
        padded = np.zeros((len(hashes), 64), dtype=np.uint8)
        chosen = bits[:, part :: limit + 1]
        padded[:, : chosen.shape[1]] = chosen
        key = np.packbits(padded, axis=1).view(">u8")[:, 0]
        order = np.argsort(key, kind="stable")
        key = key[order]
        start, step = np.arange(len(key)), 1
        while len(start := start[start + step < len(key)]):
            start = start[key[start] == key[start + step]]
            one, other = order[start], order[start + step]
            close = np.bitwise_count(hashes[one] ^ hashes[other]) <= limit
            yield np.minimum(one, other)[close], np.maximum(one, other)[close]
            step += 1


def near_images(hashes: np.ndarray, thumbs: np.ndarray, bits: int, difference: float) -> list[tuple[int, int, float]]:
    """Pairs that differ in at most ``bits`` of their hashes and by at most ``difference``, the most alike first.

    The difference is the root mean square between two thumbnails (N, 3, 16, 16) over the geometric mean of their
    deviations: products that are small on a white ground need not look alike for it.

    Returns:
        first and second index and difference.
    """
    pixels = rearrange(thumbs, "n c y x -> n (c y x)")
    mean = pixels.mean(axis=1, dtype=np.float32)
    deviation = np.maximum(pixels.std(axis=1, dtype=np.float32), _LEAST_DEVIATION)
    similarities: dict[tuple[int, int], float] = {}
    for one, other in close_hashes(hashes, bits):
        bound = (difference**2) * deviation[one] * deviation[other]
        # Means and deviations alone bound the difference from below: few pairs are compared pixel by pixel.
        likely = (mean[one] - mean[other]) ** 2 + (deviation[one] - deviation[other]) ** 2 <= bound * 1.001 + 0.01
        one, other, bound = one[likely], other[likely], bound[likely]
        for block in range(0, len(one), 4096):
            part = slice(block, block + 4096)
            gap = pixels[one[part]].astype(np.float32) - pixels[other[part]]
            square = np.square(gap).mean(axis=1)
            for close in np.nonzero(square <= bound[part])[0] + block:
                pair = int(one[close]), int(other[close])
                scale = deviation[pair[0]] * deviation[pair[1]]
                similarities[pair] = float(np.sqrt(square[close - block] / scale))
    return sorted(((*pair, gap) for pair, gap in similarities.items()), key=lambda item: (item[2], item[:2]))


@lru_cache(maxsize=4096)
def _averaging(pixels: int, cells: int) -> Tensor:
    """(cells, pixels): each row averages the stretch of a line that a cell covers, partly covered pixels in part."""
    edges = np.linspace(0, pixels, cells + 1)
    left, right = edges[:-1, None], edges[1:, None]
    pixel = np.arange(pixels)[None]
    covered = np.clip(np.minimum(right, pixel + 1) - np.maximum(left, pixel), 0, None)
    return torch.from_numpy((covered / covered.sum(axis=1, keepdims=True)).astype(np.float32))


@lru_cache(maxsize=1)
def _cosines() -> Tensor:
    """(8, 32): the lowest frequencies of the cosine transform of a line, orthonormal over its mean."""
    position, frequency = np.arange(SIDE)[None] + 0.5, np.arange(_FREQUENCIES)[:, None]
    return torch.from_numpy((np.cos(np.pi * position * frequency / SIDE) / SIDE).astype(np.float32))


_ROWS_AT_ONCE = 256
_BYTES_AT_ONCE = 4 << 20  # of decoded images: what stays in a processor's cache as floats
_PNG_START = b"\x89PNG"


@dataclass
class Content:
    """Every row of every split, in the order of the catalogue; lists and arrays are as long as there are rows.

    ``index`` is the number of a row in its split; ``first`` says whether it is the first view of its product; ``size``
    is (width, height); ``pixels`` a digest of the decoded image, None where it cannot be decoded (``unreadable``
    holds why, by row number); ``hashes`` uint64 (N,) and ``thumbs`` uint8 (N, 3, 16, 16) what it looks like, zeros
    where there is none; ``tokens`` the length of a product's text, 0 at its further views.
    """

    split: list[str] = field(default_factory=list)
    index: list[int] = field(default_factory=list)
    product: list[str] = field(default_factory=list)
    view: list[int] = field(default_factory=list)
    first: list[bool] = field(default_factory=list)
    group: list[str | None] = field(default_factory=list)
    description: list[str] = field(default_factory=list)
    tags: dict[str, list[str | None]] = field(default_factory=dict)
    numbers: dict[str, list[float | None]] = field(default_factory=dict)
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


def read_content(catalogue: Catalogue, meter: TextMeter, progress: bool = True) -> Content:
    """Read and decode every row of ``catalogue`` once; ``meter`` measures its texts."""
    content = Content(
        tags={tag: [] for tag in catalogue.tag_columns}, numbers={name: [] for name in catalogue.number_columns}
    )
    total = sum(counts["images"] for counts in catalogue.manifest.splits.values())
    looks = _Looks(content)
    with progress_bar(total=total, desc="Checking", unit=" rows", shown=progress) as bar:
        for split in catalogue.split_names:
            before, previous = len(content), None
            for batch in catalogue.split(split).iter(_ROWS_AT_ONCE):
                products: list[str] = batch["product_id"]
                first = [product != last for product, last in zip(products, [previous, *products[:-1]], strict=True)]
                previous = products[-1]
                chosen = [row for row, is_first in enumerate(first) if is_first]
                tokens = dict(zip(chosen, meter.lengths(batch, chosen), strict=True))
                content.tokens += [tokens.get(row, 0) for row in range(len(products))]
                content.index += range(len(content) - before, len(content) - before + len(products))
                content.split += [split] * len(products)
                content.product += products
                content.view += batch["view"]
                content.first += first
                content.group += batch["group"]
                content.description += batch["description"]
                for tag, values in content.tags.items():
                    values += batch[tag]
                for name, numbers in content.numbers.items():
                    numbers += batch[name]
                for image in batch["image"]:
                    looks.add(image)
                bar.update(len(products))
    content.hashes, content.thumbs = looks.finish()
    return content


class _Looks:
    """Decodes images one after another, and hashes those of one size together."""

    def __init__(self, content: Content) -> None:
        self.content = content
        self._hashes = [content.hashes]
        self._thumbs = [content.thumbs]
        self._waiting: dict[tuple[int, int], dict[int, Tensor]] = defaultdict(dict)
        self._rows = self._bytes = 0

    def add(self, data: bytes) -> None:
        """Append an image's size, kind and digest to the content, or why it cannot be decoded."""
        content = self.content
        row = len(content.size)
        content.kind.append("PNG" if data.startswith(_PNG_START) else "JPEG")
        self._rows += 1
        try:
            image = decode_image(data)
        except E2FashionError as error:
            content.unreadable[row] = str(error)
            content.size.append(None)
            content.pixels.append(None)
        else:
            height, width = image.shape[1:]
            digest = hashlib.sha256(f"{width}x{height}".encode())
            digest.update(rearrange(image, "c h w -> h w c", c=3).contiguous().numpy().data)
            content.size.append((width, height))
            content.pixels.append(digest.digest())
            self._waiting[height, width][self._rows - 1] = image
            self._bytes += image.numel()
        if self._rows >= _ROWS_AT_ONCE or self._bytes >= _BYTES_AT_ONCE:
            self._flush()

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Hashes and thumbnails of all images, in order."""
        self._flush()
        return np.concatenate(self._hashes), np.concatenate(self._thumbs)

    def _flush(self) -> None:
        hashes = np.zeros(self._rows, dtype=np.uint64)
        thumbs = np.zeros((self._rows, 3, THUMB, THUMB), dtype=np.uint8)
        for images in self._waiting.values():
            rows = list(images)
            hashes[rows], thumbs[rows] = hash_images(torch.stack(list(images.values())))
        self._hashes.append(hashes)
        self._thumbs.append(thumbs)
        self._waiting.clear()
        self._rows = self._bytes = 0
