"""Termination of a process: by SIGTERM as by Ctrl-C, with its parent if the parent requests it, and without delay."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PARENT = "E2FASHION_PARENT"
"""Environment variable with the id of the process that this one must not outlive."""
_PR_SET_PDEATHSIG = 1


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised where Ctrl-C would raise."""


def signal_of(stop: BaseException | None) -> int:
    """The signal number of an interrupt: SIGTERM, or SIGINT for Ctrl-C."""
    return signal.SIGTERM if isinstance(stop, Terminated) else getattr(stop, "number", signal.SIGINT)


@contextmanager
def terminable() -> Iterator[None]:
    """Raise :class:`Terminated` on SIGTERM during the block (in the main thread; no effect in others)."""
    process = os.getpid()

    def terminate(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a forked child: default behavior
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        raise Terminated

    try:
        previous = signal.signal(signal.SIGTERM, terminate)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous if previous is not None else signal.SIG_DFL)


def end_at_once() -> None:
    """Let the interpreter end without a search for garbage.

    Among the half a million objects of PyTorch, Transformers and LanceDB it takes more than a second, in which a
    command has printed its result and seems to hang. Handlers of ``atexit`` that are registered later run before.
    """
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)


def end_with_parent() -> None:
    """End with the parent process, also on SIGKILL, if it has set :data:`PARENT`; child processes then do as well.

    This is safe: outputs are complete at any moment, and a run resumes from its last checkpoint.
    """
    if not (parent := os.environ.get(PARENT, "")).isdecimal():
        return
    os.environ[PARENT] = str(os.getpid())
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(int(parent),), daemon=True).start()
    if os.getppid() != int(parent):  # it has ended before this line
        os._exit(128 + signal.SIGTERM)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(128 + signal.SIGTERM)
