"""The processes of a sweep as forks of one that has imported everything: same code, a hundredth of the start."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import Any

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


def _become(words: list[str], options: dict[str, Any]) -> None:
    """What the fork does; never returns."""
    code = 99
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

        code = main(words)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
