"""Queries of text-guided retrieval with their answers: FashionIQ's triplets, and color changes in any catalogue."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.fashion_iq import FashionIQ, Gallery, Triplet, empty_captions
from e2fashion.data.text import DESCRIPTION, normalize_text
from e2fashion.tasks.composed.config import ComposeConfig
from e2fashion.types import E2FashionError


@dataclass(frozen=True)
class QuerySet:
    """Q queries into a gallery of N images, as rows of ``images`` (M ids of images to embed).

    ``gallery`` (N,) and ``reference`` (Q,) int64 are rows of ``images``; a gallery item answers a query if its
    ``answers`` (N,) equals the query's ``wanted`` (Q,) int64. ``unit`` (Q,) int64 is what queries share (a reference
    image, a product line): a bootstrap draws them together. ``tags`` are of the references, ``counts`` of what was
    given and left out.
    """

    category: str
    images: tuple[str, ...]
    gallery: Tensor
    reference: Tensor
    answers: Tensor
    wanted: Tensor
    unit: Tensor
    instructions: tuple[tuple[str, ...], ...]
    tags: tuple[Mapping[str, str | None], ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.reference)

    def describe(self) -> str:
        """The counts in one line."""
        numbers = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in self.counts.items())
        return f"{self.category}: {len(self):,} queries, {len(self.gallery):,} candidates; {numbers}"


def fashion_iq_queries(
    data: FashionIQ, category: str, split: str, gallery: Gallery = "original", triplets: Sequence[Triplet] | None = None
) -> tuple[QuerySet, list[str]]:
    """The queries of a category (or of these ``triplets`` of it), and the ids of missing images.

    The reference stays in the gallery. Candidates without an image, and triplets whose reference or target has none,
    are left out and counted; empty captions are skipped and counted.

    Raises:
        E2FashionError: no query is left.
    """
    triplets_read = data.triplets(category, split) if triplets is None else list(triplets)
    named = dict.fromkeys(name for item in triplets_read for name in (item.reference, item.target))
    listed = data.gallery(category, split, gallery) if triplets is None else list(named)
    missing = data.missing([*listed, *named])
    absent = set(missing)
    present = [name for name in listed if name not in absent]
    known = {*present, *absent}
    if outside := [item for item in triplets_read if item.target not in known]:
        raise E2FashionError(
            f"FashionIQ's {category}: target '{outside[0].target}' of reference '{outside[0].reference}' is not in the "
            f"gallery '{gallery}' of {split}: is image_splits/ of the same release as captions/?"
        )
    kept = [item for item in triplets_read if item.reference not in absent and item.target not in absent]
    if not kept:
        raise E2FashionError(
            f"FashionIQ's {category}, {split}: none of {len(triplets_read):,} triplets has both of its images in "
            f"{data.image_folder} ({len(missing):,} are missing): put them there as <id>.png or <id>.jpg"
        )
    images = list(dict.fromkeys([*present, *(item.reference for item in kept)]))
    row_of = {name: row for row, name in enumerate(images)}
    reference = torch.tensor([row_of[item.reference] for item in kept])
    queries = QuerySet(
        category=category,
        images=tuple(images),
        gallery=torch.arange(len(present)),
        reference=reference,
        answers=torch.arange(len(present)),
        wanted=torch.tensor([row_of[item.target] for item in kept]),
        unit=reference,
        instructions=tuple(item.instructions for item in kept),
        counts={
            "triplets": len(triplets_read),
            "triplets_left_out": len(triplets_read) - len(kept),
            "candidates_without_picture": len(listed) - len(present),
            "empty_captions": empty_captions(kept),
            "queries_without_instruction": sum(not item.instructions for item in kept),
        },
    )
    return queries, missing


def check_lines(catalogue: Catalogue, config: ComposeConfig) -> None:
    """Refuse columns that the catalogue lacks, no criterion for a line, and an instruction without a slot."""
    known = [*catalogue.tag_columns, "group"]
    for column in (*config.line_columns, config.colour_column):
        if column not in known:
            raise E2FashionError(
                f"the catalogue {catalogue.path} has no column '{column}', which defines product lines and their "
                f"colors; its columns: {', '.join(known)}. Name others with line_columns= and colour_column="
            )
    if not config.line_columns and not config.line_name:
        raise E2FashionError("line_columns is empty and line_name false: every product would be of one line")
    if "{}" not in config.instruction:
        raise E2FashionError(f"instruction is '{config.instruction}', which has no slot: write {{}} for the color")


def other_color_queries(catalogue: Catalogue, split: str, config: ComposeConfig) -> QuerySet:
    """For every product, and every other color of its line in this split, one query ("in blue").

    Any product of the line in that color is a hit; all products of the split are the gallery, the reference among
    them. There is no randomness. A product without a color is in the gallery alone.

    Raises:
        E2FashionError: columns that the catalogue lacks, or no line of two colors.
    """
    check_lines(catalogue, config)
    needed = ["product_id", DESCRIPTION, *config.line_columns, config.colour_column, *catalogue.tag_columns]
    rows = catalogue.split(split).select_columns(list(dict.fromkeys(needed))).to_dict()
    first = {product: row for row, product in reversed(list(enumerate(rows["product_id"])))}
    order = sorted(first.values())
    products = list(zip(*_lines(rows, order, config), strict=True))
    groups: dict[tuple[int, str], int] = {}
    names: dict[int, dict[str, str]] = {}
    answers = []
    for row, (line, color) in zip(order, products, strict=True):
        answers.append(-1 if color is None else groups.setdefault((line, color), len(groups)))
        if color is not None:
            names.setdefault(line, {}).setdefault(color, str(rows[config.colour_column][row]).lower())
    queries = [
        (item, line, other)
        for item, (line, color) in enumerate(products)
        if color is not None
        for other in names[line]
        if other != color
    ]
    if not queries:
        raise E2FashionError(
            f"{split} of {catalogue.path} has no product line of two colors (same "
            f"{', '.join([*config.line_columns, *(['name'] if config.line_name else [])])}, other "
            f"{config.colour_column}): choose other columns with line_columns= and colour_column=, or another split"
        )
    several = {line for _, line, _ in queries}
    return QuerySet(
        category="all",
        images=tuple(str(rows["product_id"][row]) for row in order),
        gallery=torch.arange(len(order)),
        reference=torch.tensor([item for item, _, _ in queries]),
        answers=torch.tensor(answers),
        wanted=torch.tensor([groups[line, other] for _, line, other in queries]),
        unit=torch.tensor([line for _, line, _ in queries]),
        instructions=tuple((config.instruction.replace("{}", names[line][other]),) for _, line, other in queries),
        tags=tuple({c: rows[c][order[item]] for c in catalogue.tag_columns} for item, _, _ in queries),
        counts={
            "lines_of_several_colours": len(several),
            "products_in_them": sum(line in several for line, _ in products),
            "products_without_a_colour": sum(color is None for _, color in products),
        },
    )


def _lines(
    rows: Mapping[str, Sequence[str | None]], order: Sequence[int], config: ComposeConfig
) -> tuple[list[int], list[str | None]]:
    """The line and the color, normalized, of every product: None if the color is unknown."""
    colors = [
        normalize_text(value) if (value := rows[config.colour_column][row]) and value.strip() else None for row in order
    ]
    names = sorted({color for color in colors if color}, key=lambda name: (-len(name), name))
    color_names = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, names)) + r")(?!\w)") if names else None
    seen: dict[tuple[str, ...], int] = {}
    lines = []
    for row in order:
        key = tuple(normalize_text(rows[column][row] or "") for column in config.line_columns)
        if not all(key):  # two products without a brand are not of one brand
            key = ("", str(row))
        if config.line_name:
            name = normalize_text(rows[DESCRIPTION][row] or "")
            key = (*key, normalize_text(color_names.sub(" ", name) if color_names else name))
        lines.append(seen.setdefault(key, len(seen)))
    return lines, colors
