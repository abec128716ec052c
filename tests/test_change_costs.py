"""What a change costs in files: each is made in a copy of the tree, used, and counted."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from forked import Forked
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
OURS = ("e2fashion", "experiments", "scripts")


def forget_ours(folder: Path) -> None:
    """Let this process, which has imported the libraries and our packages, import the packages of ``folder``."""
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder))
    os.chdir(folder)


def run_code(folder: Path, code: str) -> int:
    """``python -c``."""
    forget_ours(folder)
    exec(code, {})
    return 0


def run_module(folder: Path, *words: str) -> int:
    """``python -m``."""
    forget_ours(folder)
    sys.argv = list(words)
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    return 0


class Tree:
    """A copy of all folders that a change may touch, and which of its files one touches."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in (*OURS, "configs", "docs"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.pyc.*"))

    def write(self, name: str, text: str) -> None:
        """A new file."""
        (self.folder / name).write_text(text, encoding="utf-8")

    def replace(self, name: str, *changes: tuple[str, str]) -> None:
        """Each first text of a file, which it must hold, by the second."""
        text = (self.folder / name).read_text(encoding="utf-8")
        for old, new in changes:
            assert old in text, f"{name} does not hold {old!r}"
            text = text.replace(old, new, 1)
        self.write(name, text)

    def run(self, *words: str) -> str:
        """What ``python -m`` prints with the copy as its package."""
        return self._printed(run_module, *words)

    def python(self, code: str) -> str:
        """What ``python -c`` prints."""
        return self._printed(run_code, code)

    def _printed(self, function: Callable[..., int], *words: str) -> str:
        ended = Forked(function, self.folder, *words, folder=self.folder.parent).wait()
        assert ended.code == 0, ended.error
        return ended.out

    def changed(self) -> list[str]:
        """Files that are new or differ."""
        files = (file.relative_to(self.folder) for file in self.folder.rglob("*") if file.is_file())
        files = (file for file in files if file.suffix != ".pyc")
        return sorted(str(file) for file in files if not self._is_same(file))

    def _is_same(self, file: Path) -> bool:
        original = ROOT / file
        return original.is_file() and original.read_bytes() == (self.folder / file).read_bytes()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "tree")


def test_a_verb_costs_three_files(tree: Tree) -> None:
    tree.write("e2fashion/commands/ids.py", documented("# e2fashion/commands/ids.py"))
    tree.replace(
        "e2fashion/commands/__init__.py",
        ("export, search", "export, ids, search"),
        ("    **search.COMMANDS,", "    **ids.COMMANDS,\n    **search.COMMANDS,"),
    )
    tree.run("scripts.config_reference")
    assert tree.changed() == ["docs/configuration.md", "e2fashion/commands/__init__.py", "e2fashion/commands/ids.py"]

    (tree.folder.parent / "list.txt").write_text("10\n30\n20\n", encoding="utf-8")
    assert tree.run("e2fashion", "ids", "../list.txt", "reverse=true") == "30\n20\n10\n"
    explained = tree.run("e2fashion", "ids", "--help")
    assert "Sort product ids." in explained
    assert "The last one first." in explained
    assert "ids <file>" in tree.run("e2fashion", "--help")
    assert "| `reverse` |" in (tree.folder / "docs/configuration.md").read_text(encoding="utf-8")


def test_a_loss_term_costs_two_files(tree: Tree) -> None:
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    term = next(block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "class Uniformity" in block)
    tree.write("e2fashion/losses/uniformity.py", term)
    tree.replace(
        "e2fashion/training/build.py",
        (
            "from e2fashion.losses.filip import",
            "from e2fashion.losses.uniformity import Uniformity\nfrom e2fashion.losses.filip import",
        ),
        ('    "image_tags": ImageTags,\n', '    "image_tags": ImageTags,\n    "uniformity": Uniformity,\n'),
    )
    assert tree.changed() == ["e2fashion/losses/uniformity.py", "e2fashion/training/build.py"]
    code = """
from e2fashion.config import load_config
from e2fashion.training.build import build_loss
from e2fashion.training.config import RunConfig
config = load_config(RunConfig, None, ["data=d", "loss.terms.uniformity={weight: 0.1, options: {sharpness: 3.0}}"])
print(build_loss(config).terms["uniformity"])
"""
    assert "sharpness=3.0" in tree.python(code)


def test_an_entity_a_row_and_a_backbone_cost_one_yaml_file(tree: Tree) -> None:
    tree.write("run.yaml", "model: {checkpoint: some/clip, entities: {material: {column: fabric, tokens: 3}}}\n")
    tree.write("ablation.yaml", "base: run.yaml\nseeds: [0]\nrows: {all: {}, soft: {model.selection: soft}}\n")
    assert tree.changed() == ["ablation.yaml", "run.yaml"]
    code = """
from e2fashion.ablation.plan import load_ablation
(base, row) = load_ablation("ablation.yaml", ["data=d"]).runs
print(row.config.model.checkpoint, row.config.model.entities["material"].tokens, row.config.model.selection)
"""
    assert tree.python(code) == "some/clip 3 soft\n"


def documented(begin: str) -> str:
    """The Python example of docs/extending.md that begins like this."""
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    return next(block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if block.startswith(begin))


def test_a_data_set_costs_three_files(tree: Tree) -> None:
    tree.write("e2fashion/data/sources/lookbook.py", documented("# e2fashion/data/sources/lookbook.py"))
    behind = "from e2fashion.data.sources.synthetic"
    tree.replace(
        "e2fashion/data/sources/__init__.py",
        (behind, f"from e2fashion.data.sources.lookbook import LookbookSource\n{behind}"),
        ("        SyntheticSource,", "        LookbookSource,\n        SyntheticSource,"),
    )
    tree.write("configs/data/lookbook.yaml", "source: lookbook\non_error: skip\n")
    files = ["configs/data/lookbook.yaml", "e2fashion/data/sources/__init__.py", "e2fashion/data/sources/lookbook.py"]
    assert tree.changed() == files

    for number in range(8):
        product = tree.folder.parent / "shop" / str(number)
        product.mkdir(parents=True)
        facts = {
            "title": f"Coat {number}",
            "maker": "Acme",
            "season": None,
            "sold_in": "test" if number > 5 else "train",
        }
        (product / "product.json").write_text(json.dumps(facts), encoding="utf-8")
        Image.new("RGB", (8, 8), (30 * number, 0, 0)).save(product / "0.jpg")
    words = ["data", "prepare", "configs/data/lookbook.yaml", "path=../shop", "output=../catalogue", "val_fraction=0.2"]
    assert "test 2" in tree.run("e2fashion", *words, "--quiet")


def test_a_scorer_of_patches_costs_two_files(tree: Tree) -> None:
    folder = "e2fashion/tasks/localization"
    module = (tree.folder / folder / "attribution.py").read_text(encoding="utf-8")
    tree.write(f"{folder}/attribution.py", f"{module}\n\n{documented('def _norm(')}")
    tree.replace(f"{folder}/config.py", ('"rollout", "occlusion"]', '"rollout", "occlusion", "norm"]'))
    assert tree.changed() == [f"{folder}/attribution.py", f"{folder}/config.py"]

    code = "from e2fashion.config import load_config\n"
    code += "from e2fashion.tasks.localization.attribution import SCORERS\n"
    code += "from e2fashion.tasks.localization.config import ExplainConfig\n"
    code += "from e2fashion.tasks.retrieval.config import EvaluateConfig\n"
    code += "config = load_config(EvaluateConfig, None, ['model=m', 'data=d', 'selection=tokens,norm'])\n"
    code += "explain = load_config(ExplainConfig, None, ['model=m', 'methods=norm'])\n"
    code += "print(config.selection, explain.methods, SCORERS['norm'].heading)"
    assert tree.python(code) == "['tokens', 'norm'] ['norm'] norm of patches, layer {layer}\n"


def test_an_option_costs_two_files(tree: Tree) -> None:
    folder = "e2fashion/tasks/retrieval"
    field = '    resamples: int = 1000\n    """Bootstrap resamples of the confidence intervals."""\n'
    tree.replace(
        f"{folder}/config.py", ("    candidates: str | None = None\n", f"{field}    candidates: str | None = None\n")
    )
    used = "records_of(ranked, context, protocol.name, "
    tree.replace(f"{folder}/measure.py", (used, f"{used}resamples=config.resamples, "))
    assert tree.changed() == [f"{folder}/config.py", f"{folder}/measure.py"]
    assert "Bootstrap resamples" in tree.run("e2fashion", "evaluate", "--help")
    tree.run("scripts.config_reference")
    assert tree.changed()[0] == "docs/configuration.md"  # made from the field


def test_a_table_costs_two_files(tree: Tree) -> None:
    tree.write("experiments/table_patches.py", documented("# experiments/table_patches.py"))
    there = "<!-- components: differences -->"
    tree.replace("scripts/results_page.md", (there, f"{there}\n\n<!-- components: retrieval test product -->"))
    tree.run("scripts.results_page")
    assert tree.changed() == ["docs/results.md", "experiments/table_patches.py", "scripts/results_page.md"]

    command = ("experiments.table_patches", "--smoke", "--scale", "small", "--only", "one,two")
    _, table, *_ = tree.run(*command, "--output", str(tree.folder.parent / "tables")).splitlines()
    assert Path(table).read_text(encoding="utf-8").startswith("# Patches per token: SynthFashion (drawn)")
