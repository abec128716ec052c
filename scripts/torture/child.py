"""One trial in a forked child: bounded in time, its output kept, its descendants accounted for."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

#: ``prctl`` option that hands the orphans of a killed child to this process (Linux).
_CHILD_SUBREAPER = 36
#: Exit code of a child whose action raised: no verb returns it.
RAISED = 99


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    ``code`` is its exit code (None where ``signal`` ended it), ``printed`` what it wrote to both streams, ``late``
    whether it was ended because its time was up, ``orphans`` how many of its children outlived it by
    ``ORPHAN_SECONDS``.
    """

    code: int | None
    signal: int | None
    printed: str
    seconds: float
    late: bool = False
    orphans: int = 0

    @property
    def last_line(self) -> str:
        """The last line that it printed."""
        lines = self.printed.strip().splitlines()
        return lines[-1] if lines else ""


#: Children of this module that run at present.
_RUNNING: set[int] = set()
#: Seconds that children of a killed process have to notice and end.
ORPHAN_SECONDS = 5.0


class Child:
    """A running child. The parent must have started no threads of its own."""

    def __init__(self, action: Callable[[], int | None], folder: Path) -> None:
        _adopt_orphans()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        self._started = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _run(action, folder, self._output.fileno())
        _RUNNING.add(self.pid)
        self._others = _children() - _RUNNING

    def kill(self) -> None:
        """SIGKILL, unless it has ended already."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def until_stopped(self) -> bool:
        """Wait until it stops itself; False where it ended before."""
        while True:
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state in "TZ":
                return state == "T"
            time.sleep(0.005)

    def ends_within(self, seconds: float) -> bool:
        """Whether it ends in this time."""
        pidfd = os.pidfd_open(self.pid)
        try:
            return bool(select.select([pidfd], [], [], seconds)[0])
        finally:
            os.close(pidfd)

    def resume(self) -> None:
        """Let a stopped child go on."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)

    def wait(self, limit: float = 120.0, kill_after: float | None = None) -> Ended:
        """Wait for its end; it is killed ``kill_after`` seconds from its start, and counts as late at ``limit``."""
        pidfd = os.pidfd_open(self.pid)
        try:
            late = False
            stop = min(limit, kill_after) if kill_after is not None else limit
            if not select.select([pidfd], [], [], max(self._started + stop - time.monotonic(), 0))[0]:
                late = kill_after is None or limit < kill_after
                self.kill()
            _, status = os.waitpid(self.pid, 0)
        finally:
            os.close(pidfd)
        seconds = time.monotonic() - self._started
        _RUNNING.discard(self.pid)
        orphans = _end_orphans(self._others | _RUNNING, ORPHAN_SECONDS)
        self._output.seek(0)
        printed = self._output.read().decode("utf-8", errors="replace")
        self._output.close()
        killed = os.WIFSIGNALED(status)
        return Ended(
            None if killed else os.WEXITSTATUS(status),
            os.WTERMSIG(status) if killed else None,
            printed,
            seconds,
            late,
            orphans,
        )


def run_in_child(
    action: Callable[[], int | None], folder: Path, limit: float = 120.0, kill_after: float | None = None
) -> Ended:
    """Run ``action`` in a child whose working folder is ``folder``; what it returns is the exit code."""
    return Child(action, folder).wait(limit, kill_after)


def _run(action: Callable[[], int | None], folder: Path, output: int) -> None:
    """What the child does; never returns."""
    code = RAISED
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(folder)
        code = action() or 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else RAISED
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _adopt_orphans() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_CHILD_SUBREAPER, 1, 0, 0, 0)


def _children() -> set[int]:
    """The processes whose parent is this one, by ``/proc`` (empty where there is none)."""
    children: set[int] = set()
    for file in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            children.update(map(int, file.read_text().split()))
    return children


def _end_orphans(known: set[int], patience: float) -> int:
    """Wait for adopted processes to end; those that live on behind ``patience`` seconds are killed and counted."""
    deadline = time.monotonic() + patience
    while adopted := _children() - known:
        late = time.monotonic() > deadline
        for pid in adopted:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                if late:
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0 if late else os.WNOHANG)
        if late:
            return len(adopted)
        time.sleep(0.02)
    return 0
