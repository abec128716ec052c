"""Outputs of verbs survive kills, never replace files of others, and are checked; run folders are locked."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.disk import DamagedError, FolderLockedError, read_json
from e2fashion.disk.outputs import write_output
from e2fashion.disk.tensors import load_tensors, save_tensors
from e2fashion.run_folder import RunFolder
from e2fashion.tasks.captioning.config import CaptionTrainConfig
from e2fashion.tasks.captioning.train import check_caption_config
from e2fashion.tasks.retrieval.rankings import load_rankings, save_rankings
from e2fashion.training.checks import check_run
from e2fashion.training.config import RunConfig
from e2fashion.types import E2FashionError
from tests.faults import in_child, kills


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
        write_output(tmp_path / "out", "export.json", wanted, write, lambda facts: facts["fingerprint"], overwrite)
        return held(tmp_path / "out")

    return run


def held(folder: Path) -> str:
    """The fingerprint in every file of an export, which must be one."""
    (found,) = {(folder / name).read_text() for name in ("model.safetensors", "1_Normalize/config.json")}
    assert read_json(folder / "export.json", "")["fingerprint"] == found
    return found


def test_a_killed_export_can_be_repeated_and_loses_nothing(export: Any, tmp_path: Path) -> None:
    for _ in kills(lambda: export("new", overwrite=True), every=2):
        assert not (tmp_path / "out").exists() or held(tmp_path / "out") == "new"
        assert export("new") == "new"
        assert [item.name for item in tmp_path.iterdir()] == ["out"]
        shutil.rmtree(tmp_path / "out")
    assert export("old", overwrite=True) == "old"
    for _ in kills(lambda: export("new", overwrite=True), every=2):
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


def test_a_run_has_one_writer(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.locked():

        def second() -> None:
            with pytest.raises(FolderLockedError, match=r"run' is being written by process \d+"), folder.locked():
                pass

        assert in_child(second) == 0


@pytest.mark.parametrize("damage", ["", "{", "[]", "[" * 100_000, '{"stages": 3}', '{"stages": {"main": true}}'])
def test_a_damaged_record_is_one_error(damage: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.update_record(stages={"main": {"best": 170.0}})
    assert folder.read_record() == {"stages": {"main": {"best": 170.0}}}
    text = folder.record.read_text()
    folder.record.write_text(text.replace("170.0", "171.0"))
    with pytest.raises(DamagedError, match=r"record\.json is damaged or was edited.*Restore the file"):
        folder.read_record()
    folder.record.write_text(damage)
    with pytest.raises(DamagedError, match=r"record\.json is damaged.*Restore the file"):
        folder.read_record()


def test_tensors_are_what_was_written(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(3), "c": torch.ones(2, dtype=torch.bfloat16)}
    save_tensors(tmp_path / "t", tensors, {"of": "me"})
    read, metadata = load_tensors(tmp_path / "t", "Again.")
    assert metadata["of"] == "me"
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())
    whole = (tmp_path / "t").read_bytes()
    for place in range(8, len(whole), 7):
        (tmp_path / "t").write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            _, found = load_tensors(tmp_path / "t", "Again.")
        except DamagedError:
            continue
        assert found != metadata  # metadata are not summed, their readers compare them
    for cut in (0, 7, 100, len(whole) - 1):
        (tmp_path / "t").write_bytes(whole[:cut])
        with pytest.raises(DamagedError, match=r"t cannot be read or is damaged .* Again\."):
            load_tensors(tmp_path / "t", "Again.")


def test_damaged_or_missing_rankings_are_one_error(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match=r"none cannot be read .*evaluate again"):
        load_rankings(tmp_path / "none")
    save_rankings(tmp_path / "empty", [], ["p"])
    assert load_rankings(tmp_path / "empty") == ([], ["p"])
    save_tensors(tmp_path / "other", {"a/b/ranks": torch.ones(1)}, {"product_ids": "[]"})
    with pytest.raises(DamagedError, match="other is damaged"):
        load_rankings(tmp_path / "other")


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", "", "a\nb"])
def test_a_name_does_not_lead_out_of_runs(name: str, synth_catalogue: Catalogue) -> None:
    with pytest.raises(E2FashionError, match=r"^name is "):
        check_run(RunConfig(data="c", name=name), synth_catalogue)
    with pytest.raises(E2FashionError, match=r"^name is "):
        check_caption_config(CaptionTrainConfig(data="c", encoder="e", name=name))


def test_the_configuration_of_a_run_is_whole_at_any_moment(tmp_path: Path) -> None:
    from e2fashion.config import save_config

    file = tmp_path / "config.yaml"
    save_config(RunConfig(data="old"), file)
    for _ in kills(lambda: save_config(RunConfig(data="new"), file)):
        assert load_config(RunConfig, file).data in ("old", "new")
        save_config(RunConfig(data="old"), file)
    assert [item.name for item in tmp_path.iterdir()] == ["config.yaml"]
