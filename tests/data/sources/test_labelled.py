"""Fashion-MNIST's files in their true layout, folders of classes, and splits that depend on content and seed."""

import gzip
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from e2fashion.data.config import Preparation
from e2fashion.data.decode import decode_image
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.data.sources.base import SourceProblem, SourceRow
from e2fashion.data.sources.labelled import FASHION_MNIST, LabelledSource
from e2fashion.types import E2FashionError


def write_idx(file: Path, array: np.ndarray) -> None:
    """An idx file of bytes, packed."""
    header = np.array([0x0800 + array.ndim, *array.shape], dtype=">i4")
    file.write_bytes(gzip.compress(header.tobytes() + array.tobytes()))


def pictures(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """Ten images of every class in train and two in test."""
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    for seed, (part, count) in enumerate({"train": 100, "t10k": 20}.items()):
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", pictures(count, seed))
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", (np.arange(count) % 10).astype(np.uint8))
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Twenty images of two classes."""
    folder = tmp_path / "classes"
    write_classes(folder, {"dresses": 20, "shirts": 20})
    return folder


def write_classes(folder: Path, counts: dict[str, int], seed: int = 0) -> None:
    for number, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for place, pixels in enumerate(pictures(count, seed + 100 * number)):
            Image.fromarray(pixels).save(folder / name / f"{place:02}.png")


def rows_of(path: Path, **options: Any) -> list[SourceRow]:
    return [row for row in LabelledSource(str(path), **options).rows() if isinstance(row, SourceRow)]


def test_fashion_mnist_as_a_catalogue(mnist: Path, tmp_path: Path) -> None:
    catalogue = prepare_catalogue(LabelledSource(str(mnist)), tmp_path / "c", progress=False)
    counts = {split: count["products"] for split, count in catalogue.manifest.splits.items()}
    assert counts == {"train": 90, "val": 10, "test": 20}
    for split, each in (("train", 9), ("val", 1), ("test", 2)):
        assert Counter(catalogue.split(split)["label"]) == dict.fromkeys(FASHION_MNIST, each)
    sample = next(catalogue.samples("test"))
    assert (sample.product_id, sample.description, sample.tags["label"]) == ("test-00000", "T-shirt/top", "T-shirt/top")
    first = decode_image(sample.image).numpy()
    assert np.array_equal(first, np.broadcast_to(pictures(20, 1)[0], (3, 28, 28)))


def test_class_folders_get_splits(folders: Path, tmp_path: Path) -> None:
    catalogue = prepare_catalogue(LabelledSource(str(folders)), tmp_path / "c", progress=False)
    for split, each in (("train", 16), ("val", 2), ("test", 2)):
        assert Counter(catalogue.split(split)["label"]) == {"dresses": each, "shirts": each}


def test_another_seed_is_another_split(folders: Path) -> None:
    first, again, other = ([row.split for row in rows_of(folders, seed=seed, val_share=0.3)] for seed in (0, 0, 1))
    assert first == again != other


def test_equal_pictures_stay_together(folders: Path) -> None:
    copy = (folders / "shirts" / "00.png").read_bytes()
    for place in range(12):
        (folders / "shirts" / f"copy{place}.png").write_bytes(copy)
    result = {row.split for row in rows_of(folders) if "copy" in row.product_id or row.product_id == "shirts/00.png"}
    assert len(result) == 1


def test_splits_that_are_given_are_kept(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"a": 10, "b": 10})
    write_classes(tmp_path / "test", {"a": 3, "b": 3}, seed=7)
    assert Counter(row.split for row in rows_of(tmp_path)) == {"train": 18, "val": 2, "test": 6}
    write_classes(tmp_path / "valid", {"a": 4}, seed=9)
    assert Counter(row.split for row in rows_of(tmp_path)) == {"train": 20, "val": 4, "test": 6}


def test_a_class_with_one_picture_stays_in_train(tmp_path: Path) -> None:
    write_classes(tmp_path, {"single": 1, "many": 10})
    assert {row.split for row in rows_of(tmp_path, val_share=0.9) if row.description == "single"} == {"train"}


def test_what_is_no_picture_is_a_problem_that_is_listed(folders: Path) -> None:
    (folders / "shirts" / "notes.txt").write_text("hello")
    problems = [row for row in LabelledSource(str(folders)).rows() if isinstance(row, SourceProblem)]
    assert [(problem.row, problem.reason) for problem in problems] == [("shirts/notes.txt", "not an image")]


def test_a_folder_within_a_class_folder_is_a_problem_that_is_listed(folders: Path, tmp_path: Path) -> None:
    (folders / "shirts" / "blue").mkdir()
    Image.fromarray(pictures(1, 7)[0]).save(folders / "shirts" / "blue" / "1.png")
    (problem,) = [row for row in LabelledSource(str(folders)).rows() if isinstance(row, SourceProblem)]
    assert (problem.row, problem.reason) == ("shirts/blue", "a folder within a class folder")
    with pytest.raises(E2FashionError, match=r"shirts/blue.*deeper folders are not read"):
        prepare_catalogue(LabelledSource(str(folders)), tmp_path / "stop", progress=False)
    catalogue = prepare_catalogue(
        LabelledSource(str(folders)), tmp_path / "skip", Preparation(on_error="skip"), progress=False
    )
    assert catalogue.manifest.skipped == {"a folder within a class folder": 1}
    assert sum(split["products"] for split in catalogue.manifest.splits.values()) == 40


def test_a_label_without_a_class_is_a_problem_that_is_listed(mnist: Path, tmp_path: Path) -> None:
    source = LabelledSource(str(mnist), classes=[f"class {number}" for number in range(9)])
    problems = [row for row in source.rows() if isinstance(row, SourceProblem)]
    assert len(problems) == 12  # a tenth of both parts
    assert (problems[0].row, problems[0].reason) == ("train-labels-idx1-ubyte item 9", "label without a class")
    with pytest.raises(E2FashionError, match="label 9, and classes names 9"):
        prepare_catalogue(source, tmp_path / "stopped", progress=False)
    catalogue = prepare_catalogue(source, tmp_path / "c", Preparation(on_error="skip"), progress=False)
    assert catalogue.manifest.skipped["label without a class"] == 12
    kept = sum(count["images"] for count in catalogue.manifest.splits.values())
    assert kept + sum(catalogue.manifest.skipped.values()) == 120


def test_mistakes_are_named(mnist: Path, folders: Path, tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match="this folder does not exist"):
        LabelledSource(str(tmp_path / "gone"))
    with pytest.raises(E2FashionError, match="val_share is 1"):
        LabelledSource(str(mnist), val_share=1.0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(E2FashionError, match="neither Fashion-MNIST's idx files nor class folders"):
        LabelledSource(str(tmp_path / "empty"))
    (tmp_path / "empty" / "shirts").mkdir()
    with pytest.raises(E2FashionError, match="has no images in its class folders"):
        LabelledSource(str(tmp_path / "empty"))
    (folders / "train").mkdir()
    with pytest.raises(E2FashionError, match=r"holds splits \(train\) next to 'dresses'"):
        LabelledSource(str(folders))


def test_damaged_idx_files_are_named(mnist: Path) -> None:
    labels = mnist / "train-labels-idx1-ubyte.gz"
    sound = labels.read_bytes()
    labels.write_bytes(sound[:20])
    with pytest.raises(E2FashionError, match=r"train-labels-idx1-ubyte.gz cannot be unpacked"):
        LabelledSource(str(mnist))
    labels.write_bytes(gzip.compress(gzip.decompress(sound)[:-5]))
    with pytest.raises(E2FashionError, match=r"holds 95 bytes for an array of \(100,\): it is cut off"):
        LabelledSource(str(mnist))
    labels.write_bytes(gzip.compress(b"something else"))
    with pytest.raises(E2FashionError, match="is not an idx file of 1 dimension"):
        LabelledSource(str(mnist))
    write_idx(labels, np.zeros(7, dtype=np.uint8))
    with pytest.raises(E2FashionError, match="train has 100 images and 7 labels"):
        LabelledSource(str(mnist))
    labels.unlink()
    with pytest.raises(E2FashionError, match=r"has no train-labels-idx1-ubyte.gz: all four files"):
        LabelledSource(str(mnist))


@pytest.mark.parametrize("size", [(1 << 30) + 1, 2**31 - 1])
def test_an_idx_file_that_promises_too_much_is_not_unpacked(mnist: Path, size: int) -> None:
    labels = mnist / "train-labels-idx1-ubyte.gz"
    header = np.array([0x0801, size], dtype=">i4").tobytes()
    labels.write_bytes(gzip.compress(header) + b"what follows is no gzip")
    with pytest.raises(E2FashionError, match=rf"an array of \({size},\): give files of up to 1,073,741,824 bytes"):
        LabelledSource(str(mnist))


def test_an_idx_file_is_read_as_far_as_its_header_says(mnist: Path) -> None:
    labels = mnist / "train-labels-idx1-ubyte.gz"
    sound = gzip.decompress(labels.read_bytes())
    labels.write_bytes(gzip.compress(sound + bytes(50_000_000)))
    tracemalloc.start()
    try:
        with pytest.raises(E2FashionError, match=r"holds more bytes than an array of \(100,\) has"):
            LabelledSource(str(mnist))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.real_data
def test_the_real_fashion_mnist(real_data: Path) -> None:
    rows = rows_of(real_data / "fashion-mnist")
    assert Counter(row.split for row in rows) == {"train": 54_000, "val": 6_000, "test": 10_000}
    assert Counter(row.description for row in rows if row.split == "test") == dict.fromkeys(FASHION_MNIST, 1_000)
    assert rows[0].description == "Ankle boot"
