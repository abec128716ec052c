"""Train, val and test by product group: what belongs together never lands on two sides."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from e2fashion.types import E2FashionError, Split


@dataclass(frozen=True)
class SplitKeys:
    """What ties one row to others: rows that share any of these belong together.

    ``text`` and ``image`` are digests of the normalized text and of the pixels; a ``group`` of None ties nothing.
    """

    product_id: str
    group: str | None
    text: bytes
    image: bytes


@dataclass(frozen=True)
class Assignment:
    """The split of every row, the rule behind it in words, and what the user should know about the outcome."""

    splits: list[Split]
    rule: str
    notes: list[str]


def check_fractions(fractions: Mapping[Split, float]) -> None:
    """Raise an E2FashionError unless every fraction is in [0, 1) and they leave something for train."""
    shown = ", ".join(f"{split}_fraction={fraction}" for split, fraction in fractions.items())
    if any(not 0 <= fraction < 1 for fraction in fractions.values()) or sum(fractions.values()) >= 1:
        raise E2FashionError(f"{shown}: each must be in [0, 1) and together they must leave room for train.")


def connected_components(rows: Sequence[SplitKeys]) -> list[int]:
    """For every row the index of a row that represents its component (union-find over all keys)."""
    parent = list(range(len(rows)))

    def find(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first_with: dict[tuple[str, str | bytes], int] = {}
    for index, row in enumerate(rows):
        for kind, key in (("product", row.product_id), ("text", row.text), ("image", row.image), ("group", row.group)):
            if key is not None:
                parent[find(index)] = find(first_with.setdefault((kind, key), index))
    return [find(index) for index in range(len(rows))]


def assign_splits(rows: Sequence[SplitKeys], seed: int, fractions: Mapping[Split, float]) -> Assignment:
    """Give every connected component of ``rows`` to one split (ours).

    Components are taken in the order of a hash of ``seed`` and their smallest product id, so that the order of the
    rows does not matter. Each goes to the first split of ``fractions`` that still has room for all its rows, and
    to train otherwise: a component larger than a split's share therefore stays in train. A split that nothing fits
    gets the smallest component that does not empty another split: three components always fill three splits.

    Raises:
        E2FashionError: if the fractions leave nothing for train.
    """
    check_fractions(fractions)
    members: dict[int, list[int]] = {}
    for index, root in enumerate(connected_components(rows)):
        members.setdefault(root, []).append(index)
    components = sorted(members.values(), key=lambda indices: _rank(rows, indices, seed))
    wanted = [split for split, fraction in fractions.items() if fraction > 0]
    room = {split: max(1, round(fractions[split] * len(rows))) for split in wanted}
    quota = dict(room)
    chosen: list[Split] = ["train"] * len(components)
    filled: set[Split] = set()
    spare = len(components) - 1  # train keeps at least one component
    for number, indices in enumerate(components):
        fitting = [split for split in wanted if room[split] >= len(indices)]
        if fitting and spare > 0:
            # A split that has nothing yet goes first: three components are enough for three splits.
            chosen[number] = min(fitting, key=lambda split: split in filled)
            filled.add(chosen[number])
            room[chosen[number]] -= len(indices)
            spare -= 1
    for split in wanted:
        if split not in filled:
            counts = Counter(chosen)
            shared = [number for number, given in enumerate(chosen) if counts[given] > 1]
            if shared:
                chosen[min(shared, key=lambda number: len(components[number]))] = split
    splits: list[Split] = ["train"] * len(rows)
    for split, indices in zip(chosen, components, strict=True):
        for index in indices:
            splits[index] = split
    shares = ", ".join(f"{split} {fraction:g}" for split, fraction in fractions.items())
    return Assignment(
        splits,
        f"by product group: no product, group, identical text or identical image crosses splits; seed {seed}, {shares}",
        _notes(rows, components, chosen, quota),
    )


def decide_splits(
    rows: Sequence[SplitKeys], given: Sequence[Split | None], seed: int, fractions: Mapping[Split, float]
) -> Assignment:
    """Keep the splits that the source gives, carve val out of train where it gives none, or make all of them.

    The best epoch is chosen on val: a catalogue without it could not be trained on.

    Raises:
        E2FashionError: if only some rows have a split, or the fractions leave nothing for train.
    """
    declared = [split for split in given if split is not None]
    if not declared:
        return assign_splits(rows, seed, fractions)
    if len(declared) < len(rows):
        products = [row.product_id for row, split in zip(rows, given, strict=True) if split is None]
        raise E2FashionError(
            f"Field 'split' is empty for product {products[0]} (one of {len(products):,} such rows), though other "
            f"rows have one. Fill in every split, or leave the split column out to split by product group."
        )
    if "train" not in declared or "val" in declared or not fractions["val"]:
        return Assignment(declared, "given by the source", [])
    train = [index for index, split in enumerate(declared) if split == "train"]
    carved = assign_splits([rows[index] for index in train], seed, {"val": fractions["val"]})
    for index, split in zip(train, carved.splits, strict=True):
        declared[index] = split
    return Assignment(declared, f"given by the source; val carved out of train {carved.rule}", carved.notes)


def _rank(rows: Sequence[SplitKeys], indices: list[int], seed: int) -> tuple[bytes, str]:
    smallest = min(rows[index].product_id for index in indices)
    return hashlib.sha256(f"{seed}:{smallest}".encode()).digest(), smallest


def _notes(
    rows: Sequence[SplitKeys], components: list[list[int]], chosen: list[Split], quota: dict[Split, int]
) -> list[str]:
    notes = []
    largest = max(components, key=len, default=[])
    if quota and len(largest) > min(quota.values()):
        smallest = min(rows[index].product_id for index in largest)
        notes.append(
            f"The largest group of rows tied by product, group, text or image has {len(largest):,} of "
            f"{len(rows):,} rows (smallest product id {smallest}), more than the share of a split "
            f"({min(quota.values()):,}): it stays whole. If that is a surprise, look for a text or a placeholder "
            f"image that many products share."
        )
    notes += [
        f"Split '{split}' is empty: the rows form only {len(components):,} group(s) that may not be divided."
        for split in quota
        if split not in chosen
    ]
    return notes
