"""A damaged checkpoint or best model lets its stage begin again, whatever moment a kill comes at."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from e2fashion.disk import CHECKSUMS_FILE, write_checksums
from e2fashion.training.callbacks import BEST_MODEL
from e2fashion.training.fit import NEEDED, last_checkpoint, set_aside_damaged
from tests.faults import kills

STAGE = "main"


def interrupted(folder: Path) -> tuple[Path, Path]:
    """The checkpoint and the best model of a stage that was interrupted behind its first epoch."""
    checkpoint, best = last_checkpoint(folder, STAGE), folder / "checkpoints" / STAGE / "best"
    best.mkdir(parents=True)
    (best / "model.safetensors").write_bytes(bytes(1000))
    (best / "config.json").write_text("{}")
    write_checksums(best)
    content = {key: {} for key in NEEDED} | {"callbacks": {BEST_MODEL: {"best_epoch": 0}}}
    torch.save(content | {"state_dict": {"weight": torch.arange(4096.0)}}, checkpoint)
    return checkpoint, best


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "a bit of the weights": (
        lambda best: flip(best / "model.safetensors"),
        "best",
        "content is not what was written",
    ),
    "a file removed": (lambda best: (best / "config.json").unlink(), "best", "config.json is missing"),
    "the checksums": (lambda best: flip(best / CHECKSUMS_FILE), "best", f"{CHECKSUMS_FILE} is damaged"),
    "all removed": (shutil.rmtree, "best", "it is missing"),
    "the checkpoint": (lambda best: flip(best.with_name("last.ckpt")), "last.ckpt", "checksum"),
}


def test_what_is_whole_stays(tmp_path: Path) -> None:
    checkpoint, best = interrupted(tmp_path)
    assert set_aside_damaged(tmp_path, STAGE, best) is None
    assert checkpoint.is_file()
    assert set_aside_damaged(tmp_path, "another", tmp_path / "checkpoints/another/best") is None
    (best / CHECKSUMS_FILE).unlink()  # as an earlier version left it
    assert set_aside_damaged(tmp_path, STAGE, best) is None
    assert best.is_dir()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_stage_begins_again_where_something_is_damaged(damage: str, tmp_path: Path) -> None:
    act, name, why = DAMAGES[damage]
    checkpoint, best = interrupted(tmp_path)
    act(best)
    result = set_aside_damaged(tmp_path, STAGE, best)
    assert result is not None
    assert result[0].name == name
    assert why in result[1]
    assert [file.name for file in checkpoint.parent.iterdir()] == ["last.ckpt.damaged"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_seen_again_after_a_kill_while_it_is_set_aside(damage: str, tmp_path: Path) -> None:
    act, killed = DAMAGES[damage][0], 0
    checkpoint, best = interrupted(tmp_path)
    act(best)
    for _ in kills(lambda: set_aside_damaged(tmp_path, STAGE, best)):
        killed += 1
        left = checkpoint.is_file()
        assert (set_aside_damaged(tmp_path, STAGE, best) is not None) == left
        assert [file.name for file in checkpoint.parent.iterdir()] == ["last.ckpt.damaged"]
        shutil.rmtree(checkpoint.parent)
        interrupted(tmp_path)
        act(best)
    assert killed
