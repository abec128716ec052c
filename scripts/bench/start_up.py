"""Processor seconds of a command that needs no PyTorch: help, version, a misspelt key."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial

from scripts.bench.harness import Context, Result, in_turns

BOUND = 1.0
COMMANDS: dict[str, tuple[str, ...]] = {
    "--version": ("--version",),
    "--help": ("--help",),
    "train --help": ("train", "--help"),
    "data prepare --help": ("data", "prepare", "--help"),
    "misspelt key": ("evaluate", "model", "data=catalogue", "seeed=1"),
}


def cpu_seconds(arguments: Sequence[str]) -> float:
    """User and system seconds of one ``e2fashion`` command in a process of its own."""
    command = [sys.executable, "-m", "e2fashion", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


def start_up(context: Context) -> list[Result]:
    """The median of every command, in turns."""
    variants = {name: partial(cpu_seconds, arguments) for name, arguments in COMMANDS.items()}
    timing = in_turns(variants, context.turns, warmup=0)
    results = []
    for name, times in timing.seconds.items():
        median = timing.median(name)
        spread = f"{median:.2f} s ({min(times):.2f} to {max(times):.2f})"
        results.append(Result("start_up", f"CPU time of `{name}`", f"under {BOUND:.0f} s", spread, median < BOUND))
    return results
