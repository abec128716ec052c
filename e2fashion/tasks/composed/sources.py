"""Queries and images of text-guided retrieval: FashionIQ's folder, or a prepared catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.decode import decode_image
from e2fashion.data.fashion_iq import FashionIQ
from e2fashion.data.image_files import ImageError
from e2fashion.data.images import read_image
from e2fashion.encoder import Encoder
from e2fashion.features import extract_features
from e2fashion.figures import ImageArray, as_array
from e2fashion.options import Inference
from e2fashion.tasks.composed.config import LINE_COLUMNS, ComposeConfig
from e2fashion.tasks.composed.queries import QuerySet, fashion_iq_queries, other_color_queries
from e2fashion.terminal import progress_bar
from e2fashion.types import E2FashionError


@dataclass(frozen=True)
class EmbeddedImages:
    """``embeds`` (M, C), L2-normalized; ``row_of`` has the row of each id."""

    row_of: Mapping[str, int]
    embeds: Tensor

    def of(self, queries: QuerySet) -> Tensor:
        """The embeddings of a set's images (M of the set, C)."""
        return self.embeds[torch.tensor([self.row_of[name] for name in queries.images])]


class OtherColor:
    """Products of the same line in another color (:func:`~e2fashion.tasks.composed.queries.other_color_queries`).

    ``settings`` are keys of a record's ``extra``.
    """

    def __init__(self, config: ComposeConfig, catalogue: Catalogue) -> None:
        self.config, self.catalogue = config, catalogue
        self.split, self.tuning_split = config.split or "test", config.tuning_split or "val"
        self.fingerprint = catalogue.fingerprint
        line = [*config.line_columns, *(["name"] if config.line_name else [])]
        self.settings: dict[str, Any] = {"line": ", ".join(line), "instruction": config.instruction}

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
        parts = []
        for split in dict.fromkeys((self.split, self.tuning_split)):
            if not wanted.isdisjoint(self.catalogue.split(split)["product_id"]):
                inference = Inference(batch_size=self.config.batch_size)
                features = extract_features(encoder, self.catalogue, split, inference, progress)
                ids += features.product_ids
                parts.append(features.image)
        return EmbeddedImages({name: row for row, name in enumerate(ids)}, torch.cat(parts))

    def pixels(self, names: Sequence[str]) -> dict[str, ImageArray]:
        """First views."""
        rows = self.catalogue.split(self.split)
        first = {name: row for row, name in reversed(list(enumerate(rows["product_id"])))}
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
        """One protocol per gallery, one set per category."""
        by_protocol: dict[str, list[QuerySet]] = {}
        for gallery in self.config.galleries:
            for category in self.config.categories:
                queries, missing = fashion_iq_queries(self.data, category, self.split, gallery)
                self._missing.update(dict.fromkeys(missing))
                by_protocol.setdefault(f"fashion_iq_{gallery}", []).append(queries)
        return by_protocol

    def tuning_queries(self) -> list[QuerySet]:
        """Of train."""
        sets = []
        for category in self.config.categories:
            triplets = self.data.triplets(category, self.tuning_split)
            present = [t for t in triplets if not self.data.missing((t.reference, t.target))]
            if not present:
                raise E2FashionError(
                    f"the weight of 'sum' cannot be chosen: no triplet of {category}, {self.tuning_split}, has both "
                    f"images in {self.data.image_folder}. Put them there, or give the weight: weight=0.5"
                )
            present = present[: self.config.tuning_triplets]
            sets.append(fashion_iq_queries(self.data, category, self.tuning_split, triplets=present)[0])
        return sets

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
