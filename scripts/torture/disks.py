"""Full and read-only disks: an error that explains itself, and the same command ends well once there is room again."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable

from scripts.torture.child import Ended
from scripts.torture.kills import Figures, Reference, Trials, examine
from scripts.torture.operations import Strike
from scripts.torture.scene import copy_tree, outcome


def fail_at_operations(
    trials: Trials, reference: Reference, chosen: Iterable[tuple[int, Strike]], figures: Figures
) -> None:
    """From each chosen operation on, the disk is full or read-only."""
    for number, strike in chosen:
        trials.start()
        ended = trials.run(number, strike)
        how = f"{strike.replace('_', '-')} disk from operation {number} of {reference.operations}"
        _judge(trials, reference, ended, how, figures)


def can_mount() -> bool:
    """Whether this process may mount a small file system of its own."""
    return os.geteuid() == 0 and shutil.which("mount") is not None


def fill_small_disk(trials: Trials, reference: Reference, sizes: Iterable[int], figures: Figures) -> None:
    """Run on a file system with so many bytes free in addition to what is there (root alone)."""
    for room in sizes:
        trials.start()
        parked = copy_tree(trials.workdir, trials.workdir.with_name("parked"))
        held = sum(file.stat().st_size + 4096 for file in parked.rglob("*"))
        if not _mount(trials, held + room):
            return
        try:
            shutil.copytree(parked, trials.workdir, dirs_exist_ok=True)
            ended = trials.run()
            _remount(trials, 1 << 30)
            _judge(trials, reference, ended, f"{room:,} bytes left on the disk", figures)
        finally:
            subprocess.run(["umount", "-l", str(trials.workdir)], check=True)


def _mount(trials: Trials, size: int) -> bool:
    # Size 0 would mean no limit.
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(trials.workdir)]
    return subprocess.run(words, check=False, capture_output=True).returncode == 0


def _remount(trials: Trials, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(trials.workdir)], check=True)


def _judge(trials: Trials, reference: Reference, ended: Ended, how: str, figures: Figures) -> None:
    if ended.code != 0 and not explained(ended):
        figures.fault("unclear", f"{how}: {outcome(ended)}")
    examine(trials, reference, ended, how, figures)


def explained(ended: Ended) -> bool:
    """Whether a command that failed explained it, in a line of its own and without a traceback."""
    lines = ended.printed.splitlines()
    return ended.code == 1 and "Traceback" not in ended.printed and any(line.startswith("error: ") for line in lines)
