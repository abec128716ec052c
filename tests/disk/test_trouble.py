"""What libraries raise while a file is read becomes one error that names it; what is not a file is not read."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from e2fashion.disk import DamagedError, check_files, check_tree, read_json, read_lines, reading
from e2fashion.disk.tensors import load_tensors
from e2fashion.run_folder import RunFolder
from e2fashion.types import E2FashionError

ODD: dict[str, Callable[[Path], object]] = {
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "circle": lambda file: file.symlink_to(file),
    "device": lambda file: file.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize(
    "error", [KeyError("x"), OSError(36, "File name too long"), RuntimeError(), ValueError("a\nb")]
)
def test_an_error_of_a_library_names_what_was_read(error: Exception) -> None:
    expected = rf"^a\.bin cannot be read \({type(error).__name__}.*\)\. Fetch it\.$"
    with pytest.raises(DamagedError, match=expected) as caught, reading("a.bin", "Fetch it."):
        raise error
    assert caught.value.__cause__ is error


def test_our_errors_and_interrupts_pass() -> None:
    for error in (E2FashionError("as it is"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, reading("a.bin", "Fetch it."):
            raise error
        assert caught.value is error


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_is_refused_and_never_waited_for(kind: str, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.read_record() == {}
    ODD[kind](run.record)
    with pytest.raises(DamagedError, match="it is not a regular file"):
        read_json(run.record, "Restore it.")
    with pytest.raises(DamagedError, match=r"record\.json cannot be read"):
        run.read_record()


READERS: dict[str, Callable[[Path], object]] = {
    "json": lambda file: read_json(file, "Again."),
    "lines": lambda file: read_lines(file, "Again."),
    "tensors": lambda file: load_tensors(file, "Again."),
    "listed": lambda file: check_files(file.parent, {file.name: {"bytes": 0, "xxh3": ""}}, "Again."),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("reader", READERS)
def test_no_reader_waits_for_what_is_no_file(reader: str, odd: str, tmp_path: Path) -> None:
    ODD[odd](tmp_path / "a.bin")
    with pytest.raises(DamagedError, match=r"a\.bin cannot be read \(it is not a regular file\)\. Again\."):
        READERS[reader](tmp_path / "a.bin")


@pytest.mark.parametrize("odd", sorted(ODD.keys() - {"folder"}))
def test_no_library_waits_for_what_is_no_file_in_a_folder(odd: str, tmp_path: Path) -> None:
    (tmp_path / "data" / "part").mkdir(parents=True)
    (tmp_path / "data" / "part" / "a.bin").touch()
    check_tree(tmp_path, "Again.")
    ODD[odd](tmp_path / "data" / "part" / "b.bin")
    with pytest.raises(DamagedError, match=r"part/b\.bin cannot be read \(it is not a regular file\)\. Again\."):
        check_tree(tmp_path, "Again.")
