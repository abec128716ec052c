"""The figures of a session as Markdown tables, with the machine on which they were measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.torture.fuzz import FuzzFigures
from scripts.torture.trials import Figures

TITLES = {
    "kills": "SIGKILL, then the same command again",
    "disks": "full and read-only disks, then the same command again",
    "damage": "a file of the result removed or damaged, then the same command again",
    "races": "two processes with the same command on the same folder",
}


@dataclass
class Session:
    """What was measured: figures of trials by part, and of readers."""

    parts: dict[str, list[Figures]] = field(default_factory=dict)
    readers: list[FuzzFigures] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing went wrong anywhere."""
        return all(figures.clean for part in self.parts.values() for figures in part) and all(
            figures.clean for figures in self.readers
        )

    def tables(self) -> str:
        """All tables."""
        blocks = [_trials(TITLES[part], figures) for part, figures in self.parts.items()]
        if self.readers:
            blocks.append(_inputs(self.readers))
        return "\n\n".join([*blocks, f"Machine: {machine()}."])

    def faults(self) -> str:
        """Every fault in a line, with where its input is kept."""
        lines = [fault for part in self.parts.values() for figures in part for fault in figures.faults]
        lines += [f"{item.name}: {text}: {kept}" for item in self.readers for text, kept in item.faults.items()]
        return "\n".join(f"- {line}" for line in lines)


def machine() -> str:
    """Processor, cores and system."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    return f"{model}, {len(os.sched_getaffinity(0))} cores, {platform.system()}, Python {platform.python_version()}"


def _trials(title: str, items: Sequence[Figures]) -> str:
    columns = ("trials", "lost", "left_over", "refused", "orphans", "unclear", "unnoticed")
    head = ["command", *(column.replace("_", " ") for column in columns), "seconds"]
    rows = [[item.name, *(str(getattr(item, column)) for column in columns), f"{item.seconds:.0f}"] for item in items]
    sums = [str(sum(getattr(item, column) for item in items)) for column in columns]
    rows.append(["**all**", *sums, f"{sum(item.seconds for item in items):.0f}"])
    return f"{title[0].upper()}{title[1:]}:\n\n" + _table(head, rows)


def _inputs(items: Sequence[FuzzFigures]) -> str:
    head = ["reader", "inputs", "read", "explained", "unexplained", "hangs", "peak MB", "slowest s", "seconds"]
    columns = ("inputs", "read", "explained", "unexplained", "hangs")
    rows = [
        [
            item.name,
            *(f"{getattr(item, column):,}" for column in columns),
            f"{item.peak_mb:.0f}",
            f"{item.slowest:.1f}",
            f"{item.seconds:.0f}",
        ]
        for item in items
    ]
    sums = [f"{sum(getattr(item, column) for item in items):,}" for column in columns]
    worst = [f"{max(item.peak_mb for item in items):.0f}", f"{max(item.slowest for item in items):.1f}"]
    rows.append(["**all**", *sums, *worst, f"{sum(item.seconds for item in items):.0f}"])
    return "Damaged files:\n\n" + _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    marks = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, marks, *rows])
