"""Outputs of exports and conversions survive kills, replace no files of others, and are written again if damaged."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from e2fashion.disk import read_json
from e2fashion.disk.outputs import write_output
from e2fashion.types import E2FashionError
from tests.faults import kills


@pytest.fixture
def export(tmp_path: Path) -> Any:
    """Writes an output that holds nothing but a fingerprint; returns the fingerprint that the folder holds then."""

    def run(fingerprint: str, overwrite: bool = False) -> str:
        def write(folder: Path) -> dict[str, Any]:
            for name in ("model.safetensors", "1_Normalize/config.json", "README.md"):
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_text(fingerprint, encoding="utf-8")
            return {"fingerprint": fingerprint, "image_size": 8}

        wanted = {"fingerprint": fingerprint}
        write_output(tmp_path / "out", "export.json", wanted, write, "{fingerprint}", overwrite)
        return held(tmp_path / "out")

    return run


def held(folder: Path) -> str:
    """The fingerprint in every file of an export, which must be one."""
    (result,) = {(folder / name).read_text() for name in ("model.safetensors", "1_Normalize/config.json")}
    assert read_json(folder / "export.json", "")["fingerprint"] == result
    return result


def test_a_killed_export_can_be_repeated_and_loses_nothing(export: Any, tmp_path: Path) -> None:
    for _ in kills(lambda: export("new", overwrite=True), every=3):
        assert not (tmp_path / "out").exists() or held(tmp_path / "out") == "new"
        assert export("new") == "new"
        assert [item.name for item in tmp_path.iterdir()] == ["out"]
        shutil.rmtree(tmp_path / "out")
    assert export("old", overwrite=True) == "old"
    for _ in kills(lambda: export("new", overwrite=True), every=3):
        assert held(tmp_path / "out") in ("old", "new")
        assert export("old", overwrite=True) == "old"
        assert [item.name for item in tmp_path.iterdir()] == ["out"]


def test_an_export_replaces_its_own_files_alone(export: Any, tmp_path: Path) -> None:
    export("old")
    letter = tmp_path / "out" / "1_Normalize" / "letter.txt"
    letter.write_text("hello")
    with pytest.raises(E2FashionError, match=r"also holds '1_Normalize/letter.txt', which e2fashion did not write"):
        export("new", overwrite=True)
    assert letter.read_text() == "hello"
    assert held(tmp_path / "out") == "old"
    letter.unlink()
    facts = json.loads((tmp_path / "out" / "export.json").read_text())
    del facts["files"], facts["checksum"]  # as an earlier version wrote it
    (tmp_path / "out" / "export.json").write_text(json.dumps(facts))
    assert export("new", overwrite=True) == "new"


def test_a_damaged_export_is_written_again(export: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    export("old")
    (tmp_path / "out" / "README.md").write_text("an edited card")  # no damage
    export("old")
    assert not caplog.records
    (tmp_path / "out" / "model.safetensors").write_text("ol")
    assert export("old") == "old"
    assert "model.safetensors is damaged: it has 2 bytes, 3 were written. It is written again." in caplog.text


def test_an_export_through_a_link(export: Any, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    assert export("old") == "old"
    assert export("new", overwrite=True) == "new"
    assert (tmp_path / "out").is_symlink()
    assert held(tmp_path / "disk") == "new"
