"""What extending costs: a source is one class and one registry line, an entity is YAML only."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd
import pytest
from PIL import Image
from tiny import TINY

from e2fashion.cli import main
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.sources import SOURCES
from e2fashion.data.sources.base import SourceProblem, SourceRow
from e2fashion.eval.encoder import load_encoder

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 200)}


@dataclass
class SwatchSource:
    """Plain swatches: the new source."""

    count: int = 30
    name: ClassVar[str] = "swatches"

    @property
    def tag_columns(self) -> tuple[str, ...]:
        return ("colour",)

    def __len__(self) -> int:
        return self.count

    def rows(self) -> Iterator[SourceRow | SourceProblem]:
        for number in range(self.count):
            colour = list(COLOURS)[number % 3]
            stream = io.BytesIO()
            Image.new("RGB", (32, 32 + number), COLOURS[colour]).save(stream, "PNG")
            yield SourceRow(
                row=f"swatch {number}",
                product_id=str(number),
                image=stream.getvalue(),
                description=f"a swatch of number {number}",
                tags={"colour": colour},
                split="val" if number % 5 == 0 else "train",
            )


def test_a_new_source_and_a_new_entity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, SwatchSource.name, SwatchSource)  # the registry line
    monkeypatch.chdir(tmp_path)
    Path("swatches.yaml").write_text("source: swatches\ncount: 25\n", encoding="utf-8")
    assert main(["data", "prepare", "swatches.yaml", "output=catalogue", "--quiet"]) == 0
    assert Catalogue.load("catalogue").manifest.splits["train"]["products"] == 20

    Path("hue.yaml").write_text("name: hue\nmodel: {entities: {hue: {column: colour, tokens: 3}}}\n", encoding="utf-8")
    without_entities = [word for word in TINY if not word.startswith(("model.entities", "text."))]
    assert main(["train", "hue.yaml", "data=catalogue", *without_entities, "loader.batch_size=5", "--quiet"]) == 0
    (entity,) = load_encoder("runs/hue").entities
    assert (entity.name, entity.column, entity.tokens) == ("hue", "colour", 3)
    logged = pd.read_csv("runs/hue/logs/csv/main/metrics.csv")
    assert "train/loss/region/hue" in logged.columns
