"""Imports run one way: types, config <- data | models | losses | metrics <- modules, tasks <- eval <- build <- ..."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "e2fashion"

LAYERS: list[set[str]] = [
    {"types", "settings", "characters", "escape", "lazy", "literals"},
    {"text_files", "disk", "lifetime", "auto_classes", "terminal"},
    {"stored"},
    {"schema", "run_folder", "similarity", "extensions", "records", "hub", "arithmetic"},
    {"config", "tables"},
    {"data", "models", "losses", "metrics"},
    {"modules", "tasks"},
    {"eval"},
    {"plugins"},
    {"run_configs"},
    {"build"},
    {"training", "measured", "run_checks"},
    {"runner"},
    {"ablation"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
CONFIG_READERS = {
    "build",
    "run_configs",
    "training",
    "measured",
    "run_checks",
    "runner",
    "ablation",
    "cli",
    "config",
    "schema",
}


def package_imports(file: Path) -> set[str]:
    """First components below ``e2fashion`` that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "e2fashion" and len(parts) > 1 and parts[1] in LEVEL:
                found.add(parts[1])
    return found


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_what_lies_below_it(file: Path) -> None:
    own = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for other in package_imports(file) - {own}:
        assert LEVEL[other] < LEVEL[own], f"{own} must not import {other}"


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_configuration_reaches_code_in_one_place(file: Path) -> None:
    own = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own not in CONFIG_READERS:
        assert not {"config", "schema"} & package_imports(file)


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_longer_than_400_lines(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 400


def test_losses_metrics_and_selection_do_not_import_lightning() -> None:
    code = (
        "import sys, e2fashion.losses.contrastive, e2fashion.metrics.retrieval, e2fashion.models.selection;"
        "sys.exit('pytorch_lightning' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_two_test_files_have_the_same_name() -> None:
    """Pytest imports them by their names alone, and would stop at the second one."""
    names = [path.name for path in PACKAGE.parent.joinpath("tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
