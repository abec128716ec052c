"""``python -m scripts.torture [part ...] [key=value ...]``: kills, disks, damage, races and fuzz, or those named.

Options: ``seed=0``, ``inputs=20000`` damaged files in all, ``trials=30`` of each command at the most in every part,
``only=probe,tags`` commands and readers with one of these in their names, ``output=runs/torture`` keeps the figures
and the inputs of every fault. The exit code is 1 if anything was lost, left over, refused, unexplained or hung.
``python -m scripts.torture index [rounds=20] [seconds=60]``: writers and readers of one index, see
:mod:`scripts.torture.index`.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

PARTS = ("kills", "disks", "damage", "races", "fuzz")
#: Instead of parts: what ``make test`` runs, see :func:`scripts.torture.series.run_small`.
SMALL = "small"


@dataclass
class Options:
    """What the command line sets."""

    seed: int = 0
    inputs: int = 20_000
    trials: int = 30
    only: str = ""
    output: str = "runs/torture"


def parse(args: Sequence[str]) -> tuple[list[str], Options]:
    """The parts (none given: all) and the options.

    Raises:
        SystemExit: an unknown part or option.
    """
    options, kinds = Options(), {item.name: type(getattr(Options(), item.name)) for item in fields(Options)}
    parts = [arg for arg in args if "=" not in arg]
    for arg in args:
        key, sign, value = arg.partition("=")
        if sign and key not in kinds:
            raise SystemExit(f"there is no option '{key}'; options: {', '.join(kinds)}")
        if sign:
            setattr(options, key, kinds[key](value))
    if unknown := [part for part in parts if part not in (*PARTS, SMALL)]:
        raise SystemExit(f"there is no part '{unknown[0]}'; parts: {', '.join(PARTS)}, or {SMALL}")
    return parts or list(PARTS), options


def main(args: Sequence[str]) -> int:
    """Run, print and keep the figures."""
    if args[:1] == ["index"]:
        from scripts.torture.index import main as run_index

        return run_index(args[1:])
    parts, options = parse(args)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # forks of a process that has encoded texts
    os.environ["HF_HUB_OFFLINE"] = "1"
    from scripts.torture.report import Session
    from scripts.torture.scene import make_scene

    output, started, session = Path(options.output).resolve(), time.monotonic(), Session()
    output.mkdir(parents=True, exist_ok=True)
    workplace = Path(tempfile.mkdtemp(prefix="torture-"))
    try:
        scene = make_scene(workplace / "scene")
        if SMALL in parts:
            from scripts.torture.series import run_small

            run_small(scene, workplace / "work", session)
        if set(parts) & {"kills", "disks", "damage", "races"}:
            from scripts.torture.series import run_trials

            run_trials(scene, parts, options, workplace / "work", session)
        if "fuzz" in parts:
            from scripts.torture.series import run_fuzz

            run_fuzz(scene, options, output / "inputs", session)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
    took = f"`python -m scripts.torture {' '.join(args)}` took {(time.monotonic() - started) / 60:.1f} minutes."
    text = f"{session.tables()}\n\n{took}\n"
    (output / "figures.md").write_text(text, encoding="utf-8")
    (output / "faults.md").write_text(session.faults() + "\n", encoding="utf-8")
    print(f"{text}\n{session.faults()}")
    return 0 if session.clean else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
