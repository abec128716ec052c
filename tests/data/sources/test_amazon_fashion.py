"""AmazonFashion's JSON files and images, built small: views, splits, unknown brands, what does not fit."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from raw_products import picture
from tiny import save_random_clip

from e2fashion.ablation.run import train as train_run
from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.config import Preparation, load_prepare_config
from e2fashion.data.prepare import prepare, prepare_catalogue
from e2fashion.data.sources.amazon_fashion import AmazonFashionSource
from e2fashion.data.sources.base import SourceProblem, SourceRow
from e2fashion.encoder import load_encoder
from e2fashion.records import read_records
from e2fashion.training.config import RunConfig
from e2fashion.types import E2FashionError

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
BRANDS = ("Acme", None, "Comme & Co", "", "Unknown")


def write_amazon(folder: Path, products: int = 10, train: int = 7) -> Path:
    """Ten products with one, two or three images."""
    meta: dict[str, Any] = {}
    for number in range(products):
        files = [f"{view}.jpg" for view in range(1 + number % 3)]
        meta[f"B{number:03}"] = {"title": f"Dress {number}", "brand": BRANDS[number % 5], "images": files}
        (folder / "Fashion" / f"B{number:03}").mkdir(parents=True)
        for view, file in enumerate(files):
            (folder / "Fashion" / f"B{number:03}" / file).write_bytes(picture(10 * number + view))
    del meta["B001"]["brand"]  # another way of not knowing it
    write(folder, "meta-fashion.json", meta)
    write(folder, "split.json", {"train": list(meta)[:train], "test": list(meta)[train:]})
    return folder


def write(folder: Path, file: str, content: Any) -> None:
    (folder / file).write_text(json.dumps(content), encoding="utf-8")


def read(folder: Path, file: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / file).read_text(encoding="utf-8"))
    return result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_amazon(tmp_path / "amazon")


def rows_of(folder: Path, **options: Any) -> list[SourceRow]:
    return [row for row in AmazonFashionSource(str(folder), **options).rows() if isinstance(row, SourceRow)]


def problems_of(folder: Path) -> list[tuple[str, str]]:
    rows = AmazonFashionSource(str(folder)).rows()
    return [(row.product_id, row.reason) for row in rows if isinstance(row, SourceProblem)]


def prepared(folder: Path, output: Path, **options: Any) -> Catalogue:
    source = AmazonFashionSource(str(folder), **options)
    return prepare_catalogue(source, output, Preparation(on_error="skip", val_fraction=0.2), progress=False)


def test_products_views_and_splits(folder: Path) -> None:
    rows = rows_of(folder)
    assert len(rows) == len(AmazonFashionSource(str(folder))) == 19
    assert [(row.product_id, row.view, row.split) for row in rows[:4]] == [
        ("B000", 0, "train"),
        ("B001", 0, "train"),
        ("B001", 1, "train"),
        ("B002", 0, "train"),
    ]
    assert rows[2].image == folder / "Fashion" / "B001" / "1.jpg"
    assert {row.split for row in rows if row.product_id >= "B007"} == {"test"}


def test_a_brand_may_be_unknown_in_several_ways(folder: Path, tmp_path: Path) -> None:
    catalogue = prepared(folder, tmp_path / "c")
    brands = Counter(brand for split in catalogue.split_names for brand in set_of_products(catalogue, split))
    assert brands == {"Acme": 2, "Comme & Co": 2, None: 6}
    kept = {row.tags["brand"] for row in rows_of(folder, unknown_brands=[])}
    assert kept == {"Acme", "Comme & Co", "", "Unknown"}  # empty ones are missing tags for every source


def set_of_products(catalogue: Catalogue, split: str) -> list[str | None]:
    rows = catalogue.split(split)
    return [*dict(zip(rows["product_id"], rows["brand"], strict=True)).values()]


def test_a_catalogue_has_val_out_of_train(folder: Path, tmp_path: Path) -> None:
    catalogue = prepared(folder, tmp_path / "c", sub_category="fashion")
    counts = {split: count["products"] for split, count in catalogue.manifest.splits.items()}
    assert counts["test"] == 3
    assert counts["train"] + counts["val"] == 7
    assert counts["val"]
    assert catalogue.tag_columns == ("brand", "sub_category")
    assert set(catalogue.split("test")["sub_category"]) == {"fashion"}
    assert AmazonFashionSource(str(folder)).tag_columns == ("brand",)


def test_another_content_of_the_tables_is_another_request(folder: Path, tmp_path: Path) -> None:
    prepared(folder, tmp_path / "c")
    meta = read(folder, "meta-fashion.json")
    meta["B000"]["title"] = "Another dress"
    write(folder, "meta-fashion.json", meta)
    with pytest.raises(E2FashionError, match="its tables have changed since"):
        prepared(folder, tmp_path / "c")


def test_what_does_not_fit_is_listed(folder: Path, tmp_path: Path) -> None:
    meta, splits = read(folder, "meta-fashion.json"), read(folder, "split.json")
    meta["B000"]["images"] = []
    meta["B001"]["images"] = [3]
    meta["B002"]["title"] = None
    meta["B777"] = {"title": "Nowhere", "images": ["0.jpg"]}
    splits["train"] += ["B999"]
    (folder / "Fashion" / "B003" / "0.jpg").unlink()
    write(folder, "meta-fashion.json", meta)
    write(folder, "split.json", splits)
    expected = [("B000", "no image"), ("B001", "no image"), ("B999", "unknown product"), ("B777", "in no split")]
    assert problems_of(folder) == expected
    assert len(AmazonFashionSource(str(folder))) == len(list(AmazonFashionSource(str(folder)).rows()))
    skipped = prepared(folder, tmp_path / "c").manifest.skipped
    assert skipped == {
        "no image": 2,
        "unknown product": 1,
        "in no split": 1,
        "empty text": 3,
        "missing image": 1,
    }


def test_mistakes_are_named(folder: Path, tmp_path: Path) -> None:
    splits = read(folder, "split.json")
    write(folder, "split.json", {**splits, "test": [*splits["test"], "B000"]})
    assert ("B000", "product in two splits") in problems_of(folder)
    write(folder, "split.json", ["B000"])
    with pytest.raises(E2FashionError, match=r"split.json is not laid out as \{train: \[asin"):
        AmazonFashionSource(str(folder))
    write(folder, "split.json", splits)
    (folder / "meta-fashion.json").write_text('{"B000": {"title": "Dr', encoding="utf-8")
    with pytest.raises(E2FashionError, match=r"meta-fashion.json is not JSON .*an incomplete download"):
        AmazonFashionSource(str(folder))
    (folder / "meta-fashion.json").unlink()
    with pytest.raises(E2FashionError, match=r"meta-fashion.json is missing. AmazonFashion is meta-fashion.json, "):
        AmazonFashionSource(str(folder))
    without = write_amazon(tmp_path / "other")
    (without / "Fashion").rename(without / "fashion")
    with pytest.raises(E2FashionError, match="has no folder 'Fashion': unpack"):
        AmazonFashionSource(str(without))


@pytest.mark.parametrize("system", ["e2", "clip_ft"])
def test_its_configurations_prepare_and_train(folder: Path, tmp_path: Path, system: str) -> None:
    file, place = CONFIGS / "data" / "amazon_fashion.yaml", tmp_path / "c"
    prepare(*load_prepare_config(file, [f"path={folder}", f"output={place}", "val_fraction=0.2"]), progress=False)
    texts = list(Catalogue.load(place).split("train")["description"])
    clip = save_random_clip(tmp_path / "clip", texts, layers=12, image_size=32)
    words = [f"data={place}", f"output={tmp_path / 'run'}", f"model.checkpoint={clip}", "accelerator=cpu"]
    words += ["image.size=32", "loader={batch_size: 4, workers: 0}", "train.precision=fp32"]
    words += [f"train.stages.{stage}.epochs=1" for stage in ("new_parameters", "everything")]
    run = train_run(load_config(RunConfig, CONFIGS / "run" / f"amazon_{system}.yaml", words), progress=False)
    assert [entity.name for entity in load_encoder(str(run.path)).entities] == (["brand"] if system == "e2" else [])
    records = read_records(run.results)
    assert {record.text for record in records} == {"{brand}. {description}"}
    assert {record.protocol for record in records} == {"full", "full_multiview", "sample_100"}
