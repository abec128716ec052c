from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from raw_products import write_styles

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.config import Preparation
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.data.sources import SOURCES
from e2fashion.types import E2FashionError


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    return write_styles(tmp_path / "kaggle", [f"Puma Men Shirt {number}" for number in range(6)])


def prepare(folder: Path, **settings: Any) -> Catalogue:
    source: Any = SOURCES["kagl"]
    return prepare_catalogue(source(path=str(folder)), folder.parent / "out", Preparation(**settings), progress=False)


def written(folder: Path) -> int:
    return (folder.parent / "out" / "manifest.json").stat().st_mtime_ns


def test_a_repeated_request_is_answered_by_what_is_there(kaggle: Path) -> None:
    prepare(kaggle)
    before = written(kaggle)
    prepare(kaggle)
    assert written(kaggle) == before


def test_other_settings_ask_for_overwrite(kaggle: Path) -> None:
    prepare(kaggle)
    with pytest.raises(E2FashionError, match=r"holds another catalogue.*seed.*overwrite=true"):
        prepare(kaggle, split_seed=1)
    assert prepare(kaggle, split_seed=1, overwrite=True).manifest.settings["seed"] == 1


def test_a_changed_table_asks_for_overwrite(kaggle: Path) -> None:
    prepare(kaggle)
    table = kaggle / "styles.csv"
    table.write_text(table.read_text().replace("Puma Men Shirt 3", "Nike Men Shirt 3"))
    with pytest.raises(E2FashionError, match="its tables have changed since"):
        prepare(kaggle)


@pytest.mark.parametrize("manifest", [None, {"name": "web app"}])
def test_a_folder_that_is_no_catalogue_is_never_replaced(manifest: dict[str, str] | None, kaggle: Path) -> None:
    output = kaggle.parent / "out"
    output.mkdir()
    (output / "thesis.tex").write_text("years of work")
    if manifest:
        (output / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(E2FashionError, match="is not a catalogue: it is left alone"):
        prepare(kaggle, overwrite=True)
    assert (output / "thesis.tex").exists()


def test_an_empty_folder_is_used(kaggle: Path) -> None:
    (kaggle.parent / "out").mkdir()
    assert prepare(kaggle).split_names == ("train", "val", "test")
