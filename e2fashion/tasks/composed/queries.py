"""Queries of text-guided retrieval with what answers them: FashionIQ's triplets, and pairs made from any catalogue."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.fashion_iq import FashionIQ, Gallery, Triplet, empty_captions
from e2fashion.data.text import DESCRIPTION, normalize_text
from e2fashion.types import E2FashionError


@dataclass(frozen=True)
class QuerySet:
    """Q queries into a gallery of N pictures, by places in ``pictures`` (M ids of what has to be embedded).

    ``gallery`` (N,) and ``reference`` (Q,) int64 are places in ``pictures``; a gallery item answers a query when its
    ``answers`` (N,) equals the query's ``wanted`` (Q,) int64. ``unit`` (Q,) int64 names what queries share (a reference
    picture, a product line): a bootstrap draws them together. ``tags`` are of the references. ``counts`` say what there
    was and what had to be left out.
    """

    category: str
    pictures: tuple[str, ...]
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
    """The queries of a category (``triplets``: of some of them alone), and the ids whose pictures are missing.

    The reference stays in the gallery. A candidate without a picture leaves the gallery, a triplet whose reference or
    target has none leaves the queries; both are counted. An empty caption is passed over and counted.

    Raises:
        E2FashionError: nothing is left to search for or among.
    """
    asked = data.triplets(category, split) if triplets is None else list(triplets)
    if triplets is None:
        listed = data.gallery(category, split, gallery)
    else:
        listed = list(dict.fromkeys(name for item in asked for name in (item.reference, item.target)))
    missing = data.missing([*listed, *(name for item in asked for name in (item.reference, item.target))])
    gone = set(missing)
    present = [name for name in listed if name not in gone]
    inside = set(present)
    outside = [item for item in asked if item.target not in inside and item.target not in gone]
    if outside:
        raise E2FashionError(
            f"FashionIQ's {category}: target '{outside[0].target}' of reference '{outside[0].reference}' is not in the "
            f"gallery '{gallery}' of {split}: is image_splits/ of the same release as captions/?"
        )
    kept = [item for item in asked if item.reference not in gone and item.target not in gone]
    if not kept:
        raise E2FashionError(
            f"FashionIQ's {category}, {split}: none of {len(asked):,} triplets has both of its pictures in "
            f"{data.image_folder} ({len(missing):,} are missing): put them there as <id>.png or <id>.jpg"
        )
    pictures = list(dict.fromkeys([*present, *(item.reference for item in kept)]))
    place = {name: number for number, name in enumerate(pictures)}
    reference = torch.tensor([place[item.reference] for item in kept])
    found = QuerySet(
        category=category,
        pictures=tuple(pictures),
        gallery=torch.arange(len(present)),
        reference=reference,
        answers=torch.arange(len(present)),
        wanted=torch.tensor([place[item.target] for item in kept]),
        unit=reference,
        instructions=tuple(item.instructions for item in kept),
        counts={
            "triplets": len(asked),
            "triplets_left_out": len(asked) - len(kept),
            "candidates_without_picture": len(listed) - len(present),
            "empty_captions": empty_captions(kept),
            "queries_without_instruction": sum(not item.instructions for item in kept),
        },
    )
    return found, missing


@dataclass(frozen=True)
class LineColumns:
    """What makes two products the same line in another colour.

    ``same`` columns agree, and with ``name`` so does the description once the words of the ``changed`` column's values
    are taken out. ``instruction`` has a slot ``{}`` for the other value, in lower case.
    """

    same: tuple[str, ...] = ("brand", "gender", "article_type")
    changed: str = "colour"
    name: bool = True
    instruction: str = "in {}"

    def check(self, catalogue: Catalogue) -> None:
        """Refuse columns that the catalogue lacks, no line at all, and an instruction without a slot."""
        known = [*catalogue.tag_columns, "group"]
        for column in (*self.same, self.changed):
            if column not in known:
                raise E2FashionError(
                    f"the catalogue {catalogue.path} has no column '{column}', which tells product lines and colours "
                    f"apart; its columns: {', '.join(known)}. Name others with line_columns= and colour_column="
                )
        if not self.same and not self.name:
            raise E2FashionError("line_columns is empty and line_name false: every product would be of one line")
        if "{}" not in self.instruction:
            raise E2FashionError(f"instruction is '{self.instruction}', which has no slot: write {{}} for the colour")


def other_colour_queries(catalogue: Catalogue, split: str, columns: LineColumns) -> QuerySet:
    """For every product, and every other colour that its line has in this split, one query ("in blue").

    Any product of the line in that colour is a hit; all products of the split are the gallery, the reference among
    them. Nothing is drawn: the same catalogue gives the same queries. One without a colour only joins the gallery.

    Raises:
        E2FashionError: columns that the catalogue lacks, or no line of two colours.
    """
    columns.check(catalogue)
    needed = list(dict.fromkeys(["product_id", DESCRIPTION, *columns.same, columns.changed, *catalogue.tag_columns]))
    rows = catalogue.split(split).select_columns(needed).to_dict()
    first = {product: row for row, product in reversed(list(enumerate(rows["product_id"])))}
    order = sorted(first.values())
    lines, colours = _lines(rows, order, columns)
    groups: dict[tuple[int, str], int] = {}
    answers = torch.tensor(
        [
            -1 if colour is None else groups.setdefault((line, colour), len(groups))
            for line, colour in zip(lines, colours, strict=True)
        ]
    )
    shown: dict[int, dict[str, str]] = {}
    for row, line, colour in zip(order, lines, colours, strict=True):
        if colour is not None:
            shown.setdefault(line, {}).setdefault(colour, str(rows[columns.changed][row]).lower())
    asked = [
        (item, line, other)
        for item, (line, colour) in enumerate(zip(lines, colours, strict=True))
        if colour is not None
        for other in shown[line]
        if other != colour
    ]
    if not asked:
        raise E2FashionError(
            f"{split} of {catalogue.path} has no product line of two colours (same {', '.join(columns.same) or 'name'}"
            f"{' and name' if columns.name and columns.same else ''}, other {columns.changed}): choose other columns "
            "with line_columns= and colour_column=, or another split"
        )
    several = {line for _, line, _ in asked}
    return QuerySet(
        category="all",
        pictures=tuple(str(rows["product_id"][row]) for row in order),
        gallery=torch.arange(len(order)),
        reference=torch.tensor([item for item, _, _ in asked]),
        answers=answers,
        wanted=torch.tensor([groups[line, other] for _, line, other in asked]),
        unit=torch.tensor([line for _, line, _ in asked]),
        instructions=tuple((columns.instruction.replace("{}", shown[line][other]),) for _, line, other in asked),
        tags=tuple({c: rows[c][order[item]] for c in catalogue.tag_columns} for item, _, _ in asked),
        counts={
            "lines_of_several_colours": len(several),
            "products_in_them": sum(line in several for line in lines),
            "products_without_a_colour": sum(colour is None for colour in colours),
        },
    )


def _lines(
    rows: Mapping[str, Sequence[str | None]], order: Sequence[int], columns: LineColumns
) -> tuple[list[int], list[str | None]]:
    """The line and the colour, normalised, of every product: None where the colour is unknown."""
    colours = [
        normalize_text(value) if (value := rows[columns.changed][row]) and value.strip() else None for row in order
    ]
    words = sorted({colour for colour in colours if colour}, key=lambda word: (-len(word), word))
    colour_words = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, words)) + r")(?!\w)") if words else None
    seen: dict[tuple[str, ...], int] = {}
    lines = []
    for row in order:
        key = tuple(normalize_text(rows[column][row] or "") for column in columns.same)
        if not all(key):  # unknown is not a brand that two products share
            key = ("", str(row))
        if columns.name:
            name = normalize_text(rows[DESCRIPTION][row] or "")
            key = (*key, normalize_text(colour_words.sub(" ", name) if colour_words else name))
        lines.append(seen.setdefault(key, len(seen)))
    return lines, colours
