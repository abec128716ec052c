"""State dicts from disk: tensors alone, code never."""

from __future__ import annotations

import argparse
import pickle
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from e2fashion.checkpoints.files import read_state_file, write_state_file
from e2fashion.types import E2FashionError

WEIGHTS = {"one": torch.ones(2), "two": torch.zeros(3)}


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor] = WEIGHTS) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], value) for key, value in expected.items())


def test_both_kinds_of_file_are_read(tmp_path: Path) -> None:
    write_state_file(WEIGHTS, tmp_path / "state.safetensors", layout="openai")
    torch.save(WEIGHTS, tmp_path / "state.pt")
    torch.save(WEIGHTS, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    for name in ("state.safetensors", "state.pt", "old.bin"):
        read = read_state_file(tmp_path / name)
        assert same(read.tensors)
        assert read.notes == []


def test_a_training_checkpoint_is_opened_and_the_rest_named(tmp_path: Path) -> None:
    halves = {f"module.{key}": value.half() for key, value in WEIGHTS.items()}
    torch.save({"epoch": 3, "name": "ViT-B-32-quickgelu", "state_dict": halves}, tmp_path / "epoch_3.pt")
    read = read_state_file(tmp_path / "epoch_3.pt")
    assert {key: value.dtype for key, value in read.tensors.items()} == {"one": torch.half, "two": torch.half}
    assert read.texts == {"name": "ViT-B-32-quickgelu"}
    printed = "; ".join(read.notes)
    assert "was under 'state_dict'; not read: epoch, name" in printed
    assert "'module.' of data-parallel training cut off" in printed
    assert "weights in float16, written as float32" in printed


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('this ran')",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": WEIGHTS, "args": argparse.Namespace(lr=1.0)}, "holds more than tensors.*Namespace"),
        ({"weights": Evil()}, "would run any code in it"),
        ([WEIGHTS], "holds a list, no state dict"),
        ({"state_dict": WEIGHTS, "model": WEIGHTS}, "holds several state dicts, state_dict, model"),
        ({"one": torch.ones(1), "lr": 0.1}, "1 entries are not tensors: lr"),
        ({}, "it is empty"),
    ],
)
def test_whatever_else_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "file.pt")
    with pytest.raises(E2FashionError, match=message):
        read_state_file(tmp_path / "file.pt")


def test_no_file_and_broken_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(E2FashionError, match=r"nowhere.pt' is not a file"):
        read_state_file(tmp_path / "nowhere.pt")
    unreadable = {"broken.pt": "is not a file of torch.save", "broken.safetensors": "cannot be read as safetensors"}
    for name, message in unreadable.items():
        (tmp_path / name).write_bytes(b"broken" * 9)
        with pytest.raises(E2FashionError, match=message):
            read_state_file(tmp_path / name)
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(E2FashionError, match="holds more than tensors"):
        read_state_file(tmp_path / "plain.pkl")


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_torchscript_is_refused_and_its_remedy_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = nn.Linear(2, 3)
    torch.jit.script(module).save(str(tmp_path / "ViT-B-32.pt"))
    with pytest.raises(E2FashionError, match=r"is a TorchScript archive .as OpenAI publishes its CLIPs") as refused:
        read_state_file(tmp_path / "ViT-B-32.pt")
    result = re.search(r"python -c .*", str(refused.value))
    assert result is not None
    monkeypatch.chdir(tmp_path)
    exec(shlex.split(result[0])[2])
    assert same(read_state_file(tmp_path / "ViT-B-32.safetensors").tensors, module.state_dict())


def test_an_empty_safetensors_file_is_no_state_dict(tmp_path: Path) -> None:
    save_file({}, tmp_path / "empty.safetensors")
    with pytest.raises(E2FashionError, match="is not a state dict: it is empty"):
        read_state_file(tmp_path / "empty.safetensors")
