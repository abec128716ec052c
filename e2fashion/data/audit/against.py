"""What val and test of one catalogue have in common with the train split of another, say one for pretraining."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from e2fashion.data.audit.content import Content
from e2fashion.data.audit.duplicates import PAIR_COLUMNS, row_cells
from e2fashion.data.audit.findings import Finding, counted
from e2fashion.data.audit.image_hash import near_pictures
from e2fashion.data.text import normalize_text
from e2fashion.types import E2FashionError

_REMEDY = (
    "A model that was trained on {name} has seen them: leave these products out of it, or say beside results that its "
    "pretraining was not clean."
)


def against_findings(content: Content, other: Content, name: str, bits: int, difference: float) -> list[Finding]:
    """Products of val and test whose picture or text train of the other catalogue, called ``name``, holds too.

    Pictures count if they are identical or near, as within a catalogue; texts if they are identical but for case and
    white space. Equal product ids mean nothing, for two shops may count alike.

    Raises:
        E2FashionError: the first catalogue has neither val nor test, or the second no train.
    """
    ours = [row for row, split in enumerate(content.split) if split != "train"]
    theirs = [row for row, split in enumerate(other.split) if split == "train"]
    if not ours or not theirs:
        raise E2FashionError(
            f"against={name}: val and test of the catalogue are compared with train of {name}, but there are "
            f"{len(ours):,} and {len(theirs):,} such rows. Name a catalogue with a train split, and check one with val "
            "or test."
        )
    pictures = _closest_pictures(content, ours, other, theirs, bits, difference)
    with_text = {normalize_text(other.description[row]): row for row in reversed(theirs)}
    texts = {
        row: (1.0, with_text[text])
        for row in ours
        if content.first[row] and (text := normalize_text(content.description[row])) in with_text
    }
    return [
        _finding(content, other, name, pictures, "pictures", "difference", "identical or near-identical pictures"),
        _finding(content, other, name, texts, "texts", "similarity", "identical texts"),
    ]


def _closest_pictures(
    content: Content, ours: list[int], other: Content, theirs: list[int], bits: int, difference: float
) -> dict[int, tuple[float, int]]:
    """For each of our rows that has one: how much the closest picture of theirs differs, and its row."""
    own: dict[bytes, list[int]] = defaultdict(list)
    for row in ours:
        if (digest := content.pixels[row]) is not None:
            own[digest].append(row)
    foreign = {digest: row for row in reversed(theirs) if (digest := other.pixels[row]) is not None}
    found = {row: (0.0, foreign[digest]) for digest, rows in own.items() if digest in foreign for row in rows}
    groups, stands = list(own.values()), list(foreign.values())
    first = [rows[0] for rows in groups]
    hashes = np.concatenate([content.hashes[first], other.hashes[stands]])
    thumbs = np.concatenate([content.thumbs[first], other.thumbs[stands]])
    for one, two, gap in near_pictures(hashes, thumbs, bits, difference):
        if one < len(first) <= two:
            for row in groups[one]:
                found.setdefault(row, (gap, stands[two - len(first)]))  # the closest come first
    return found


def _finding(
    content: Content,
    other: Content,
    name: str,
    found: dict[int, tuple[float, int]],
    what: str,
    measure: str,
    words: str,
) -> Finding:
    ordered = sorted(found, key=lambda row: (abs(found[row][0]), content.name(row)))
    products = {content.product[row] for row in found}
    return Finding(
        check=f"against_{what}",
        title=f"{words[0].upper()}{words[1:]} in train of {name}",
        if_found="leak",
        count=len(products),
        unit="products",
        summary=f"Of val and test, {counted(len(products), 'products')} with {words} in train of {name}.",
        remedy=_REMEDY.format(name=name),
        columns=(measure, *PAIR_COLUMNS),
        rows=tuple(
            (round(found[row][0], 4), *row_cells(content, row), *row_cells(other, found[row][1])) for row in ordered
        ),
        pairs=tuple((row, found[row][1]) for row in ordered),
    )
