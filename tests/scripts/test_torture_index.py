"""An index that is changed and searched by several processes, some of them killed, loses nothing."""

import re
from pathlib import Path

import pytest
from forked import Forked

from scripts.torture.__main__ import main as torture


@pytest.mark.slow
def test_writers_beside_readers_lose_nothing(tmp_path: Path) -> None:
    # A process of its own: its children are forked, and the threads of LanceDB would not survive that.
    done = Forked(torture, ["index", "rounds=1", "seconds=5"], folder=tmp_path).wait()
    assert done.code == 0, done.error
    changes, kills, searches = map(int, re.findall(r"(\d+) (?:acknowledged changes|kills|searches)", done.out))
    assert min(changes, kills, searches) > 0
    assert "0 lost, 0 failed" in done.out
