"""What tests of experiments share: a tiny catalogue, and a pool of runs, so that equal ones are trained once."""

from pathlib import Path

import pytest

from experiments.common.command import smoke_catalogue as prepare_catalogue


@pytest.fixture(scope="session")
def smoke_catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The garments that ``--smoke`` draws."""
    return prepare_catalogue(tmp_path_factory.mktemp("smoke") / "catalogue")


@pytest.fixture(scope="session")
def smoke_output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where smoke tests put runs and tables."""
    return tmp_path_factory.mktemp("experiments")
