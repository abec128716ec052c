"""Turns of the processes that write at an address of an object store, which has no locks.

A process puts a file of its own there, looks whether it is alone, and else removes it and tries again later: where
lists show all that was written before, as those of S3 do, no two are alone. It writes the file again and again while
its turn lasts; one that is not written any more is of a killed process, and removed by the next one.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from e2fashion.disk.locks import FolderLockedError, process_words, this_process
from e2fashion.disk.stores import Store
from e2fashion.types import E2FashionError

BEAT, DEAD = 10.0, 60.0
"""Seconds between two writings of the file, and without one until its process counts as killed."""
LOOK_AGAIN = (0.5, 1.5)
"""Seconds, at random, until a process looks again whether it is its turn."""


@contextmanager
def turn_in(store: Store, kind: str, wait: bool = True) -> Iterator[Callable[[], None]]:
    """Keep other processes and threads from a turn of the same kind during the block, waiting for those before.

    Yields a function that raises an E2FashionError if this process was stopped for so long that it counts as killed.

    Raises:
        FolderLockedError: without ``wait`` another process is at work; the message describes it.
        StoreError: the store cannot be reached.
    """
    turn = _Turn(store, kind)
    while not turn.begin():
        if turn.living is not None and not wait:
            who = process_words(store.read(turn.living) or b"")
            raise FolderLockedError(f"'{store}' is being written by {who}: wait until it ends, or choose another place")
        time.sleep(random.uniform(*LOOK_AGAIN))
    beating = threading.Thread(target=turn.beat, daemon=True, name=f"turn at {store}")
    beating.start()
    try:
        yield turn.check
    finally:
        turn.ended.set()
        beating.join()
        with suppress(E2FashionError, OSError):  # the next process removes it
            store.remove(turn.name)


class _Turn:
    """A turn of this process, with what it has seen of the others."""

    def __init__(self, store: Store, kind: str) -> None:
        self._store, self._prefix = store, f".{kind}-"
        self.name = self._prefix + secrets.token_hex(8)
        self.ended = threading.Event()
        self.living: str | None = None
        """The file of another process that was seen to be written again at the last look."""
        self._seen: dict[str, tuple[int, float]] = {}
        """When the files of others were last written, and when this process first saw that."""
        self._lost = False

    def begin(self) -> bool:
        """Begin the turn; False if it is another process's."""
        if self._others():
            return False
        self._sign()
        if not self._others():
            return True
        self._store.remove(self.name)
        return False

    def beat(self) -> None:
        """Write the file again and again until the turn has ended, or another process has removed it."""
        while not self.ended.wait(BEAT) and not self._lost:
            with suppress(E2FashionError, OSError):  # the store may answer the next time
                self._lost = self._is_gone()
                if not self._lost:
                    self._sign()

    def check(self) -> None:
        """Raise an E2FashionError if another process has taken this one for killed."""
        if self._lost or self._is_gone():
            raise E2FashionError(
                f"this process did not reach '{self._store}' for more than {DEAD:g} s, and another one writes there: "
                "repeat the command"
            )

    def _sign(self) -> None:
        self._store.write(self.name, json.dumps(this_process() | {"machine": this_machine()}))

    def _is_gone(self) -> bool:
        return self.name not in self._store.entries()

    def _others(self) -> bool:
        """Whether other processes are at work or begin; the files of killed ones are removed."""
        there, now = self._store.entries(), time.monotonic()
        self.living = None
        others = {name for name in there if name.startswith(self._prefix)} - {self.name}
        for name in sorted(others):
            written, since = self._seen.get(name, (there[name], now))
            if written != there[name]:
                self.living, since = name, now
            killed = now - since > DEAD or (name not in self._seen and self._has_ended(name))
            self._seen[name] = there[name], since
            if killed:
                self._store.remove(name)
                others.remove(name)
        return bool(others)

    def _has_ended(self, name: str) -> bool:
        """Whether a file is of a process of this machine that runs no more."""
        try:
            told = json.loads(self._store.read(name) or b"")
            if not told["machine"] or told["machine"] != this_machine():
                return False
            os.kill(int(told["pid"]), 0)
        except ProcessLookupError:
            return True
        except (E2FashionError, OSError, ValueError, KeyError, TypeError, OverflowError):
            return False  # as far as can be known: it was removed or written meanwhile, say
        return False


def this_machine() -> str:
    """What tells this machine, since it was started, and its numbers of processes from others; empty if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
