"""Tensor files notice every change of tensors and metadata."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from e2fashion.disk import DamagedError
from e2fashion.disk.tensors import CHECKSUM_OF_TENSORS, load_tensors, save_tensors


def test_tensors_are_what_was_written(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(3), "c": torch.ones(2, dtype=torch.bfloat16)}
    save_tensors(tmp_path / "t", tensors, {"of": "me"})
    read, metadata = load_tensors(tmp_path / "t", "Again.")
    assert metadata == {"of": "me"}
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())
    whole = (tmp_path / "t").read_bytes()
    for place in range(8, len(whole), 7):
        (tmp_path / "t").write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            result, about = load_tensors(tmp_path / "t", "Again.")
        except DamagedError:
            continue
        # The key of the checksum is damaged: all else is as it was.
        assert about["of"] == "me"
        assert all(torch.equal(result[name], tensor) for name, tensor in tensors.items())
    for cut in (0, 7, 100, len(whole) - 1):
        (tmp_path / "t").write_bytes(whole[:cut])
        with pytest.raises(DamagedError, match=r"t cannot be read or is damaged .* Again\."):
            load_tensors(tmp_path / "t", "Again.")


def test_a_file_of_an_earlier_version_is_read_and_its_tensors_are_compared(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(3.0)}
    save_tensors(tmp_path / "t", tensors, {})
    with safe_open(tmp_path / "t", framework="pt") as content:
        checksum = content.metadata()["checksum"]  # without metadata it is that of the tensors
    save_file(tensors, tmp_path / "old", {CHECKSUM_OF_TENSORS: checksum, "of": "me"})
    assert load_tensors(tmp_path / "old", "")[1] == {"of": "me"}
    save_file({"a": torch.ones(3)}, tmp_path / "old", {CHECKSUM_OF_TENSORS: checksum})
    with pytest.raises(DamagedError, match="old is damaged"):
        load_tensors(tmp_path / "old", "")
    save_file(tensors, tmp_path / "oldest", {"of": "me"})
    assert load_tensors(tmp_path / "oldest", "")[1] == {"of": "me"}
