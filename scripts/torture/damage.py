"""Removed and damaged files in what a command has written: the same command repairs, refuses or names them.

A file of another command may stay damaged if all results are right all the same: its own command is to notice.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from scripts.torture.disks import explained
from scripts.torture.kills import Figures, Reference, Trials
from scripts.torture.scene import copy_tree, outcome
from scripts.torture.snapshot import PRESENT, compare, snapshot

#: Pages for people, which are made anew or not looked at again, as are the copies of configurations in ``processes/``.
PAGES = {".md", ".txt", ".png", ".log"}


def damage_results(trials: Trials, reference: Reference, wanted: int | None, seed: int, figures: Figures) -> None:
    """Damage one file of the finished state at a time, every file in every way or ``wanted`` of them, and repeat."""
    before = snapshot(trials.writer.before) if trials.writer.before else {}
    of_others = {name for name, digest in before.items() if reference.state.get(name) == digest}
    trials.start()
    trials.repeat()
    finished = copy_tree(trials.workdir, trials.workdir.with_name("finished"))
    files = [path.relative_to(finished) for path in sorted(finished.rglob("*")) if _counts(path)]
    cases = [(file, name) for file in files for name in DAMAGES if not _removes_records(file, name, before)]
    if wanted is not None and wanted < len(cases):
        cases = random.Random(f"{seed} {trials.writer.name}").sample(cases, wanted)
    for file, name in cases:
        copy_tree(finished, trials.workdir)
        DAMAGES[name](trials.workdir / file)
        _judge(trials, reference, str(file), name, str(file) in of_others, figures)


def _counts(path: Path) -> bool:
    if path.suffix in PAGES or PRESENT.fullmatch(path.name) or path.parent.name == "processes":
        return False
    return path.is_file() and path.stat().st_size > 0


def _removes_records(file: Path, damage: str, before: dict[str, str]) -> bool:
    """Whether records of another command are removed, which is no damage: the command writes its own to a new file."""
    return damage == "removed" and file.suffix == ".jsonl" and str(file) in before


def _judge(trials: Trials, reference: Reference, file: str, damage: str, of_others: bool, figures: Figures) -> None:
    figures.trials += 1
    how = f"{file} {damage}"
    again = trials.repeat()
    figures.seconds += again.seconds
    if again.code != 0:
        if not explained(again):
            figures.fault("unclear", f"{how}: {outcome(again)}")
        return
    lost, left = compare(snapshot(trials.workdir), reference.state)
    named = file in again.printed
    if named:  # what is made from the file differs, too
        lost = [name for name in lost if Path(name).suffix not in PAGES]
    left = [name for name in left if name != str(Path(file).parent)]  # which is empty now
    if lost and (lost != [file] or not (of_others or named)):
        figures.fault("unnoticed", f"{how}: {', '.join(lost[:5])}")
    if left:
        figures.fault("left_over", f"{how}: {', '.join(left[:5])}")


def _cut(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) * 2 // 3] ^= 4
    file.write_bytes(bytes(data))


DAMAGES: dict[str, Callable[[Path], None]] = {"removed": Path.unlink, "cut in half": _cut, "with a flipped bit": _flip}
