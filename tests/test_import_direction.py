"""Imports run one way over six levels, parts never import each other, and there is no circle."""

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "e2fashion"

#: From the bottom; a unit is a module or a folder, and each folder of ``tasks`` is one.
LEVELS: dict[str, set[str]] = {
    "foundation": {
        "arithmetic",
        "config",
        "disk",
        "escape",
        "extensions",
        "figures",
        "hub",
        "lazy",
        "lifetime",
        "literals",
        "options",
        "plots",
        "published",
        "records",
        "run_folder",
        "settings",
        "similarity",
        "tables",
        "terminal",
        "text_files",
        "types",
    },
    "parts": {"data", "models", "losses", "metrics"},
    "encoder": {"embedding", "encoder", "features", "measuring", "model_folder"},
    "uses": {
        "checkpoints",
        "export",
        "tasks.captioning",
        "tasks.classification",
        "tasks.composed",
        "tasks.localization",
        "tasks.probing",
        "tasks.retrieval",
        "tasks.search",
        "tasks.serving",
        "training",
    },
    "runs": {"ablation", "evaluation", "report"},
    "commands": {"__main__", "commands"},
}
LEVEL = {unit: number for number, units in enumerate(LEVELS.values()) for unit in units}
OURS = ("e2fashion", "scripts", "experiments")
FILES = sorted(
    path for path in PACKAGE.rglob("*.py") if path not in (PACKAGE / "__init__.py", PACKAGE / "tasks/__init__.py")
)


def unit_of(parts: tuple[str, ...]) -> str:
    """The unit of a module, given as its path below the package."""
    names = [part.removesuffix(".py") for part in parts]
    return ".".join(names[:2]) if names[0] == "tasks" else names[0]


@cache
def nodes_of(file: Path) -> list[ast.AST]:
    """What a file imports, defines and sets at any depth."""
    kinds = (ast.ImportFrom, ast.Import, ast.ClassDef, ast.FunctionDef, ast.Name)
    return [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, kinds)]


@cache
def names_of(module: str) -> set[str] | None:
    """What a module of ours defines or imports at any depth, and the modules of a package; None where there is none."""
    place = PACKAGE.parent.joinpath(*module.split("."))
    file = place / "__init__.py"
    # As Python does, prefer a module to a folder without code, which a former package leaves where it was compiled.
    result = {entry.stem for entry in place.iterdir()} if file.is_file() else set()
    file = file if file.is_file() else place.with_suffix(".py")
    if not file.is_file():
        return None
    for node in nodes_of(file):
        if isinstance(node, ast.ImportFrom | ast.Import):
            result |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            result.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            result.add(node.id)
    return result


@pytest.mark.parametrize("folder", OURS)
def test_what_is_imported_of_ours_exists(folder: str) -> None:
    """Also within functions, where a package with lazy names hides a mistake from mypy until the function runs."""
    missing = []
    for file in sorted((PACKAGE.parent / folder).rglob("*.py")):
        for node in nodes_of(file):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OURS:
                names = names_of(str(node.module))
                missing += [
                    f"{file.name}:{node.lineno} {node.module}.{alias.name}"
                    for alias in node.names
                    if names is None or alias.name not in names
                ]
    assert not missing


@cache
def imported_units(file: Path) -> set[str]:
    """Units that a file imports, also inside functions."""
    result = set()
    for node in nodes_of(file):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        for module in modules:
            parts = module.split(".")
            if parts[0] == "e2fashion" and len(parts) > 1 and unit_of(tuple(parts[1:])) in LEVEL:
                result.add(unit_of(tuple(parts[1:])))
    return result


def own_unit(file: Path) -> str:
    return unit_of(file.relative_to(PACKAGE).parts)


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_nothing_from_above(file: Path) -> None:
    own = own_unit(file)
    for other in imported_units(file) - {own}:
        assert LEVEL[other] <= LEVEL[own], f"{own} must not import {other}"
        assert not {own, other} <= LEVELS["parts"], f"parts know nothing of each other: {own} imports {other}"


def test_there_is_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for file in FILES:
        graph.setdefault(own_unit(file), set()).update(imported_units(file) - {own_unit(file)})
    assert set(TopologicalSorter(graph).static_order()) == set(LEVEL)  # a circle raises; no unit is left out


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_longer_than_400_lines(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("file", sorted(PACKAGE.parent.joinpath("tests").rglob("*.py")), ids=lambda path: path.stem)
def test_no_test_reads_a_private_name_of_a_module(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if (node.module or "").split(".")[0] in ("e2fashion", "scripts")]
    names = {alias.asname or alias.name for node in ours for alias in node.names}
    private = [alias.name for node in ours for alias in node.names if alias.name.startswith("_")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names:
            private.append(node.attr)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setattr":
            replaced = [item.value for item in node.args if isinstance(item, ast.Constant)]
            private += [str(value).rpartition(".")[2] for value in replaced if isinstance(value, str)]
    assert not [name for name in private if name.startswith("_") and not name.startswith("__")]


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_a_public_function_that_raises_documents_it(file: Path) -> None:
    silent = []
    for node in nodes_of(file):
        public = isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
        if public and not re.search(r"\b(Raises?|Refuse|E2FashionError|error)\b", ast.get_docstring(node) or "Raises"):
            raised = [part.exc for part in ast.walk(node) if isinstance(part, ast.Raise)]
            silent += [node.name for error in raised if getattr(getattr(error, "func", 0), "id", 0) == "E2FashionError"]
    assert not silent
