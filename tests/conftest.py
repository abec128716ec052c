"""Data that many tests read: a small SynthFashion catalogue, and where real data lies if anybody said so."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.config import build_source
from e2fashion.data.prepare import prepare_catalogue

# How long an example takes tells of the machine, not of the code.
settings.register_profile("any_machine", deadline=None)
settings.load_profile("any_machine")

TESTS = Path(__file__).resolve().parent
#: Files that take longest, in this order: begun last, one of them would keep one process while the others are done.
LONGEST = (
    "experiments/test_experiments.py",
    "tasks/serving/test_server.py",
    "training/test_sharding.py",
    "test_notebooks.py",
    "ablation/test_processes.py",
    "export/test_write.py",
    "ablation/test_sweep.py",
    "test_configs.py",
    "test_start_up.py",
    "test_readme.py",
    "tasks/search/test_index.py",
    "test_change_costs.py",
    "scripts/test_torture_index.py",
    "scripts/test_torture.py",
    "ablation/test_run.py",
    "data/sources/test_kagl.py",
    "metrics/test_captioning.py",
    "training/test_optimization.py",
    "training/test_fit.py",
    "training/test_large_batches.py",
    "scripts/test_bench_variants.py",
    "tasks/captioning/test_commands.py",
    "experiments/test_ablation_files.py",
    "golden/test_golden.py",
    "models/test_chunks.py",
    "disk/test_atomic.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files."""
    order = {name: number for number, name in enumerate(LONGEST)}
    if missing := [name for name in LONGEST if not (TESTS / name).is_file()]:
        raise pytest.UsageError(f"tests/conftest.py names {missing}, which do not exist: correct LONGEST")
    items.sort(key=lambda item: order.get(item.path.relative_to(TESTS).as_posix(), len(order)))


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
