"""Pictures that look alike: a 64-bit hash of what is coarse in them, and pairs of hashes that differ in few bits."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from einops import rearrange, reduce
from torch import Tensor

SIDE = 32  # of the square that is hashed
THUMB = 16  # of the colour square that is compared
_FREQUENCIES = 8  # per axis: 64 bits
_LUMA = (0.299, 0.587, 0.114)
_FLAT = 0.05  # grey levels: a coefficient this close to the median is noise, as in a plain picture
_LEAST_DEVIATION = 4.0  # grey levels: below it a picture is plain, and its own contrast no measure


def hash_pictures(pictures: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Hashes and thumbnails of pictures of one size; neither depends on size, aspect ratio or encoding, but for noise.

    A picture is averaged to 32 x 32 grey levels; a bit says whether one of the 64 lowest coefficients of their cosine
    transform lies above the median of all.

    Args:
        pictures: uint8 (B, 3, H, W).

    Returns:
        uint64 (B,) and uint8 (B, 3, 16, 16).
    """
    pixels = pictures.float() @ _averaging(pictures.shape[3], SIDE).T
    pixels = _averaging(pictures.shape[2], SIDE) @ pixels
    grey = torch.einsum("c, b c h w -> b h w", torch.tensor(_LUMA), pixels)
    basis = _cosines()
    coefficients = rearrange(basis @ grey @ basis.T, "b v u -> b (v u)", v=_FREQUENCIES, u=_FREQUENCIES)
    median = coefficients.median(dim=1, keepdim=True).values
    bits = (coefficients > median + _FLAT).numpy()
    hashes = np.packbits(bits, axis=1).view(">u8").astype(np.uint64)[:, 0]
    thumbs = reduce(pixels, "b c (y v) (x u) -> b c y x", "mean", y=THUMB, x=THUMB)
    return hashes, thumbs.round().clamp(0, 255).byte().numpy()


def close_hashes(hashes: np.ndarray, limit: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of the uint64 ``hashes`` (N,) that differ in at most ``limit`` bits, in blocks of two index arrays.

    If 64 bits are dealt into ``limit + 1`` parts, such a pair is equal in one part at least: each part is sorted, and
    only neighbours that are equal in it are compared. A pair may come more than once, always the smaller index first.
    """
    bits = np.unpackbits(hashes.astype(">u8").view(np.uint8).reshape(-1, 8), axis=1)
    for part in range(limit + 1):
        # Every (limit + 1)th bit: coarse ones, in which many pictures agree, are spread over all parts.
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


def near_pictures(hashes: np.ndarray, thumbs: np.ndarray, bits: int, difference: float) -> list[tuple[int, int, float]]:
    """Pairs that differ in at most ``bits`` of their hashes and by at most ``difference``, the most alike first.

    The difference is the root mean square between two thumbnails (N, 3, 16, 16) over the geometric mean of their
    deviations: products that are small on a white ground need not look alike for it.

    Returns:
        first and second index and difference.
    """
    pixels = rearrange(thumbs, "n c y x -> n (c y x)")
    mean = pixels.mean(axis=1, dtype=np.float32)
    deviation = np.maximum(pixels.std(axis=1, dtype=np.float32), _LEAST_DEVIATION)
    found: dict[tuple[int, int], float] = {}
    for one, other in close_hashes(hashes, bits):
        bound = (difference**2) * deviation[one] * deviation[other]
        # Means and deviations alone bound the difference from below: few pairs are compared pixel by pixel.
        likely = (mean[one] - mean[other]) ** 2 + (deviation[one] - deviation[other]) ** 2 <= bound * 1.001 + 0.01
        one, other, bound = one[likely], other[likely], bound[likely]
        for block in range(0, len(one), 4096):
            part = slice(block, block + 4096)
            gap = pixels[one[part]].astype(np.float32) - pixels[other[part]]
            square = np.square(gap).mean(axis=1)
            for place in np.nonzero(square <= bound[part])[0] + block:
                pair = int(one[place]), int(other[place])
                scale = deviation[pair[0]] * deviation[pair[1]]
                found[pair] = float(np.sqrt(square[place - block] / scale))
    return sorted(((*pair, gap) for pair, gap in found.items()), key=lambda item: (item[2], item[:2]))


@lru_cache(maxsize=4096)
def _averaging(pixels: int, cells: int) -> Tensor:
    """(cells, pixels): each row averages the stretch of a line that a cell covers, partly covered pixels in part."""
    edges = np.linspace(0, pixels, cells + 1)
    left, right = edges[:-1, None], edges[1:, None]
    place = np.arange(pixels)[None]
    covered = np.clip(np.minimum(right, place + 1) - np.maximum(left, place), 0, None)
    return torch.from_numpy((covered / covered.sum(axis=1, keepdims=True)).astype(np.float32))


@lru_cache(maxsize=1)
def _cosines() -> Tensor:
    """(8, 32): the lowest frequencies of the cosine transform of a line, orthonormal over its mean."""
    place, frequency = np.arange(SIDE)[None] + 0.5, np.arange(_FREQUENCIES)[:, None]
    return torch.from_numpy((np.cos(np.pi * place * frequency / SIDE) / SIDE).astype(np.float32))
