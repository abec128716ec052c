from __future__ import annotations

import builtins
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from raw_products import write_fashiongen

from e2fashion.data.config import Preparation
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.data.sources import fashiongen
from e2fashion.data.sources.base import SourceRow
from e2fashion.data.sources.fashiongen import FashionGenSource
from e2fashion.types import E2FashionError

h5py = pytest.importorskip("h5py", reason="h5py is not installed: pip install e2fashion[fashiongen]")

VIEWS = {"train": [2, 1, 3, 1, 2], "validation": [2, 1]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_fashiongen(tmp_path / "fashiongen", VIEWS)


def rows_of(folder: Path, **options: Any) -> list[SourceRow]:
    return [row for row in FashionGenSource(str(folder), **options).rows() if isinstance(row, SourceRow)]


def pixels(row: SourceRow) -> np.ndarray:
    assert callable(row.image)
    return np.asarray(Image.open(io.BytesIO(row.image())))


def change(folder: Path, column: str, values: np.ndarray | None) -> None:
    with h5py.File(folder / "fashiongen_256_256_train.h5", "a") as file:
        del file[column]
        if values is not None:
            file[column] = values


def test_products_views_and_splits(folder: Path) -> None:
    rows = rows_of(folder)
    assert [(row.product_id, row.view) for row in rows[:6]] == [
        ("100", 0),
        ("100", 1),
        ("101", 0),
        ("102", 0),
        ("102", 1),
        ("102", 2),
    ]
    assert [row.split for row in rows] == ["train"] * 9 + ["test"] * 3
    assert rows[9].row == "fashiongen_256_256_validation.h5 row 0"


def test_texts_are_latin_1_and_tags_have_our_names(folder: Path) -> None:
    row = rows_of(folder, text="concat_description")[0]
    assert row.description == "Long sleeve shirt. Été 100"
    assert row.tags == {
        "brand": "Comme",
        "season": "SS2017",
        "sub_category": "SHIRTS",
        "composition": "100% cotton.",
        "category": "TOPS",
        "gender": "Men",
        "department": "CLOTHING",
    }


def test_png_keeps_every_pixel(folder: Path) -> None:
    with h5py.File(folder / "fashiongen_256_256_train.h5") as file:
        assert np.array_equal(pixels(rows_of(folder)[4]), file["input_image"][4])


def test_jpeg_is_smaller(folder: Path) -> None:
    png, jpeg = rows_of(folder)[0].image, rows_of(folder, image_format="jpeg")[0].image
    assert callable(png)
    assert callable(jpeg)
    assert jpeg().startswith(b"\xff\xd8")
    assert len(jpeg()) < len(png())


def test_small_chunks_give_the_same_rows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rows_of(folder)
    monkeypatch.setattr(fashiongen, "ROWS_AT_ONCE", 2)
    for one, other in zip(whole, rows_of(folder), strict=True):
        assert (one.row, one.product_id, one.view, one.description) == (
            other.row,
            other.product_id,
            other.view,
            other.description,
        )
        assert np.array_equal(pixels(one), pixels(other))


def test_val_is_carved_out_of_train_by_product(folder: Path, tmp_path: Path) -> None:
    catalogue = prepare_catalogue(
        FashionGenSource(str(folder)), tmp_path / "out", Preparation(val_fraction=0.3), progress=False
    )
    products = {split: set(catalogue.split(split)["product_id"]) for split in catalogue.split_names}
    assert products["test"] == {"105", "106"}
    assert products["val"]
    assert products["train"] | products["val"] == {"100", "101", "102", "103", "104"}
    assert not products["train"] & products["val"]


def test_an_empty_composition_is_missing(folder: Path, tmp_path: Path) -> None:
    change(folder, "input_composition", np.array([[b""]] * 9, dtype="S10"))
    catalogue = prepare_catalogue(FashionGenSource(str(folder)), tmp_path / "out", progress=False)
    assert set(catalogue.split("train")["composition"]) == {None}


def test_a_missing_file_is_named_with_its_origin(folder: Path) -> None:
    (folder / "fashiongen_256_256_validation.h5").unlink()
    with pytest.raises(E2FashionError, match=r"fashiongen_256_256_validation.h5 is missing.*Rostamzadeh et al., 2018"):
        FashionGenSource(str(folder))


def test_an_incomplete_download(folder: Path) -> None:
    file = folder / "fashiongen_256_256_train.h5"
    file.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(E2FashionError, match=r"not a readable HDF5 file .*incomplete download \(100,000 bytes\)"):
        FashionGenSource(str(folder))


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("input_brand", None, r"no data set 'input_brand'.*It has: "),
        ("input_brand", np.array([[b"A"]], dtype="S2"), r"'input_brand' has shape \(1, 1\), 'input_image' has 9"),
        ("input_brand", np.zeros((9, 0), "S2"), r"'input_brand' has shape \(9, 0\), 'input_image' has 9 rows"),
        ("input_brand", np.array(b"A"), r"'input_brand' has shape \(\), 'input_image' has 9 rows"),
        ("input_image", np.zeros((9, 256, 256), np.uint8), r"'input_image' has shape \(9, 256, 256\)"),
        ("input_image", np.zeros((9, 8, 8, 3), np.float32), r"type float32; expected"),
    ],
)
def test_files_in_another_layout(column: str, values: np.ndarray | None, message: str, folder: Path) -> None:
    change(folder, column, values)
    with pytest.raises(E2FashionError, match=message):
        FashionGenSource(str(folder))


def test_an_empty_description_is_named_by_file_and_row(folder: Path, tmp_path: Path) -> None:
    texts = np.array([[b"Shirt"]] * 4 + [[b""]] + [[b"Skirt"]] * 4, dtype="S10")
    change(folder, "input_description", texts)
    with pytest.raises(
        E2FashionError, match=r"fashiongen_256_256_train.h5 row 4 \(product 102\): empty text in field 'description'"
    ):
        prepare_catalogue(FashionGenSource(str(folder)), tmp_path / "out", progress=False)


def test_h5py_is_asked_for_when_it_is_absent(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without_h5py(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "h5py":
            raise ImportError(name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_h5py)
    with pytest.raises(E2FashionError, match=r"pip install e2fashion\[fashiongen\]"):
        FashionGenSource(str(folder))


@pytest.mark.parametrize("option", [{"text": "story"}, {"image_format": "gif"}])
def test_options_that_do_not_exist(option: dict[str, Any], folder: Path) -> None:
    with pytest.raises(E2FashionError, match="write"):
        FashionGenSource(str(folder), **option)


@pytest.mark.parametrize("text", ["nan", "NaN", "None", "N/A", "n/a ", "null", "-"])
def test_words_for_nothing_are_no_tags(text: str, folder: Path, tmp_path: Path) -> None:
    change(folder, "input_brand", np.array([[text.encode()]] * 9, dtype="S10"))
    assert {row.tags["brand"] for row in rows_of(folder)} == {None, "Comme"}
    assert {row.tags["brand"] for row in rows_of(folder, missing_values=["x"])} == {text, "Comme"}
    change(folder, "input_description", np.array([[text.encode()]] * 9, dtype="S10"))
    with pytest.raises(E2FashionError, match=r"train.h5 row 0 \(product 100\): empty text in field 'description'"):
        prepare_catalogue(FashionGenSource(str(folder)), tmp_path / "out", progress=False)


def test_typographic_marks_of_cp1252_name_their_encoding(folder: Path, tmp_path: Path) -> None:
    change(folder, "input_brand", np.array(["Levi\u2019s".encode("cp1252")] * 9, dtype="S10")[:, None])
    with pytest.raises(E2FashionError, match=r"wrong encoding in field 'brand': .*x92.*give encoding=cp1252"):
        prepare_catalogue(FashionGenSource(str(folder)), tmp_path / "out", progress=False)
    assert {row.tags["brand"] for row in rows_of(folder, encoding="cp1252")} == {"Levi\u2019s", "Comme"}
    with pytest.raises(E2FashionError, match="encoding='cp125' is unknown"):
        FashionGenSource(str(folder), encoding="cp125")


def test_a_group_in_the_place_of_an_array(folder: Path) -> None:
    change(folder, "input_brand", None)
    with h5py.File(folder / "fashiongen_256_256_train.h5", "a") as file:
        file.create_group("input_brand")
    with pytest.raises(E2FashionError, match=r"no data set 'input_brand'"):
        FashionGenSource(str(folder))


def test_damaged_chunks_cost_their_own_rows(folder: Path, tmp_path: Path) -> None:
    name = folder / "fashiongen_256_256_train.h5"
    with h5py.File(name, "a") as file:
        values = file["input_image"][:]
        del file["input_image"]
        stored = file.create_dataset("input_image", data=values, chunks=(1, 256, 256, 3), compression="gzip")
        place = stored.id.get_chunk_info(2)
    content = bytearray(name.read_bytes())
    content[place.byte_offset : place.byte_offset + 200] = bytes(200)
    name.write_bytes(content)
    catalogue = prepare_catalogue(
        FashionGenSource(str(folder)), tmp_path / "out", Preparation(on_error="skip"), progress=False
    )
    assert catalogue.manifest.skipped == {"damaged row": 1}
    assert "fashiongen_256_256_train.h5 row 2,,damaged row" in (tmp_path / "out" / "skipped.csv").read_text()
    with pytest.raises(E2FashionError, match=r"train.h5 row 2: damaged row .*fetch it again"):
        prepare_catalogue(FashionGenSource(str(folder)), tmp_path / "other", progress=False)


def test_any_damage_is_an_error_of_ours(folder: Path) -> None:
    name = folder / "fashiongen_256_256_train.h5"
    with h5py.File(name, "a") as file:  # small, so that damage meets the headers
        del file["input_image"]
        file["input_image"] = np.zeros((9, 2, 2, 3), np.uint8)
        sound = {key: file[key][:] for key in file}
    with h5py.File(name, "w") as file:
        for key, values in sound.items():
            file[key] = values
    content, generator, refused = name.read_bytes(), np.random.default_rng(0), 0
    for _ in range(150):
        damaged = bytearray(content)
        for place in generator.integers(0, min(len(content), 4000), 3):
            damaged[place] ^= 1 << generator.integers(0, 8)
        name.write_bytes(damaged[: generator.integers(1, len(damaged)) if generator.random() < 0.2 else None])
        try:
            for row in FashionGenSource(str(folder)).rows():
                assert row.row
        except E2FashionError as error:
            refused += "fashiongen_256_256_train.h5" in str(error)
    assert refused > 20
