"""Where queries and pictures of text-guided retrieval come from: FashionIQ's folder, or a prepared catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.decode import decode_image
from e2fashion.data.fashion_iq import FashionIQ, Gallery
from e2fashion.data.image_files import ImageError
from e2fashion.data.pictures import read_image
from e2fashion.disk import write_text
from e2fashion.encoder import Encoder
from e2fashion.tasks.composed.queries import LineColumns, QuerySet, fashion_iq_queries, other_colour_queries
from e2fashion.tasks.retrieval.measure import MeasureSettings, embed_catalogue
from e2fashion.terminal import progress_bar
from e2fashion.types import E2FashionError

Pixels: TypeAlias = NDArray[np.uint8]


@dataclass(frozen=True)
class EmbeddedPictures:
    """``embeds`` (M, C), L2-normalised, of pictures whose ids are the keys of ``place``."""

    place: Mapping[str, int]
    embeds: Tensor

    def of(self, queries: QuerySet) -> Tensor:
        """The embeddings of a set's pictures (M of the set, C)."""
        return self.embeds[torch.tensor([self.place[name] for name in queries.pictures])]


class ComposedTask(Protocol):
    """Queries by protocol, those that choose the weight of ``sum``, and the pictures of either."""

    @property
    def split(self) -> str:
        """Where the queries come from."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the data."""

    @property
    def how(self) -> dict[str, Any]:
        """What a record's ``extra`` says of the task's settings."""

    def queries(self) -> dict[str, list[QuerySet]]:
        """By protocol, one set per category."""

    def tuning_queries(self) -> list[QuerySet]:
        """Of another split."""

    def embed(self, encoder: Encoder, sets: Sequence[QuerySet], batch_size: int, progress: bool) -> EmbeddedPictures:
        """Every picture of the sets, each once."""

    def pixels(self, names: Sequence[str]) -> dict[str, Pixels]:
        """The pictures (H, W, 3) of these ids, to look at."""

    def missing(self) -> list[str]:
        """The pictures that are not there, each once."""


@dataclass(frozen=True)
class OtherColourTask:
    """Products of the same line in another colour (:func:`e2fashion.tasks.composed.other_colour_queries`)."""

    catalogue: Catalogue
    columns: LineColumns
    split: str = "test"
    tuning_split: str = "val"

    @property
    def fingerprint(self) -> str:
        """The catalogue's."""
        return self.catalogue.fingerprint

    @property
    def how(self) -> dict[str, Any]:
        """What makes a line, and what is asked."""
        own = self.columns
        return {"line": ", ".join([*own.same, *(["name"] if own.name else [])]), "instruction": own.instruction}

    def queries(self) -> dict[str, list[QuerySet]]:
        """One protocol, one category."""
        return {"other_colour": [other_colour_queries(self.catalogue, self.split, self.columns)]}

    def tuning_queries(self) -> list[QuerySet]:
        """Those of the tuning split."""
        return [other_colour_queries(self.catalogue, self.tuning_split, self.columns)]

    def embed(self, encoder: Encoder, sets: Sequence[QuerySet], batch_size: int, progress: bool) -> EmbeddedPictures:
        """The first views of the splits that the sets belong to."""
        wanted = {name for own in sets for name in own.pictures}
        place: dict[str, int] = {}
        parts = []
        for split in dict.fromkeys((self.split, self.tuning_split)):
            if wanted.isdisjoint(self.catalogue.split(split)["product_id"]):
                continue
            settings = MeasureSettings(batch_size=batch_size, progress=progress)
            embedded = embed_catalogue(encoder, self.catalogue, split, settings=settings)
            place |= {name: len(place) + row for row, name in enumerate(embedded.product_ids)}
            parts.append(embedded.image_embeds[embedded.first_images])
        return EmbeddedPictures(place, torch.cat(parts))

    def pixels(self, names: Sequence[str]) -> dict[str, Pixels]:
        """First views, decoded."""
        rows = self.catalogue.split(self.split)
        first = {name: row for row, name in reversed(list(enumerate(rows["product_id"])))}
        decoded = {name: decode_image(rows[first[name]]["image"]) for name in names}
        return {name: rearrange(picture, "c h w -> h w c", c=3).numpy() for name, picture in decoded.items()}

    def missing(self) -> list[str]:
        """None: a catalogue holds its pictures."""
        return []


@dataclass(frozen=True)
class FashionIqTask:
    """FashionIQ's ``categories`` under both galleries or one.

    ``pad_aspect``: a picture longer than that is padded with black until it is not (1.25 in the field's code); None
    leaves pictures as they are. The weight of ``sum`` is chosen on ``tuning_triplets`` of train per category, the first
    ones whose pictures are there, among their own references and targets.
    """

    data: FashionIQ
    categories: Sequence[str]
    galleries: Sequence[Gallery] = ("original", "val")
    split: str = "val"
    tuning_split: str = "train"
    tuning_triplets: int = 500
    pad_aspect: float | None = 1.25
    _missing: dict[str, None] = field(default_factory=dict, repr=False, compare=False)

    @property
    def fingerprint(self) -> str:
        """Of the captions, the galleries, and the names of the pictures that are there."""
        return self.data.fingerprint

    @property
    def how(self) -> dict[str, Any]:
        """How pictures were padded."""
        return {"pad_aspect": self.pad_aspect}

    def queries(self) -> dict[str, list[QuerySet]]:
        """One protocol per gallery, one set per category."""
        found: dict[str, list[QuerySet]] = {}
        for gallery in self.galleries:
            for category in self.categories:
                queries, missing = fashion_iq_queries(self.data, category, self.split, gallery)
                self._missing.update(dict.fromkeys(missing))
                found.setdefault(f"fashion_iq_{gallery}", []).append(queries)
        return found

    def tuning_queries(self) -> list[QuerySet]:
        """Of train."""
        found = []
        for category in self.categories:
            triplets = self.data.triplets(category, self.tuning_split)
            there = [t for t in triplets if not self.data.missing((t.reference, t.target))][: self.tuning_triplets]
            if not there:
                raise E2FashionError(
                    f"the weight of 'sum' cannot be chosen: no picture pair of {category}, {self.tuning_split}, lies "
                    f"in {self.data.image_folder}. Put them there, or give the weight: weight=0.5"
                )
            found.append(fashion_iq_queries(self.data, category, self.tuning_split, triplets=there)[0])
        return found

    def embed(self, encoder: Encoder, sets: Sequence[QuerySet], batch_size: int, progress: bool) -> EmbeddedPictures:
        """Pictures are read batch by batch."""
        names = list(dict.fromkeys(name for own in sets for name in own.pictures))
        parts = []
        label = f"embed FashionIQ with {encoder.name}"
        for start in progress_bar(range(0, len(names), batch_size), desc=label, unit="batch", shown=progress):
            pictures = [self._picture(name) for name in names[start : start + batch_size]]
            parts.append(encoder.embed_images(pictures, batch_size))
        return EmbeddedPictures({name: row for row, name in enumerate(names)}, torch.cat(parts))

    def pixels(self, names: Sequence[str]) -> dict[str, Pixels]:
        """As the encoder is given them."""
        return {name: np.asarray(self._picture(name)) for name in names}

    def _picture(self, name: str) -> Image.Image:
        file = self.data.file_of(name)
        try:
            picture = read_image(name if file is None else file)
        except ImageError as error:
            remedy = "fetch it again, or remove it: then it counts as missing"
            raise ImageError(error.reason, error.value, remedy, error.file) from error
        return picture if self.pad_aspect is None else pad_to_aspect(picture, self.pad_aspect)

    def missing(self) -> list[str]:
        """In the order in which they were met."""
        return list(self._missing)


def pad_to_aspect(picture: Image.Image, aspect: float) -> Image.Image:
    """A picture whose long side is at most ``aspect`` times the short one: black is added on both sides of the short.

    Raises:
        E2FashionError: ``aspect`` is below 1.
    """
    if aspect < 1:
        raise E2FashionError(f"pad_aspect is {aspect}; give the longest ratio of sides, from 1.0, or null")
    width, height = picture.size
    shortest = round(max(width, height) / aspect)
    padded = max(width, shortest), max(height, shortest)
    if padded == (width, height):
        return picture
    canvas = Image.new("RGB", padded)
    canvas.paste(picture, ((padded[0] - width) // 2, (padded[1] - height) // 2))
    return canvas


def write_missing(task: ComposedTask, file: Path) -> int:
    """List the missing pictures, one id a line, and return their number; no file where there are none."""
    names = task.missing()
    if names:
        write_text(file, "\n".join(names) + "\n")
    return len(names)


def counts_lines(sets: Mapping[str, Iterable[QuerySet]]) -> list[str]:
    """What there is to search, in words: one line per protocol and category."""
    return [f"{protocol}, {own.describe()}" for protocol, listed in sets.items() for own in listed]
