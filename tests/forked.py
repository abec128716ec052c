"""Processes forked from one that has imported the libraries: they start at once, and no thread has run before them."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from pytorch_lightning.utilities import rank_zero_only

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["e2fashion.ablation.sweep", "e2fashion.evaluation", "e2fashion.report"])


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it said."""

    code: int | None
    out: str
    error: str


class Forked:
    """A process that works in ``folder`` and ends with what ``function(*arguments)`` returns."""

    def __init__(
        self,
        function: Callable[..., int],
        *arguments: object,
        folder: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._said = [folder / f".{os.urandom(4).hex()}.{name}" for name in ("out", "error")]
        child = (function, arguments, folder, dict(environment or {}), self._said)
        self._process = CONTEXT.Process(target=_run, args=child)
        self._process.start()

    def wait(self) -> Ended:
        """Until it has ended."""
        self._process.join()
        out, error = (file.read_text(encoding="utf-8") for file in self._said)
        return Ended(self._process.exitcode, out, error)


def of_two_ranks(compute: Callable[[int], object], folder: Path) -> list[Any]:
    """What ``compute(rank)`` returns in each of two gloo processes; tensors in lists and mappings."""
    ranks = [Forked(_rank, rank, compute, folder, folder=folder) for rank in range(2)]
    ended = [rank.wait() for rank in ranks]
    assert [each.code for each in ended] == [0, 0], [each.error for each in ended]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


def _rank(rank: int, compute: Callable[[int], object], folder: Path) -> int:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        torch.save(compute(rank), folder / f"rank{rank}.pt")
    finally:
        dist.destroy_process_group()
    return 0


def on_two_machines(function: Callable[..., int], *arguments: object, folder: Path) -> list[Ended]:
    """How ``function(rank, *arguments)`` ends in two processes, each as torchrun starts it on one of two machines."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none"}
    own = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "GROUP_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    machines = []
    for rank in range(2):
        environment = {**shared, **own, "RANK": str(rank), "GROUP_RANK": str(rank)}
        machines.append(Forked(_machine, rank, function, *arguments, folder=folder, environment=environment))
    return [machine.wait() for machine in machines]


def _machine(rank: int, function: Callable[..., int], *arguments: object) -> int:
    cast(Any, rank_zero_only).rank = rank  # Lightning reads the environment when it is imported, before the fork
    return function(rank, *arguments)


def e2fashion(words: Sequence[str]) -> int:
    """The program with these words."""
    from e2fashion.__main__ import main

    return main(words)


def _run(
    function: Callable[..., int],
    arguments: Sequence[object],
    folder: Path,
    environment: Mapping[str, str],
    said: Sequence[Path],
) -> None:
    for number, file in enumerate(said, start=1):
        with file.open("wb") as stream:
            os.dup2(stream.fileno(), number)
    os.environ.update(environment)
    os.chdir(folder)
    sys.exit(function(*arguments))
