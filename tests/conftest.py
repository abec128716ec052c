"""Data that many tests read: a small SynthFashion catalogue, and where real data lies if anybody said so."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.config import build_source
from e2fashion.data.prepare import prepare_catalogue

#: Files that take longest, in this order: begun last, one of them would keep one process while the others are done.
LONGEST = (
    "test_experiments.py",
    "test_notebooks.py",
    "test_runner_processes.py",
    "test_ablation_sweep.py",
    "test_torture.py",
    "test_exports.py",
    "test_start_up.py",
    "test_kagl.py",
    "test_runner.py",
    "test_ablation_files.py",
    "test_search_index.py",
    "test_atomic.py",
    "test_configs.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """Give PyTorch's threads back after a test whose run chose a number: sums depend on it in the last bit."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def synth_catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """120 rendered products of 32 px with two views each."""
    folder = tmp_path_factory.mktemp("synthfashion") / "catalogue"
    source = build_source("synthetic", {"products": 120, "image_size": 32, "views": 2, "seed": 0})
    return prepare_catalogue(source, folder, progress=False)


def _folder_from(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set: it names the folder of real data that this test reads")
    return Path(value)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder that E2FASHION_DATA names; the test is skipped without it."""
    return _folder_from("E2FASHION_DATA")


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder that E2FASHION_REFERENCE names; the test is skipped without it."""
    return _folder_from("E2FASHION_REFERENCE")
