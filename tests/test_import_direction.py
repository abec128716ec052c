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
        "tasks",
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
#: Modules above that a file names as text, to import them when they are needed.
NAMED_ABOVE = {
    "lazy.py": "the Auto classes of Transformers load E2 on first use",
    "records.py": "a task's module is imported when records of the task are read",
}
#: Private names of libraries that our code also overrides.
LIBRARIES = {"_perform_graceful_shutdown", "_trainer"}
LEVEL = {unit: number for number, units in enumerate(LEVELS.values()) for unit in units}
OURS = ("e2fashion", "scripts", "experiments")
TESTS = PACKAGE.parent / "tests"
#: All but the public names, which are of every level.
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def unit_of(parts: tuple[str, ...]) -> str:
    """The unit of a module, given as its path below the package."""
    names = [part.removesuffix(".py") for part in parts if part != "__init__.py"]
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


def module_of(file: Path) -> str:
    """The dotted name of a file of the package."""
    return ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(file): file for file in FILES}


@cache
def imported_modules(file: Path, named: bool = False) -> set[str]:
    """Modules of ours that a file imports, also inside functions and for type checkers; ``named``: as text instead."""
    if named:
        texts = [node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant)]
        return {text for text in texts if isinstance(text, str) and text in MODULES} - {module_of(file)}
    result: set[str] = set()
    for node in nodes_of(file):
        if isinstance(node, ast.Import):
            result |= {alias.name for alias in node.names if alias.name.partition(".")[0] == "e2fashion"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "e2fashion":
            module = str(node.module)
            full = {alias.name: f"{module}.{alias.name}" for alias in node.names if alias.name != "__version__"}
            result |= {dotted if dotted in MODULES else module for dotted in full.values()}
    return result - {module_of(file)}


def units_of(modules: set[str]) -> set[str]:
    return {unit_of(tuple(module.split(".")[1:])) for module in modules}


def own_unit(file: Path) -> str:
    return unit_of(file.relative_to(PACKAGE).parts)


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_nothing_from_above(file: Path) -> None:
    own = own_unit(file)
    modules = imported_modules(file)
    assert modules <= set(MODULES), "import a module of the package, not its public names"
    if file.name not in NAMED_ABOVE:
        modules = modules | imported_modules(file, named=True)
    for other in units_of(modules) - {own}:
        assert LEVEL[other] <= LEVEL[own], f"{own} must not import {other}"
        assert not {own, other} <= LEVELS["parts"], f"parts know nothing of each other: {own} imports {other}"


def test_there_is_no_circle() -> None:
    """Neither among the units nor among the modules, and every unit has a level."""
    units: dict[str, set[str]] = {}
    for file in FILES:
        units.setdefault(own_unit(file), set()).update(units_of(imported_modules(file)) - {own_unit(file)})
    assert set(TopologicalSorter(units).static_order()) == set(LEVEL)  # a circle raises; no unit is left out
    modules = {module: imported_modules(file) for module, file in MODULES.items()}
    assert set(TopologicalSorter(modules).static_order()) == set(MODULES)


@pytest.mark.parametrize("folder", [*OURS, "tests"])
def test_no_file_is_longer_than_400_lines(folder: str) -> None:
    lengths = {
        file: len(file.read_text(encoding="utf-8").splitlines()) for file in (PACKAGE.parent / folder).rglob("*.py")
    }
    assert not {str(file): lines for file, lines in lengths.items() if lines > 400}


@pytest.mark.parametrize("file", sorted(TESTS.rglob("test_*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_tests_mirror_the_tree(file: Path) -> None:
    """A folder of tests is one of the code, and a test named after a module is where that module is."""
    folder = file.relative_to(TESTS).parent
    assert any((home / folder).is_dir() for home in (PACKAGE, PACKAGE.parent)) or folder.name == "golden"
    homes = {module.relative_to(PACKAGE).parent for module in FILES if module.stem == file.stem.removeprefix("test_")}
    if len(homes) == 1:
        assert homes == {folder}


@cache
def private_names() -> set[str]:
    """The names with an underscore that our code defines or sets, also on instances."""
    result: set[str] = set()
    for file in (file for folder in OURS for file in (PACKAGE.parent / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                result.add(node.name)
            elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
                result.add(node.id if isinstance(node, ast.Name) else node.attr)
    return {name for name in result if name.strip("_") and name.startswith("_") and not name.startswith("__")}


@pytest.mark.parametrize("file", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_reads_a_private_name(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    read = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OURS:
            read += [alias.name for alias in node.names if alias.name.startswith("_")]
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) not in ("self", "cls"):
            read.append(node.attr)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setattr":
            replaced = [item.value for item in node.args if isinstance(item, ast.Constant)]
            read += [str(value).rpartition(".")[2] for value in replaced if isinstance(value, str)]
    assert not private_names().intersection(read) - LIBRARIES


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_a_public_function_that_raises_documents_it(file: Path) -> None:
    silent = []
    for node in nodes_of(file):
        public = isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
        if public and not re.search(r"\b(Raises?|Refuse|E2FashionError|error)\b", ast.get_docstring(node) or "Raises"):
            raised = [part.exc for part in ast.walk(node) if isinstance(part, ast.Raise)]
            silent += [node.name for error in raised if getattr(getattr(error, "func", 0), "id", 0) == "E2FashionError"]
    assert not silent
