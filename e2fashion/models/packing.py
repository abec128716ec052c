"""Texts laid end to end in few sequences without padding, in which equal beginnings occur once."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

LENGTHS = tuple(1.0 + quarters / 4 for quarters in range(21))
"""Bounds of a sequence that are compared, in lengths of the longest text."""
LINEAR_COST, ATTENTION_COST = 12, 4
"""Of a token: linear maps for each unit of the width, and attention for each token of the sequence."""


@dataclass(frozen=True)
class PackedTexts:
    """B texts of up to L tokens in S sequences of T places.

    With causal attention a token's state depends on the tokens before it alone, so that texts with an equal beginning
    share its states. ``ids`` and ``positions`` (S, T) int64; ``visible`` (S, T, T) bool: what a place attends to, the
    earlier tokens of its text and itself; ``places`` (B, L) int64: where each text's tokens are in the S * T places,
    behind its end that of its last token.
    """

    ids: Tensor
    positions: Tensor
    visible: Tensor
    places: Tensor


def pack_texts(input_ids: Tensor, ends: Tensor, width: int) -> PackedTexts:
    """Pack the texts ``input_ids`` (B, L) up to and with their positions ``ends`` (B,), for an encoder of ``width``.

    Texts are sorted, so that equal beginnings are neighbors, and put one after another into sequences of the length at
    which the encoder computes least: a long one attends to more places in vain, short ones remain unfilled.
    """
    texts, lengths = input_ids.numpy(), ends.numpy() + 1
    inside = np.arange(texts.shape[1]) < lengths[:, None]
    order = np.lexsort(np.where(inside, texts, -1).T[::-1])
    texts, inside = texts[order], inside[order]
    equal = (texts[1:] == texts[:-1]) & inside[1:] & inside[:-1]
    common = [0, *np.logical_and.accumulate(equal, axis=1).sum(1).tolist()]  # tokens at which a text and the last agree
    sizes: list[int] = lengths[order].tolist()
    longest = max(sizes)

    def cost(split: tuple[list[int], int]) -> int:
        starts, most = split
        return len(starts) * most * (LINEAR_COST * width + ATTENTION_COST * most)

    starts, most = min((_split(sizes, common, int(longest * length)) for length in LENGTHS), key=cost)
    bounds = list(pairwise([*starts, len(sizes)]))
    ids, positions = (np.zeros((len(bounds), most), dtype=np.int64) for _ in range(2))
    visible = np.zeros((len(bounds), most, most), dtype=bool)
    visible[:, np.arange(most), np.arange(most)] = True  # unfilled places too: attention to nothing is not a number
    places = np.zeros(texts.shape, dtype=np.int64)
    causal = np.tri(longest, dtype=bool)
    for number, (first, last) in enumerate(bounds):
        path = np.zeros(0, dtype=np.int64)
        filled = 0
        for text in range(first, last):
            known, length = common[text] if text > first else 0, sizes[text]
            new = np.arange(filled, filled + length - known)
            filled += length - known
            path = np.concatenate([path[:known], new])
            ids[number, new] = texts[text, known:length]
            positions[number, new] = np.arange(known, length)
            visible[number, new[:, None], path] = causal[known:length, :length]
            places[order[text], :length] = number * most + path
            places[order[text], length:] = number * most + path[-1]
    return PackedTexts(*map(torch.from_numpy, (ids, positions, visible, places)))


def _split(sizes: list[int], common: list[int], bound: int) -> tuple[list[int], int]:
    """Numbers of the texts that begin a sequence, none of which has more than ``bound`` places, and the most it has."""
    starts, filled, most = [0], sizes[0], sizes[0]
    for text in range(1, len(sizes)):
        filled += sizes[text] - common[text]
        if filled > bound:
            starts.append(text)
            filled = sizes[text]
        most = max(most, filled)
    return starts, most
