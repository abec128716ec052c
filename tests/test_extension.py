"""What extending costs: a class and one registry line or entry point; an entity is YAML only."""

import io
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, get_args

import pandas as pd
import pytest
import torch
from PIL import Image
from tiny import TINY
from tiny_encoder import SETTINGS, build_tiny_encoder

from e2fashion.__main__ import main
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.config import build_source
from e2fashion.data.sources import SOURCES
from e2fashion.data.sources.base import SourceProblem, SourceRow
from e2fashion.encoder import load_encoder
from e2fashion.records import read_records
from e2fashion.tasks.localization import attribution
from e2fashion.tasks.localization.config import ExplainConfig, Method
from e2fashion.tasks.localization.explain import explain_image
from e2fashion.tasks.localization.measure import measure_selection
from e2fashion.tasks.retrieval.protocols import FullGallery, protocol_named
from e2fashion.types import E2FashionError

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 200)}

PLAIN = [word for word in SETTINGS if not word.startswith(("model.entities", "model.fusion_layers"))]


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
    without_entities = [word for word in TINY if not word.startswith(("model.entities", "text.", "loader.batch_size"))]
    assert main(["train", "hue.yaml", "data=catalogue", *without_entities, "loader.batch_size=5", "--quiet"]) == 0
    (entity,) = load_encoder("runs/hue").entities
    assert (entity.name, entity.column, entity.tokens) == ("hue", "colour", 3)
    logged = pd.read_csv("runs/hue/logs/csv/main/metrics.csv")
    assert "train/loss/region/hue" in logged.columns


BOUTIQUE = """
from dataclasses import dataclass, replace
from typing import ClassVar, get_args

from e2fashion.data.sources.synthetic import SyntheticSource
from e2fashion.tasks.retrieval.protocols import FullGallery


@dataclass
class RenderedSource(SyntheticSource):
    name: ClassVar[str] = "boutique"


@dataclass
class Shrink:
    reads_regions: ClassVar[bool] = False

    def __call__(self, output, batch):
        return output.text_embeds.mean()


@dataclass
class RegionShrink:
    power: int = 2
    reads_regions: ClassVar[bool] = True

    def __call__(self, output, batch):
        return output.region_embeds.pow(self.power).mean()


@dataclass(frozen=True)
class ByText(FullGallery):
    name: ClassVar[str] = "by_text"

    def rank(self, embedded, context):
        return [ranking for ranking in super().rank(embedded, context) if ranking.positives == "text"]
"""


def install(folder: Path, package: str, code: str, entries: dict[str, dict[str, str]]) -> None:
    """Lay a package with entry points into a folder of the module path, as pip does."""
    (folder / f"{package}.py").write_text(code, encoding="utf-8")
    facts = folder / f"{package}-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
    groups = [
        "\n".join([f"[{group}]", *(f"{name} = {package}:{value}" for name, value in parts.items())])
        for group, parts in entries.items()
    ]
    (facts / "entry_points.txt").write_text("\n".join(groups), encoding="utf-8")


def test_parts_of_a_package_of_one_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {
        "e2fashion.sources": {"boutique": "RenderedSource"},
        "e2fashion.loss_terms": {"shrink": "Shrink", "region_shrink": "RegionShrink"},
        "e2fashion.protocols": {"by_text": "ByText"},
    }
    install(tmp_path, "boutique", BOUTIQUE, entries)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(["data", "prepare", "boutique", "products=40", "image_size=32", "output=catalogue", "--quiet"]) == 0
    words = [*TINY, "train.stages.main.epochs=1", "protocols=full,by_text"]
    words += ["loss.terms={shrink: {weight: 0.5}, region_shrink: {options: {power: 4}}}", "loss.region_weight=0"]
    Path("mine.yaml").write_text("name: mine\n", encoding="utf-8")
    assert main(["train", "mine.yaml", "data=catalogue", "output=run", *words, "--quiet"]) == 0
    logged = pd.read_csv("run/logs/csv/main/metrics.csv")
    assert {"train/loss/shrink", "train/loss/region_shrink", "train/loss/global"} <= set(logged.columns)
    shrunk = float(logged["train/loss/region_shrink"].dropna().iloc[0])
    assert 0 < shrunk < 1  # the mean fourth power of unit vectors' parts, although region_weight is 0
    records = [record for record in read_records(Path("run/results.jsonl")) if record.task == "retrieval"]
    result = {(record.protocol, record.positives) for record in records}
    assert result == {("full", "product"), ("full", "text"), ("by_text", "text")}


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import a_module_that_is_not_there", r"cannot be loaded: ModuleNotFoundError: .*Fix or uninstall"),
        ("raise RuntimeError('no licence')", r"cannot be loaded: RuntimeError: no licence"),
        ("other = 1", r"cannot be loaded: AttributeError"),
        ("class Part: pass", r"is <class 'shop.Part'>, not a dataclass"),
        ("import dataclasses\n@dataclasses.dataclass\nclass Part:\n    x: int = 0", r"lacks name, rank"),
    ],
)
def test_a_broken_part_is_one_error_that_names_its_package(
    code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "shop", code, {"e2fashion.protocols": {"best": "Part", "full": "Part"}})
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    assert isinstance(protocol_named("full"), FullGallery)  # built in: the package is not even imported
    assert "shop" not in sys.modules
    with pytest.raises(E2FashionError, match=rf"protocol 'best' of the package 'shop' \(shop:Part\) {said}"):
        protocol_named("best")
    with pytest.raises(E2FashionError, match=r"'bst' does not exist: choose from best, full, .*did you mean 'best'"):
        protocol_named("bst")


def test_a_name_that_two_packages_register_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("north", "south"):
        install(tmp_path, package, "", {"e2fashion.sources": {"lookbook": "Source"}})
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(E2FashionError, match=r"source 'lookbook' is registered by .*'north'.* and .*'south'"):
        build_source("lookbook", {})


def test_a_scorer_of_patches_is_a_function_an_entry_and_a_name(
    synth_catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example of docs/extending.md, in the module that it is added to; both uses find it by its name."""
    assert set(get_args(Method)) == set(attribution.SCORERS)
    page = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(def _norm\(.*?)```", page, re.DOTALL)
    monkeypatch.setitem(attribution.SCORERS, "norm", attribution.SCORERS["attention"])  # taken out again afterwards
    exec(code, vars(attribution))
    encoder = build_tiny_encoder(synth_catalogue, PLAIN)
    records = measure_selection(encoder, synth_catalogue, ["val"], ["norm"], progress=False)
    assert {(record.protocol, record.extra["layer"]) for record in records} == {("norm", 2)}
    image = torch.zeros(3, 40, 30, dtype=torch.uint8)
    (explanation,) = explain_image(encoder, image, replace(ExplainConfig(), methods=["norm"]))  # type: ignore[list-item]
    assert (explanation.heading, len(explanation.heatmap.heat)) == ("norm of patches, layer 2", 16)
    monkeypatch.delattr(attribution, "_norm")
