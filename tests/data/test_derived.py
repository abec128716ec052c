"""A tag that is read off a composition while a catalogue is made, and where it is of use."""

from pathlib import Path

import pytest
from raw_products import ListSource, row

from e2fashion.__main__ import main
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.config import Preparation
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.data.sources.base import SourceRow
from e2fashion.types import E2FashionError

TEXTS = ("80% woolm, 20% silk", "Merino wool", "60% kidassia, 40% silk", "Dry clean", None, " ")


class ComposedSource(ListSource):
    """Brands and compositions."""

    @property
    def tag_columns(self) -> tuple[str, ...]:
        return ("brand", "composition")


def rows() -> list[SourceRow]:
    return [row(number, tags={"brand": "Acme", "composition": text}) for number, text in enumerate(TEXTS)]


def prepare(output: Path, **settings: object) -> Catalogue:
    config = Preparation(**settings)
    return prepare_catalogue(ComposedSource(rows()), output, config, progress=False)  # type: ignore[arg-type]


def test_the_dominant_fibre_becomes_a_tag(tmp_path: Path) -> None:
    catalogue = prepare(tmp_path / "c", dominant_fibre={"fibre": "composition"})
    assert catalogue.tag_columns == ("brand", "composition", "fibre")
    result = {}
    for split in catalogue.split_names:
        result.update(zip(catalogue.split(split)["product_id"], catalogue.split(split)["fibre"], strict=True))
    assert [result[f"p{number}"] for number in range(6)] == ["wool", "wool", "kidassia", None, None, None]
    assert catalogue.manifest.settings["dominant_fibre"] == {"fibre": "composition"}
    assert catalogue.manifest.notes[-1] == (
        "Tag 'fibre' is the dominant fibre of 'composition', which 4 images have: percentages 1, names 1, "
        "unknown fibre 1, care 1"
    )


def test_without_it_a_catalogue_is_what_it_was(tmp_path: Path) -> None:
    plain, same = prepare(tmp_path / "a"), prepare(tmp_path / "b", dominant_fibre={})
    assert (plain.fingerprint, plain.manifest.request) == (same.fingerprint, same.manifest.request)
    assert "dominant_fibre" not in plain.manifest.settings
    with pytest.raises(E2FashionError, match="holds another catalogue"):
        prepare(tmp_path / "a", dominant_fibre={"fibre": "composition"})


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        E2FashionError, match=r"reads the tag 'fabric', which the source lacks\. Its tags: brand, compos"
    ):
        prepare(tmp_path / "c", dominant_fibre={"fibre": "fabric"})
    with pytest.raises(E2FashionError, match="the source has a tag 'brand' already"):
        prepare(tmp_path / "c", dominant_fibre={"brand": "composition"})
    with pytest.raises(E2FashionError, match="A tag cannot be called 'image'"):
        prepare(tmp_path / "c", dominant_fibre={"image": "composition"})


def test_from_the_command_line(tmp_path: Path) -> None:
    words = ["products=12", "image_size=32", "views=1", f"output={tmp_path / 'c'}"]
    assert main(["data", "prepare", "synthetic", *words, "dominant_fibre.fibre=composition", "--quiet"]) == 0
    catalogue = Catalogue.load(tmp_path / "c")
    fibres = {fibre for split in catalogue.split_names for fibre in catalogue.split(split)["fibre"]}
    assert fibres & {"cotton", "wool", "leather", "nylon", "linen", "polyester"}
