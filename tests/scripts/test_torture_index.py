"""An index that is changed and searched by several processes, some of them killed, loses nothing."""

import re
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_writers_beside_readers_lose_nothing() -> None:
    # A process of its own: its children are forked, and the threads of LanceDB would not survive that.
    words = [sys.executable, "-m", "scripts.torture", "index", "rounds=1", "seconds=5"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    changes, kills, searches = map(int, re.findall(r"(\d+) (?:acknowledged changes|kills|searches)", done.stdout))
    assert min(changes, kills, searches) > 0
    assert "0 lost, 0 failed" in done.stdout
