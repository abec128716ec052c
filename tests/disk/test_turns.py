"""Turns at an address admit one process at a time, and those of killed processes end; a folder stands for the store."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from pyarrow import fs

from e2fashion.disk import FolderLockedError, turns
from e2fashion.disk.stores import Store
from e2fashion.disk.turns import turn_in
from e2fashion.types import E2FashionError


class FolderStore(Store):
    """A store whose bucket ``bucket`` is in a folder."""

    def keep_in(self, folder: Path) -> "FolderStore":
        (folder / "bucket" / "index").mkdir(parents=True)
        vars(self)["_files"] = fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem())
        vars(self)["folder"] = folder
        return self

    def write(self, name: str, text: str) -> None:
        """As a store does, which shows no part of a file."""
        folder: Path = vars(self)["folder"]
        partial = folder / f"{name}-{threading.get_ident()}"
        partial.write_text(text)
        partial.replace(folder / "bucket" / "index" / name)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
    monkeypatch.setattr(turns, "LOOK_AGAIN", (0.01, 0.05))
    return FolderStore("s3://bucket/index").keep_in(tmp_path)


def leave(store: Store, kind: str, **told: object) -> None:
    """The file of another process."""
    store.write(f".{kind}-other", json.dumps({"host": "elsewhere", "command": "index sync", "machine": ""} | told))


def test_one_thread_at_a_time_has_its_turn(store: FolderStore) -> None:
    inside, most = 0, []

    def work() -> None:
        nonlocal inside
        for _ in range(5):
            with turn_in(store, "change"):
                inside += 1
                most.append(inside)
                time.sleep(0.01)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 20
    assert store.entries() == {}


def test_turns_of_another_kind_do_not_wait(store: FolderStore) -> None:
    leave(store, "build", pid=1)
    with turn_in(store, "change") as check:
        check()
        assert len(store.entries()) == 2


def test_a_process_that_was_killed_on_this_machine_is_not_waited_for(store: FolderStore) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    leave(store, "change", pid=ended.pid, machine=turns.this_machine())
    with turn_in(store, "change"):
        assert ".change-other" not in store.entries()


def test_a_process_elsewhere_counts_as_killed_when_it_shows_no_life(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "DEAD", 0.5)
    leave(store, "change", pid=os.getpid())
    begun = time.monotonic()
    with turn_in(store, "change"):
        assert time.monotonic() - begun > 0.5
        assert ".change-other" not in store.entries()


def test_a_living_process_is_named_where_nobody_waits(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "BEAT", 0.02)
    entered, done = threading.Event(), threading.Event()

    def work() -> None:
        with turn_in(store, "build"):
            entered.set()
            done.wait()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert entered.wait(60)
        message = rf"'s3://bucket/index' is being written by process {os.getpid()} .*: wait until it ends"
        with pytest.raises(FolderLockedError, match=message), turn_in(store, "build", wait=False):
            pass
    finally:
        done.set()
        thread.join()


def test_a_process_that_counted_as_killed_does_not_go_on(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "BEAT", 0.02)
    with turn_in(store, "change") as check:
        (mine,) = store.entries()
        store.remove(mine)  # as another process does
        time.sleep(0.2)
        assert store.entries() == {}, "it is not written again"
        with pytest.raises(E2FashionError, match="did not reach 's3://bucket/index' for more than 60 s"):
            check()
