"""Queries and images of text-guided retrieval: FashionIQ's folder, or a prepared catalogue."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.decode import decode_image
from e2fashion.data.image_files import ImageError
from e2fashion.data.images import read_image
from e2fashion.data.sources.fashion_iq import FashionIQ, Gallery, Triplet, empty_captions
from e2fashion.data.text import DESCRIPTION, normalize_text
from e2fashion.embedding import join_regions, share_of_tags
from e2fashion.encoder import Encoder
from e2fashion.features import extract_features
from e2fashion.figures import ImageArray, as_array
from e2fashion.options import Inference
from e2fashion.tasks.composed.config import LINE_COLUMNS, ComposeConfig
from e2fashion.terminal import progress_bar
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
    order = list(catalogue.first_rows(split).values())
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


@dataclass(frozen=True)
class EmbeddedImages:
    """``embeds`` (M, C), L2-normalized; ``row_of`` has the row of each id.

    ``regions`` (M, E, C) are those of a model that has some, and ``weight`` is theirs in the score; 0: only the
    embeddings are compared.
    """

    row_of: Mapping[str, int]
    embeds: Tensor
    regions: Tensor | None = None
    weight: float = 0.0

    def of(self, queries: QuerySet) -> Tensor:
        """The embeddings of a set's images (M of the set, C)."""
        return self.embeds[self._rows(queries)]

    def gallery(self, queries: QuerySet) -> Tensor:
        """A set's images as they are searched: joined with their regions, if these are compared."""
        if self.regions is None or not self.weight:
            return self.of(queries)
        return join_regions(self.of(queries), self.regions[self._rows(queries)])

    def as_queries(self, queries: QuerySet) -> Tensor:
        """A set's images as queries of :meth:`gallery`, L2-normalized."""
        if self.regions is None or not self.weight:
            return self.of(queries)
        shares = share_of_tags(self.regions[self._rows(queries)], self.weight)
        return F.normalize(join_regions(self.of(queries), shares), dim=-1)

    def _rows(self, queries: QuerySet) -> Tensor:
        return torch.tensor([self.row_of[name] for name in queries.images])


class OtherColor:
    """Products of the same line in another color (:func:`~e2fashion.tasks.composed.sources.other_color_queries`).

    ``settings`` are keys of a record's ``extra``.
    """

    def __init__(self, config: ComposeConfig, catalogue: Catalogue) -> None:
        self.config, self.catalogue = config, catalogue
        self.split, self.tuning_split = config.split or "test", config.tuning_split or "val"
        self.fingerprint = catalogue.fingerprint
        line = [*config.line_columns, *(["name"] if config.line_name else [])]
        self.settings: dict[str, Any] = {"line": ", ".join(line), "instruction": config.instruction}
        if config.colour_column != "colour":
            self.settings["changes"] = config.colour_column

    def queries(self) -> dict[str, list[QuerySet]]:
        """By protocol, one set per category: here one of one."""
        return {"other_colour": [other_color_queries(self.catalogue, self.split, self.config)]}

    def tuning_queries(self) -> list[QuerySet]:
        """Of the tuning split."""
        return [other_color_queries(self.catalogue, self.tuning_split, self.config)]

    def embed(self, encoder: Encoder, sets: Sequence[QuerySet], progress: bool) -> EmbeddedImages:
        """The first views in the splits of the sets."""
        wanted = {name for queries in sets for name in queries.images}
        ids: list[str] = []
        parts, regions = [], []
        for split in dict.fromkeys((self.split, self.tuning_split)):
            if not wanted.isdisjoint(self.catalogue.split(split)["product_id"]):
                inference = Inference(batch_size=self.config.batch_size)
                features = extract_features(encoder, self.catalogue, split, inference, progress)
                ids += features.product_ids
                parts.append(features.image)
                regions += [torch.stack(list(features.regions.values()), 1)] if features.regions else []
        row_of = {name: row for row, name in enumerate(ids)}
        return EmbeddedImages(row_of, torch.cat(parts), torch.cat(regions) if regions else None)

    def pixels(self, names: Sequence[str]) -> dict[str, ImageArray]:
        """First views."""
        rows, first = self.catalogue.split(self.split), self.catalogue.first_rows(self.split)
        return {name: as_array(decode_image(rows[first[name]]["image"])) for name in names}

    def missing(self) -> list[str]:
        """None: a catalogue holds its images."""
        return []


class FashionIqQueries:
    """FashionIQ's categories in one gallery or both.

    The weight of ``sum`` is chosen on the first triplets of train per category whose images are present, among their
    references and targets.

    Raises:
        E2FashionError: no category or no gallery.
    """

    def __init__(self, config: ComposeConfig, data: FashionIQ) -> None:
        if not config.categories or not config.galleries:
            raise E2FashionError("categories or galleries is empty: name at least one of each")
        self.config, self.data = config, data
        self.split, self.tuning_split = config.split or "val", config.tuning_split or "train"
        self.fingerprint = data.fingerprint
        self.settings: dict[str, Any] = {"pad_aspect": config.pad_aspect}
        self._missing: dict[str, None] = {}

    def queries(self) -> dict[str, list[QuerySet]]:
        """One protocol per gallery, one set per category; an E2FashionError where none of a set's images are there."""
        categories, galleries = self.config.categories, self.config.galleries
        return {
            f"fashion_iq_{gallery}": [
                self._set(category, self.split, gallery, self.data.triplets(category, self.split))
                for category in categories
            ]
            for gallery in galleries
        }

    def tuning_queries(self) -> list[QuerySet]:
        """Of train.

        Raises:
            E2FashionError: no triplet of a category has both images.
        """
        sets = []
        for category in self.config.categories:
            triplets = self.data.triplets(category, self.tuning_split)
            present = [t for t in triplets if not self.data.missing((t.reference, t.target))]
            if not present:
                raise E2FashionError(
                    f"the weight of 'sum' cannot be chosen: no triplet of {category}, {self.tuning_split}, has both "
                    f"images in {self.data.image_folder}. Put them there, or give the weight: weight=0.5"
                )
            sets.append(self._set(category, self.tuning_split, None, present[: self.config.tuning_triplets]))
        return sets

    def _set(self, category: str, split: str, gallery: Gallery | None, triplets: Sequence[Triplet]) -> QuerySet:
        """Triplets of a category in a ``gallery`` (None: among their own images).

        The reference stays in the gallery. Candidates without an image, and triplets whose reference or target has
        none, are left out and counted; empty captions are skipped and counted.
        """
        named = dict.fromkeys(name for item in triplets for name in (item.reference, item.target))
        listed = list(named) if gallery is None else self.data.gallery(category, split, gallery)
        missing = self.data.missing([*listed, *named])
        self._missing.update(dict.fromkeys(missing))
        absent = set(missing)
        present = [name for name in listed if name not in absent]
        known = {*present, *absent}
        if outside := [item for item in triplets if item.target not in known]:
            raise E2FashionError(
                f"FashionIQ's {category}: target '{outside[0].target}' of reference '{outside[0].reference}' is not in "
                f"the gallery '{gallery}' of {split}: is image_splits/ of the same release as captions/?"
            )
        kept = [item for item in triplets if item.reference not in absent and item.target not in absent]
        if not kept:
            raise E2FashionError(
                f"FashionIQ's {category}, {split}: none of {len(triplets):,} triplets has both of its images in "
                f"{self.data.image_folder} ({len(missing):,} are missing): put them there as <id>.png or <id>.jpg"
            )
        images = list(dict.fromkeys([*present, *(item.reference for item in kept)]))
        row_of = {name: row for row, name in enumerate(images)}
        reference = torch.tensor([row_of[item.reference] for item in kept])
        return QuerySet(
            category=category,
            images=tuple(images),
            gallery=torch.arange(len(present)),
            reference=reference,
            answers=torch.arange(len(present)),
            wanted=torch.tensor([row_of[item.target] for item in kept]),
            unit=reference,
            instructions=tuple(item.instructions for item in kept),
            counts={
                "triplets": len(triplets),
                "triplets_left_out": len(triplets) - len(kept),
                "candidates_without_picture": len(listed) - len(present),
                "empty_captions": empty_captions(kept),
                "queries_without_instruction": sum(not item.instructions for item in kept),
            },
        )

    def embed(self, encoder: Encoder, sets: Sequence[QuerySet], progress: bool) -> EmbeddedImages:
        """Images are read batch by batch."""
        names = list(dict.fromkeys(name for queries in sets for name in queries.images))
        size, label, parts = self.config.batch_size, f"embed FashionIQ with {encoder.name}", []
        for start in progress_bar(range(0, len(names), size), desc=label, unit="batch", shown=progress):
            images = [self._image(name) for name in names[start : start + size]]
            parts.append(encoder.embed_images(images, size))
        return EmbeddedImages({name: row for row, name in enumerate(names)}, torch.cat(parts))

    def pixels(self, names: Sequence[str]) -> dict[str, ImageArray]:
        """As the encoder sees them."""
        return {name: np.asarray(self._image(name)) for name in names}

    def missing(self) -> list[str]:
        """Ids of missing images, in the order of the queries."""
        return list(self._missing)

    def _image(self, name: str) -> Image.Image:
        file = self.data.file_of(name)
        try:
            image = read_image(name if file is None else file)
        except ImageError as error:
            remedy = "fetch it again, or remove it: then it counts as missing"
            raise ImageError(error.reason, error.value, remedy, error.file) from error
        return image if self.config.pad_aspect is None else pad_to_aspect(image, self.config.pad_aspect)


QuerySource: TypeAlias = OtherColor | FashionIqQueries


def open_source(config: ComposeConfig) -> QuerySource:
    """The queries of a configuration's task.

    Raises:
        E2FashionError: its data are missing, or lack what the configuration asks for.
    """
    if config.task == "other_colour":
        catalogue = Catalogue.load(config.data)
        if tuple(config.line_columns) == LINE_COLUMNS:
            config = replace(config, line_columns=[name for name in LINE_COLUMNS if name in catalogue.tag_columns])
        return OtherColor(config, catalogue)
    return FashionIqQueries(config, FashionIQ(Path(config.data), Path(config.images) if config.images else None))


def pad_to_aspect(image: Image.Image, aspect: float) -> Image.Image:
    """An image whose long side is at most ``aspect`` times the short one: black is added on both sides of the short.

    Raises:
        E2FashionError: ``aspect`` is below 1.
    """
    if aspect < 1:
        raise E2FashionError(f"pad_aspect is {aspect}; give the longest ratio of sides, from 1.0, or null")
    width, height = image.size
    shortest = round(max(width, height) / aspect)
    padded = max(width, shortest), max(height, shortest)
    if padded == (width, height):
        return image
    canvas = Image.new("RGB", padded)
    canvas.paste(image, ((padded[0] - width) // 2, (padded[1] - height) // 2))
    return canvas
