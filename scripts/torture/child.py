"""Forked children: a trial, bounded in time, whose output and descendants are accounted for; the processes of a sweep.

A fork of a process that has imported everything starts in a hundredth of the time.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


_PREFIX = ("-m", "e2fashion")


class ForkedProcess:
    """Does what a sweep asks of :class:`subprocess.Popen`, for ``python -m e2fashion`` commands."""

    def __init__(self, command: list[str], **options: Any) -> None:
        start = command.index(_PREFIX[0])
        if tuple(command[start : start + 2]) != _PREFIX:
            raise ValueError(f"not a command of this package: {command}")
        self.args = command
        self.returncode: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _become(command[start + 2 :], options)

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code once it has ended."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            time.sleep(0.01)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Signal it, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def fork_instead_of_starting() -> None:
    """In this process (a child of the harness) sweeps fork their processes."""
    from e2fashion.ablation import sweep

    class Processes:
        Popen = ForkedProcess
        STDOUT, PIPE, DEVNULL = subprocess.STDOUT, subprocess.PIPE, subprocess.DEVNULL
        TimeoutExpired = subprocess.TimeoutExpired

    sweep.subprocess = Processes  # type: ignore[assignment]


def _become(args: list[str], options: dict[str, Any]) -> None:
    """What the fork does; never returns."""
    code = RAISED
    try:
        if options.get("start_new_session"):
            os.setsid()
        if options.get("stdout") is not None:
            os.dup2(options["stdout"].fileno(), 1)
            os.dup2(1, 2)
        kept = {0, 1, 2, *options.get("pass_fds", ())}
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
            if int(name) not in kept:
                with contextlib.suppress(OSError):
                    os.close(int(name))
        os.environ.update(options.get("env") or {})
        if options.get("preexec_fn"):
            options["preexec_fn"]()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        from e2fashion.__main__ import main

        code = main(args)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
