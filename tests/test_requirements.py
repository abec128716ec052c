"""Installing and loading cannot run unwanted code."""

import ast
import configparser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
#: Classes of a fixed type, which import no code from a model's folder; ours passes the option on.
FIXED = {"CLIPImageProcessorPil", "E2Model", "SiglipImageProcessorPil"}


@pytest.mark.parametrize(("version", "allowed"), [("2.6.1", True), ("2.6.2", False), ("2.6.3", False), ("2.6.6", True)])
def test_the_compromised_releases_of_lightning_are_excluded(version: str, allowed: bool) -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    wanted = [Requirement(line) for line in settings["options"]["install_requires"].split("\n") if line]
    (lightning,) = [item for item in wanted if item.name == "pytorch-lightning"]
    assert lightning.specifier.contains(version) == allowed
    assert not [item for item in wanted if item.name == "lightning"]


def calls_of_from_pretrained(file: Path) -> list[ast.Call]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [node for node in calls if isinstance(node.func, ast.Attribute) and node.func.attr == "from_pretrained"]


def test_transformers_runs_no_code_of_a_models_folder() -> None:
    result = 0
    for file in sorted((ROOT / "e2fashion").rglob("*.py")):
        for call in calls_of_from_pretrained(file):
            assert isinstance(call.func, ast.Attribute)
            if isinstance(call.func.value, ast.Name) and call.func.value.id in FIXED:
                continue
            given = {word.arg: word.value for word in call.keywords}
            value = given.get("trust_remote_code")
            printed = f"{file.relative_to(ROOT)}, line {call.lineno}"
            assert isinstance(value, ast.Constant), f"{printed}: trust_remote_code=False is missing"
            assert value.value is False, printed
            result += 1
    assert result >= 3
