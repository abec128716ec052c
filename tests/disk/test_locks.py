"""One writer per folder; a lock ends with its process."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from e2fashion.disk import FolderLockedError, lock_holder, locked
from e2fashion.disk.locks import lock_file
from tests.faults import in_child


def refused(folder: Path) -> bool:
    """Whether another process cannot lock the folder now."""

    def lock() -> None:
        with locked(folder):
            pass

    return in_child(lock) != 0


def test_a_second_process_is_refused_and_told_who_writes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    with locked(folder):
        assert refused(folder)
        assert f"run' is being written by process {os.getpid()}" in capfd.readouterr().err
        assert not refused(tmp_path / "other")
        assert lock_holder(folder) is None  # this process itself
        holder = tmp_path / "holder"
        in_child(lambda: holder.write_text(str(lock_holder(folder))))
        assert f"process {os.getpid()}" in holder.read_text()
    assert not refused(folder)
    assert [f.name for f in tmp_path.iterdir()] == ["holder"]


def test_calls_inside_each_other_are_one_lock(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    link = tmp_path / "link"
    link.symlink_to(folder)
    with locked(folder):
        with locked(link):
            assert refused(folder)
        assert refused(folder)
    assert not refused(folder)


def test_another_thread_is_refused(tmp_path: Path) -> None:
    result: list[str] = []

    def lock() -> None:
        try:
            with locked(tmp_path / "run"):
                result.append("locked")
        except FolderLockedError as error:
            result.append(str(error))

    with locked(tmp_path / "run"):
        thread = threading.Thread(target=lock)
        thread.start()
        thread.join()
    assert "another thread" in result[0]


def test_a_kill_ends_the_lock_although_a_child_goes_on(tmp_path: Path) -> None:
    folder, ready = tmp_path / "run", tmp_path / "ready"
    child = os.fork()
    if child == 0:
        with locked(folder):
            if os.fork() == 0:  # a loader's process, which lives a little longer
                ready.touch()
                time.sleep(2)
                os._exit(0)
            time.sleep(60)
        os._exit(0)
    while not ready.exists():
        time.sleep(0.01)
    assert refused(folder)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert lock_file(folder).exists()
    assert not refused(folder)
    assert not lock_file(folder).exists()


def test_shared_locks_keep_out_only_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"

    def lock_shared() -> None:
        with locked(folder, shared=True):
            pass

    with locked(folder, shared=True):
        assert in_child(lock_shared) == 0
        assert refused(folder)
        assert lock_file(folder).exists()
    assert not refused(folder)
    assert list(tmp_path.iterdir()) == []


def test_of_many_processes_one_at_a_time_is_let_in(tmp_path: Path) -> None:
    folder, log = tmp_path / "run", tmp_path / "log"

    def contend() -> None:
        entered = 0
        until = time.monotonic() + 30
        while entered < 20 and time.monotonic() < until:
            try:
                with locked(folder), log.open("a", encoding="utf-8") as stream:
                    stream.write("in\n")
                    stream.flush()
                    stream.write("out\n")
                entered += 1
            except FolderLockedError:
                time.sleep(0.001)
        os._exit(0 if entered == 20 else 1)

    children = []
    for _ in range(4):
        if (child := os.fork()) == 0:
            contend()
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    assert log.read_text(encoding="utf-8") == "in\nout\n" * 80
