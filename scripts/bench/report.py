"""What a benchmark found, and the table of all of them."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from e2fashion.run_folder import RECORDED_PACKAGES, git_commit

MARKS = ("<!-- bench: begin -->", "<!-- bench: end -->")


@dataclass(frozen=True)
class Result:
    """One measured claim: ``passed`` is None where there is no target, ``detail`` says on what it was measured."""

    benchmark: str
    claim: str
    target: str
    measured: str
    passed: bool | None = None
    detail: str = ""


def table(results: Sequence[Result]) -> str:
    """The results as Markdown, what they were measured on below."""
    lines = ["| benchmark | claim | target | measured | |", "|---|---|---|---|---|"]
    for result in results:
        verdict = {True: "pass", False: "**miss**", None: ""}[result.passed]
        lines.append(f"| {result.benchmark} | {result.claim} | {result.target} | {result.measured} | {verdict} |")
    notes = [f"- {result.benchmark}, {result.claim}: {result.detail}" for result in results if result.detail]
    return "\n".join([*lines, "", *notes]) + "\n"


def machine() -> str:
    """Processor (no benchmark uses a GPU), threads, versions and commit in one paragraph."""
    versions = ", ".join(f"{package} {version(package)}" for package in RECORDED_PACKAGES)
    return (
        f"Measured on {_processor_name()}, {torch.get_num_threads()} threads of {os.cpu_count()} cores; "
        f"Python {platform.python_version()}, {versions}; commit {git_commit() or 'unknown'}. "
        "Quotients are medians over turns in which every arm ran once; behind them the smallest and the largest."
    )


def keep(text: str, file: Path) -> None:
    """Write ``text`` as the file, or where the file has the two :data:`MARKS`, between them: prose around it stays."""
    content = file.read_text(encoding="utf-8") if file.is_file() else ""
    before, begin, rest = content.partition(MARKS[0])
    _, end, behind = rest.partition(MARKS[1])
    file.write_text(f"{before}{begin}\n{text}{end}{behind}" if begin and end else text, encoding="utf-8")


def _processor_name() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
