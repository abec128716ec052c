"""A process ends with SIGTERM as with Ctrl-C, and with its parent where it was started so."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from e2fashion import lifetime
from e2fashion.lifetime import Terminated, signal_of, terminable


def test_sigterm_is_an_interrupt_inside_the_block_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt) as stopped, terminable():
        signal.raise_signal(signal.SIGTERM)
    assert isinstance(stopped.value, Terminated)
    assert signal_of(stopped.value) == signal.SIGTERM
    assert signal_of(KeyboardInterrupt()) == signal.SIGINT
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_forked_helper_ends_by_the_signal_itself() -> None:
    with terminable():
        child = os.fork()
        if child == 0:
            signal.raise_signal(signal.SIGTERM)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


#: Loads the module alone, without the package and so without PyTorch.
CHILD = f"""
import importlib.util, sys, time, pathlib
spec = importlib.util.spec_from_file_location("lifetime", {lifetime.__file__!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
{{before}}
module.end_with_parent()
pathlib.Path(sys.argv[1]).write_text("started")
time.sleep(60)
"""


@pytest.mark.parametrize("way", ["by the system", "by watching"])
def test_a_child_ends_when_its_parent_is_killed(way: str, tmp_path: Path) -> None:
    started = tmp_path / "started"
    code = CHILD.format(before="sys.platform = 'other'" if way == "by watching" else "")
    parent = os.fork()
    if parent == 0:
        environment = {**os.environ, lifetime.PARENT: str(os.getpid())}
        child = subprocess.Popen([sys.executable, "-c", code, str(started)], env=environment)
        (tmp_path / "number").write_text(str(child.pid))
        time.sleep(60)
        os._exit(0)
    until = time.monotonic() + 30
    while not started.exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert started.exists()
    child = int((tmp_path / "number").read_text())
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    while runs(child) and time.monotonic() < until:
        time.sleep(0.02)
    assert not runs(child)


def runs(process: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return False


def test_a_child_whose_parent_is_gone_already_does_not_begin(tmp_path: Path) -> None:
    environment = {**os.environ, lifetime.PARENT: "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(before=""), str(tmp_path / "started")], env=environment, check=False
    )
    assert done.returncode == 143
    assert not (tmp_path / "started").exists()


def test_a_command_ends_without_a_search_for_garbage() -> None:
    code = """
import atexit, gc
atexit.register(lambda: print("spared", gc.get_freeze_count()))
from e2fashion.__main__ import main
main(["--help"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    name, number = done.stdout.splitlines()[-1].split()
    assert name == "spared"
    assert int(number) > 10_000
