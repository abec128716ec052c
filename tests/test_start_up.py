"""Help, version and mistakes answer before PyTorch is imported, and ``import e2fashion`` stays light."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import e2fashion
from e2fashion import commands
from e2fashion.lazy import CONFIGS

PACKAGE = Path(e2fashion.__file__).parent
GOLDEN = Path(__file__).parent / "golden" / "e2" / "model"
HEAVY = ("torch", "transformers", "pytorch_lightning", "datasets", "pandas", "pyarrow")

#: Runs each command in a process of its own, forked from one that has imported the program alone.
COMMANDS = """
import contextlib, io, json, os, sys
from e2fashion.__main__ import main
for arguments in json.load(sys.stdin):
    read, write = os.pipe()
    if os.fork() == 0:
        out, error = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            try:
                code = main(arguments)
            except SystemExit as stop:
                code = stop.code
        heavy = [name for name in HEAVY if name in sys.modules]
        with open(write, "w") as answer:
            json.dump([code, heavy, out.getvalue(), error.getvalue()], answer)
        os._exit(0)
    os.close(write)
    with open(read) as answer:
        print(answer.read(), flush=True)
    os.wait()
"""

EXPLAINED = [
    ["--help"],
    ["--version"],
    [],
    ["data", "--help"],
    *([*verb.split(), "--help"] for verb in commands.COMMANDS),
]
MISTAKES = {
    "train run.yaml data=x sed=1": "Key 'sed' not in 'RunConfig'",
    "train . data=x": "not a run folder",
    "compare run.yaml data=x spilt=test": "Key 'spilt' not in 'RunConfig'",
    "ablate ablation.yaml data=x sed=1": "Key 'sed' not in 'RunConfig'",
    "caption train run.yaml data=x encoder=y sed=1": "Key 'sed' not in 'CaptionTrainConfig'",
    "data prepare synthetic output=x prodcuts=4": "Did you mean: 'products'?",
    "evaluate model data=x seeed=1": "Key 'seeed'",
    "search index text=x tpo=1": "Key 'tpo'",
    "report runs/x outptu=y": "Key 'outptu'",
    "evaluate model data=x seed=1 seed=2": "'seed' is given twice, as seed=1 and as seed=2",
    "evaluate model data=x model=other": "'model' is given twice, as the argument 'model' and as model=other",
    "evaluate model data=": "'data=' has no value. Give text",
    "evaluate model data=x seed=": "'seed=' has no value. Give integer",
    "evaluate model data=x output=": "'output=' has no value. Give text or null",
    "train run.yaml data=x model.entities.brand.tokens=": "'model.entities.brand.tokens=' has no value. Give integer",
    "evaulate model": "Did you mean 'evaluate'?",
    "data chekc x": "Choose one of data prepare, data describe, data check; got 'chekc'",
}


def answers(commands: list[list[str]], folder: Path) -> Iterator[tuple[Any, list[str], str, str]]:
    script = f"HEAVY = {HEAVY}\n{COMMANDS}"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(commands),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    for line in done.stdout.splitlines():
        yield tuple(json.loads(line))


def test_help_and_version_import_no_heavy_library(tmp_path: Path) -> None:
    for arguments, (code, heavy, out, error) in zip(EXPLAINED, answers(EXPLAINED, tmp_path), strict=True):
        assert (code, heavy, error) == (0, [], ""), arguments
        assert out.startswith("e2fashion 0" if arguments == ["--version"] else "usage: e2fashion ")


def test_a_mistake_is_reported_before_a_heavy_library_is_imported(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("{}\n", encoding="utf-8")
    (tmp_path / "ablation.yaml").write_text("base: run.yaml\nrows: {a: {}}\n", encoding="utf-8")
    result = answers([command.split() for command in MISTAKES], tmp_path)
    for (command, message), (code, heavy, out, error) in zip(MISTAKES.items(), result, strict=True):
        assert message in error, command
        assert (code, heavy, out, error.count("\n")) == (1, [], "", 1), command


def homes_in(file: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """What a package imports for type checkers, and what it imports when it is used: names by module."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If)]
    typed = {
        str(node.module): [alias.name for alias in node.names]
        for block in blocks
        for node in block.body
        if isinstance(node, ast.ImportFrom)
    }
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "lazy_names"]
    return typed, {home: list(names) for home, names in ast.literal_eval(calls[0].args[1]).items()}


def test_the_names_that_wait_are_those_that_type_checkers_see() -> None:
    typed, lazy = homes_in(PACKAGE / "__init__.py")
    assert typed == lazy


def test_every_public_name_is_found_and_listed() -> None:
    assert set(e2fashion.__all__) <= set(dir(e2fashion))
    for name in e2fashion.__all__:
        assert getattr(e2fashion, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Encodr'"):
        _ = e2fashion.Encodr  # type: ignore[attr-defined]


#: Loads a model folder by each Auto class, both packages imported in either order, imports parts without Lightning, and
#: search without what it does not need; each in a process of its own, forked from one that has imported less.
LOADING = """
import os, sys, traceback, warnings
import PIL.Image, scipy.optimize, scipy.stats, tokenizers, torch, torch._dynamo, torch._inductor.utils
warnings.simplefilter("ignore")

def in_fork(action, *arguments):
    if os.fork() == 0:
        try:
            action(*arguments)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        sys.stdout.flush()
        os._exit(0)
    assert os.wait()[1] == 0

def load(order, loader):
    assert "e2fashion.models" not in sys.modules
    print(order, type(loader.from_pretrained(FOLDER)).__name__)

def load_with_ours_first(auto):
    load("e2fashion transformers", getattr(sys.modules["transformers"], auto))

def load_with_ours_last(auto):
    loader = getattr(sys.modules["transformers"], auto)
    import e2fashion
    load("transformers e2fashion", loader)

def by_every_class(first, action):
    __import__(first)
    import transformers.modeling_utils  # most of what they import
    for auto in CLASSES.split():
        in_fork(action, auto)

def without_lightning():
    import e2fashion.losses.contrastive, e2fashion.metrics.retrieval, e2fashion.models.selection
    print("pytorch_lightning" in sys.modules)

def search():
    import e2fashion.tasks.search.index
    print([name for name in ("datasets", "matplotlib", "pytorch_lightning", "torchmetrics") if name in sys.modules])

in_fork(by_every_class, "e2fashion", load_with_ours_first)
in_fork(by_every_class, "transformers", load_with_ours_last)
in_fork(without_lightning)
in_fork(search)
"""
AUTO = "AutoConfig AutoModel AutoModelForZeroShotImageClassification AutoProcessor AutoTokenizer AutoImageProcessor"


@pytest.fixture(scope="module")
def loaded() -> list[str]:
    """What ``LOADING`` prints."""
    script = f"FOLDER, CLASSES = {str(GOLDEN)!r}, {AUTO!r}\n{LOADING}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_auto_classes_load_a_folder_of_ours_whichever_package_is_imported_first(loaded: list[str]) -> None:
    names = ["E2Config", "E2Model", "E2Model", "CLIPProcessor", "TokenizersBackend", "CLIPImageProcessorPil"]
    orders = ("e2fashion transformers", "transformers e2fashion")
    assert loaded[:-2] == [f"{order} {name}" for order in orders for name in names]


@pytest.mark.slow
def test_losses_metrics_and_selection_do_not_import_lightning(loaded: list[str]) -> None:
    assert loaded[-2] == "False"


@pytest.mark.slow
def test_search_imports_no_library_of_training_data_and_figures(loaded: list[str]) -> None:
    assert loaded[-1] == "[]"


def test_the_stand_ins_are_of_the_model_types_that_exist() -> None:
    from e2fashion import models

    assert {getattr(models, name).model_type: name for name in CONFIGS.values()} == CONFIGS
