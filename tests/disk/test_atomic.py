"""A file and a folder are the old one or the new one, whatever happens while they are written."""

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2fashion.disk import (
    atomic,
    atomic_file,
    atomic_folder,
    list_files,
    open_text,
    recover,
    remove_folder,
    write_json,
    write_text,
)
from e2fashion.types import E2FashionError
from tests.faults import failures, in_child, kills

OLD, NEW = "old", "new"


def write_folder(target: Path, text: str) -> None:
    with atomic_folder(target) as partial:
        (partial / "deep").mkdir()
        for name in ("one", "deep/two"):
            (partial / name).write_text(text, encoding="utf-8")


def content(target: Path) -> str | None:
    """The text that all parts of a file or folder hold; fails where they are mixed or missing."""
    if target.is_file():
        return target.read_text(encoding="utf-8")
    if not target.exists():
        return None
    assert sorted(list_files(target)) == ["deep/two", "one"]
    (text,) = {(target / name).read_text(encoding="utf-8") for name in ("one", "deep/two")}
    return text


WRITERS: dict[str, Callable[[Path, str], None]] = {"file": write_text, "folder": write_folder}


@pytest.fixture(params=["exchange", "two renames"], autouse=True)
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of replacing a folder: that of Linux, and that of disks which cannot exchange."""
    if request.param == "two renames":
        monkeypatch.setattr(atomic, "exchange", lambda one, other: False)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("before", [None, OLD])
def test_a_kill_at_any_operation_leaves_the_old_or_the_new_and_a_repeat_cleans_up(
    kind: str, before: str | None, tmp_path: Path
) -> None:
    write = WRITERS[kind]
    target = tmp_path / "folder" / "out"
    if before is not None:
        write(target, before)
    kept = 0
    for _ in kills(lambda: write(target, NEW)):
        recover(target)
        kept += content(target) == before
        assert content(target) in (before, NEW)
        write(target, OLD)
        assert content(target) == OLD
        assert [f.name for f in target.parent.iterdir()] == ["out"]
        if before is None:
            remove(target)
    assert kept  # some kills came before the exchange
    assert content(target) == NEW


def remove(target: Path) -> None:
    if target.is_file():
        target.unlink()
    for name in reversed(list(list_files(target)) if target.is_dir() else []):
        (target / name).unlink()
    for folder in (target / "deep", target):
        if folder.is_dir():
            folder.rmdir()


def test_a_kill_while_a_folder_is_removed_leaves_the_whole_of_it_or_nothing(tmp_path: Path) -> None:
    target = tmp_path / "folder" / "out"
    states = set()
    write_folder(target, OLD)
    for _ in kills(lambda: remove_folder(target)):
        states.add(content(target))
        write_folder(target, OLD)
        assert [f.name for f in target.parent.iterdir()] == ["out"]
    assert states == {OLD, None}
    remove_folder(target)
    remove_folder(target)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("error", [lambda: OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt])
def test_an_error_at_any_operation_leaves_the_old_or_the_new(
    kind: str, error: Callable[[], BaseException], tmp_path: Path
) -> None:
    target = tmp_path / "out"
    write = WRITERS[kind]
    write(target, OLD)
    seen = []
    for _, raised in failures(lambda: write(target, NEW), error):
        seen.append(raised)
        recover(target)
        assert content(target) in (OLD, NEW)
        write(target, OLD)
        assert [f.name for f in tmp_path.iterdir()] == ["out"]
    assert content(target) == NEW
    if error is not KeyboardInterrupt:
        assert all(isinstance(one, E2FashionError) for one in seen)
        assert all(f"'{target}' cannot be written: the disk is full" in str(one) for one in seen)


@pytest.mark.parametrize("kind", WRITERS)
def test_what_is_being_written_is_no_leftover(kind: str, tmp_path: Path) -> None:
    target = tmp_path / "out"
    if kind == "file":
        with atomic_file(target) as partial:
            partial.write_text(OLD, encoding="utf-8")
            assert in_child(lambda: write_text(target, NEW)) == 0
        assert content(target) == OLD
    else:
        with atomic_folder(target) as partial:
            assert in_child(lambda: write_folder(target, NEW)) != 0  # locked
            for name in ("one", "deep/two"):
                (partial / name).parent.mkdir(exist_ok=True)
                (partial / name).write_text(OLD, encoding="utf-8")
        assert content(target) == OLD


@pytest.mark.parametrize("kind", WRITERS)
def test_a_link_stays_and_what_it_leads_to_is_written(kind: str, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "disk" / "out")
    for text in (OLD, NEW):  # into nothing, then over something
        WRITERS[kind](link, text)
        assert link.is_symlink()
        assert content(tmp_path / "disk" / "out") == text
    assert sorted(f.name for f in (tmp_path / "disk").iterdir()) == ["out"]


def test_a_refused_replacement_leaves_everything(tmp_path: Path) -> None:
    target = tmp_path / "out"
    write_folder(target, OLD)

    def refuse(folder: Path) -> None:
        raise E2FashionError(f"{folder} stays")

    with pytest.raises(E2FashionError, match="out stays"), atomic_folder(target, refuse):
        pytest.fail("the work must not begin")
    assert content(target) == OLD
    calls: Iterator[None] = iter([None])

    def refuse_later(folder: Path) -> None:
        if next(calls, "second") is not None:
            raise E2FashionError(f"{folder} stays")

    with pytest.raises(E2FashionError, match="out stays"), atomic_folder(target, refuse_later) as partial:
        (partial / "one").touch()
    assert content(target) == OLD
    assert [f.name for f in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("kind", WRITERS)
def test_what_the_disk_refuses_is_one_line(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    with pytest.raises(E2FashionError, match=r"a file/out' cannot be written: a part of this path is a file"):
        WRITERS[kind](tmp_path / "a file" / "out", NEW)
    wrong = tmp_path / "wrong"
    if kind == "file":
        wrong.mkdir()
    else:
        wrong.touch()
    with pytest.raises(E2FashionError, match=r"wrong' is a (file, not a folder|folder, not a file): choose another"):
        WRITERS[kind](wrong, NEW)


def test_an_input_that_is_missing_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"input\.csv"), atomic_folder(tmp_path / "out"):
        (tmp_path / "input.csv").read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == []


def test_a_removed_folder_is_one_line(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(E2FashionError, match=r"out' cannot be written: .*removed"), atomic_folder(target) as partial:
        partial.rmdir()


def test_writers_of_text_write_what_they_are_given(tmp_path: Path) -> None:
    with open_text(tmp_path / "a.csv") as stream:
        stream.write("a,b\r\n")
    assert (tmp_path / "a.csv").read_bytes() == b"a,b\r\n"
    write_json(tmp_path / "a.json", {"b": "é"}, sort_keys=True)
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n "b": "é"\n}\n'
    (tmp_path / "a.json").chmod(0o600)
    write_text(tmp_path / "a.json", "x")
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o600
    with atomic_file(Path("/dev/null")) as partial:
        assert partial == Path("/dev/null")
