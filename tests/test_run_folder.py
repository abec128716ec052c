"""A run's folder: whose it is, and a record that a killed process leaves whole."""

import json
import logging
from pathlib import Path

import pytest
import torch

from e2fashion import run_folder
from e2fashion.data.catalogue import Catalogue
from e2fashion.disk import DamagedError, FolderLockedError
from e2fashion.run_folder import RunFolder, environment, git_commit
from e2fashion.tasks.captioning.config import CaptionTrainConfig
from e2fashion.tasks.captioning.train import check_caption_config
from e2fashion.training.checks import check_run
from e2fashion.training.config import RunConfig
from e2fashion.types import E2FashionError
from tests.faults import in_child

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "run")
    made.open("aaa", "data", CPU)
    return made


def test_opening_records_what_the_run_is_made_of(folder: RunFolder) -> None:
    record = folder.read_record()
    assert (record["identity"], record["data_fingerprint"]) == ("aaa", "data")
    assert record["versions"]["torch"] == torch.__version__
    assert record["device"].endswith("CPU")


def test_the_same_run_may_open_it_again_and_keeps_its_record(folder: RunFolder) -> None:
    folder.update_record(stages={"main": {"done": True}})
    folder.open("aaa", "data", CPU)
    assert folder.read_record()["stages"] == {"main": {"done": True}}


def test_another_run_is_refused_with_both_identities_and_the_difference(folder: RunFolder) -> None:
    folder.model.mkdir()
    with pytest.raises(E2FashionError, match=r"identity aaa, this one is bbb\): seed is 0 there and 1 here"):
        folder.open("bbb", "data", CPU, "seed is 0 there and 1 here")


def test_a_run_on_other_data_is_refused(folder: RunFolder) -> None:
    folder.model.mkdir()
    with pytest.raises(E2FashionError, match="the catalogue differs"):
        folder.open("bbb", "other data", CPU)


def test_a_run_that_left_nothing_makes_room(folder: RunFolder) -> None:
    folder.update_record(stages={})
    folder.open("bbb", "data", CPU)
    record = folder.read_record()
    assert record["identity"] == "bbb"
    assert "stages" not in record


def test_another_commit_is_warned_of_and_a_dirty_tree_is_not(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder.update_record(commit="abc")
    monkeypatch.setattr(run_folder, "git_commit", lambda: "abc-dirty")
    folder.open("aaa", "data", CPU)
    assert not caplog.records
    monkeypatch.setattr(run_folder, "git_commit", lambda: "def")
    folder.open("aaa", "data", CPU)
    assert "began with commit abc, the code is now def" in caplog.text
    assert folder.read_record()["commit"] == "abc"


def test_a_killed_write_leaves_the_record_whole(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    before = folder.record.read_bytes()

    def die(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        folder.update_record(seed=1)
    assert folder.record.read_bytes() == before


def test_the_record_is_json_that_a_person_can_read(folder: RunFolder) -> None:
    text = folder.record.read_text(encoding="utf-8")
    content = json.loads(text)
    assert content.pop("checksum")
    assert content == folder.read_record()
    assert text.count("\n") > 5


def test_the_log_holds_lines_of_this_package(folder: RunFolder) -> None:
    with folder.log_to_file():
        logging.getLogger("e2fashion.somewhere").info("a line")
        logging.getLogger("another").warning("no line")
    assert folder.log.read_text(encoding="utf-8").strip().endswith("INFO a line")


def test_code_outside_a_checkout_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "__file__", str(tmp_path / "run_folder.py"))
    assert git_commit() == ""


def test_a_package_that_is_not_there_is_recorded_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "RECORDED_PACKAGES", ("no-such-package",))
    assert environment(CPU)["versions"]["no-such-package"] == "not installed"


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


def finished(path: Path) -> RunFolder:
    folder = RunFolder(path)
    for name in ("model/config.json", "model/README.md", "checkpoints/main/best/config.json", "logs/csv/main/m.csv"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(name)
    folder.check_finished()
    folder.list_finished()
    assert len(folder.read_record()["files"]) == 3
    folder.check_finished()
    return folder


def test_a_finished_run_notices_a_damaged_model(tmp_path: Path) -> None:
    folder = finished(tmp_path)
    (folder.model / "README.md").write_text("edited")
    folder.check_finished()
    (folder.model / "config.json").write_text("odel/config.json")
    folder.list_finished()  # what is listed stays
    with pytest.raises(DamagedError, match=r"model/config\.json is damaged: .* Restore the file, or remove the run's"):
        folder.check_finished()


@pytest.mark.parametrize("name", ["logs/csv/main/m.csv", "checkpoints/main/best/config.json"])
def test_damage_in_what_no_result_depends_on_is_a_warning(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = finished(tmp_path)
    (tmp_path / name).unlink()
    folder.check_finished()
    assert f"{name} is missing or cannot be read (No such file or directory). No result depends on it." in caplog.text


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", "", "a\nb"])
def test_a_name_does_not_lead_out_of_runs(name: str, synth_catalogue: Catalogue) -> None:
    with pytest.raises(E2FashionError, match=r"^name is "):
        check_run(RunConfig(data="c", name=name), synth_catalogue)
    with pytest.raises(E2FashionError, match=r"^name is "):
        check_caption_config(CaptionTrainConfig(data="c", encoder="e", name=name))
