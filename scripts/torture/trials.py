"""Trials of commands: kills, full disks, damaged results and races; then the same command again, and what became of it.

An uninterrupted repetition must end as an uninterrupted command does. Damage of a file that another command wrote may
stay if all results are right all the same: its own command is to notice.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from scripts.torture.child import Child, Ended, run_in_child
from scripts.torture.operations import Operations, Strike
from scripts.torture.scene import Scene, copy_tree, outcome
from scripts.torture.snapshot import PRESENT, compare, snapshot
from scripts.torture.verbs import Writer


@dataclass
class Figures:
    """What a series of trials came to.

    ``lost``: what was there before could not be read, or the repeated command ended with another state than an
    uninterrupted one; ``left_over``: files that an uninterrupted one does not leave; ``refused``: the repeated command
    failed; ``orphans``: processes that outlived the killed one; ``unclear``: a failure without a line that explains it;
    ``unnoticed``: a command that ended well over damaged state and left it damaged.
    """

    name: str
    trials: int = 0
    lost: int = 0
    left_over: int = 0
    refused: int = 0
    orphans: int = 0
    unclear: int = 0
    unnoticed: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing went wrong."""
        return not (self.lost or self.left_over or self.refused or self.orphans or self.unclear or self.unnoticed)

    def fault(self, kind: str, text: str) -> None:
        """Count a fault and keep what it was."""
        setattr(self, kind, getattr(self, kind) + 1)
        self.faults.append(f"{self.name}: {kind}: {text}")


@dataclass(frozen=True)
class Reference:
    """An uninterrupted run of a command: how many file operations it makes, how long it takes, what it leaves.

    ``before`` and ``after`` are what :attr:`Writer.state` reads at the start and at the end.
    """

    operations: int
    seconds: float
    state: dict[str, str]
    before: object = None
    after: object = None


class Trials:
    """Trials of one command in a working folder that is made anew for each."""

    def __init__(self, scene: Scene, writer: Writer, folder: Path) -> None:
        self.scene, self.writer = scene, writer
        self.workdir = folder / "trial"
        self._count = folder / "operations"
        folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Put the working folder into the state before the command."""
        copy_tree(self.writer.before, self.workdir)

    def run(self, at: int | None = None, strike: Strike = "kill", kill_after: float | None = None) -> Ended:
        """The command, interrupted or not."""
        return self.begin(at, strike).wait(kill_after=kill_after)

    def begin(self, at: int | None = None, strike: Strike = "kill") -> Child:
        """The command as a child that runs."""
        action, workdir, count = self.writer.action(self.scene), self.workdir, self._count

        def counted() -> int:
            operations = Operations(workdir, at, strike)
            try:
                return action()
            finally:
                count.write_text(str(operations.count))

        return Child(counted, workdir)

    def repeat(self) -> Ended:
        """The command once more, uninterrupted."""
        return run_in_child(self.writer.action(self.scene), self.workdir)

    def reference(self) -> Reference:
        """An uninterrupted run.

        Raises:
            RuntimeError: the command fails, or two uninterrupted runs leave different files.
        """
        self.start()
        before = self.state()
        ended = self.run()
        if ended.code != 0:
            raise RuntimeError(f"{self.writer.name}: {outcome(ended)}")
        operations, first, after = int(self._count.read_text()), snapshot(self.workdir), self.state()
        self.start()
        self.repeat()
        lost, left = compare(snapshot(self.workdir), first)
        if lost or left:
            raise RuntimeError(f"{self.writer.name}: two uninterrupted runs differ in {', '.join([*lost, *left])}")
        return Reference(operations, ended.seconds, first, before, after)

    def state(self) -> object:
        """What :attr:`Writer.state` reads now, as plain values; a text that says why where it cannot be read."""
        if self.writer.state is None:
            return None
        read, workdir, file = self.writer.state, self.workdir, self._count.with_name("state")

        def action() -> int:
            file.write_text(json.dumps(read(workdir)), encoding="utf-8")
            return 0

        ended = run_in_child(action, self.workdir)
        return json.loads(file.read_text(encoding="utf-8")) if ended.code == 0 else f"unreadable: {outcome(ended)}"


def kill_at_operations(
    trials: Trials, reference: Reference, chosen: Iterable[tuple[int, Strike]], figures: Figures
) -> None:
    """A kill before each chosen operation, and what became of it."""
    for number, strike in chosen:
        trials.start()
        ended = trials.run(number, strike)
        if ended.code is not None:
            figures.fault("unclear", f"{strike} at operation {number}: {outcome(ended)}")
            continue
        examine(trials, reference, ended, f"{strike} at operation {number} of {reference.operations}", figures)


def kill_at_random(trials: Trials, reference: Reference, times: int, seed: int, figures: Figures) -> None:
    """Kills at random moments of the command's duration."""
    chance = random.Random(f"{seed} {trials.writer.name}")
    for _ in range(times):
        moment = chance.uniform(0.02, reference.seconds)
        trials.start()
        ended = trials.run(kill_after=moment)
        examine(trials, reference, ended, f"kill after {moment:.2f} of {reference.seconds:.2f} s", figures)


def spread(operations: int, wanted: int | None, seed: int) -> list[tuple[int, Strike]]:
    """Operations to kill at, every one of them or ``wanted`` spread evenly, half of them with a torn file."""
    numbers = range(operations)
    if wanted is not None and wanted < operations:
        chance = random.Random(seed)
        numbers = [
            chance.randrange(operations * k // wanted, operations * (k + 1) // wanted)  # type: ignore[assignment]
            for k in range(wanted)
        ]
    return [(number, "torn" if position % 2 else "kill") for position, number in enumerate(numbers)]


def examine(trials: Trials, reference: Reference, ended: Ended, how: str, figures: Figures) -> None:
    """Repeat an interrupted command, and count what it finds and what it leaves."""
    figures.trials += 1
    figures.seconds += ended.seconds
    if ended.orphans:
        figures.fault("orphans", f"{how}: {ended.orphans} processes lived on")
    problem = _state_problem(trials, reference)
    if problem:
        figures.fault("lost", f"{how}: {problem}")
    again = trials.repeat()
    figures.seconds += again.seconds
    if again.code != 0:
        figures.fault("refused", f"{how}: {outcome(again)}")
        return
    _count_differences(trials, reference, how, figures, ignore_lost=bool(problem))


def _count_differences(
    trials: Trials, reference: Reference, how: str, figures: Figures, ignore_lost: bool = False
) -> None:
    lost, left = compare(snapshot(trials.workdir), reference.state)
    if lost and not ignore_lost:
        figures.fault("lost", f"{how}: {', '.join(lost[:5])}")
    if left:
        figures.fault("left_over", f"{how}: {', '.join(left[:5])}")


def _state_problem(trials: Trials, reference: Reference) -> str:
    """What is wrong with what was there before; empty where nothing is."""
    if trials.writer.state is None:
        return ""
    state = trials.state()
    if isinstance(state, str):
        return state
    if trials.writer.grows:
        assert isinstance(state, list)
        assert isinstance(reference.before, list)
        gone = [item for item in reference.before if item not in state]
        return f"gone: {gone[0]}" if gone else ""
    return "" if state in (reference.before, reference.after) else "neither as before nor as after"


def fail_at_operations(
    trials: Trials, reference: Reference, chosen: Iterable[tuple[int, Strike]], figures: Figures
) -> None:
    """From each chosen operation on, the disk is full or read-only."""
    for number, strike in chosen:
        trials.start()
        ended = trials.run(number, strike)
        how = f"{strike.replace('_', '-')} disk from operation {number} of {reference.operations}"
        _judge_disk(trials, reference, ended, how, figures)


def can_mount() -> bool:
    """Whether this process may mount a small file system of its own."""
    return os.geteuid() == 0 and shutil.which("mount") is not None


def fill_small_disk(trials: Trials, reference: Reference, sizes: Iterable[int], figures: Figures) -> None:
    """Run on a file system with this many bytes free in addition to what is there (root alone)."""
    for room in sizes:
        trials.start()
        parked = copy_tree(trials.workdir, trials.workdir.with_name("parked"))
        held = sum(file.stat().st_size + 4096 for file in parked.rglob("*"))
        if not _mount(trials, held + room):
            return
        try:
            shutil.copytree(parked, trials.workdir, dirs_exist_ok=True)
            ended = trials.run()
            subprocess.run(["mount", "-o", f"remount,size={1 << 30}", str(trials.workdir)], check=True)
            _judge_disk(trials, reference, ended, f"{room:,} bytes left on the disk", figures)
        finally:
            subprocess.run(["umount", "-l", str(trials.workdir)], check=True)


def _mount(trials: Trials, size: int) -> bool:
    # Size 0 would mean no limit.
    args = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(trials.workdir)]
    return subprocess.run(args, check=False, capture_output=True).returncode == 0


def _judge_disk(trials: Trials, reference: Reference, ended: Ended, how: str, figures: Figures) -> None:
    if ended.code != 0 and not explained(ended):
        figures.fault("unclear", f"{how}: {outcome(ended)}")
    examine(trials, reference, ended, how, figures)


def explained(ended: Ended) -> bool:
    """Whether a command that failed explained it, in a line of its own and without a traceback."""
    lines = ended.printed.splitlines()
    return ended.code == 1 and "Traceback" not in ended.printed and any(line.startswith("error: ") for line in lines)


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
        _judge_damage(trials, reference, str(file), name, str(file) in of_others, figures)


def _counts(path: Path) -> bool:
    if path.suffix in PAGES or PRESENT.fullmatch(path.name) or path.parent.name == "processes":
        return False
    return path.is_file() and path.stat().st_size > 0


def _removes_records(file: Path, damage: str, before: dict[str, str]) -> bool:
    """Whether records of another command are removed, which is not damage: the command writes its own to a new file."""
    return damage == "removed" and file.suffix == ".jsonl" and str(file) in before


def _judge_damage(
    trials: Trials, reference: Reference, file: str, damage: str, of_others: bool, figures: Figures
) -> None:
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


#: Seconds that the second process may wait for the first, which is stopped meanwhile.
WAIT = 10.0


def race_together(trials: Trials, reference: Reference, times: int, seed: int, figures: Figures) -> None:
    """Both start within a moment of each other."""
    chance = random.Random(f"{seed} {trials.writer.name}")
    for _ in range(times):
        pause = chance.uniform(0, reference.seconds / 2)
        trials.start()
        first = trials.begin()
        second = Child(_later(trials, pause), trials.workdir)
        _judge_race(trials, reference, [first.wait(), second.wait()], f"started {pause:.2f} s apart", figures)


def race_at_operations(trials: Trials, reference: Reference, chosen: Iterable[int], figures: Figures) -> None:
    """The first is stopped before an operation, the second runs, then the first goes on."""
    for number in chosen:
        trials.start()
        first = trials.begin(number, "stop")
        if not first.until_stopped():
            first.wait()
            continue
        second = Child(trials.writer.action(trials.scene), trials.workdir)
        if not second.ends_within(WAIT):
            first.resume()
        waited = second.wait()
        first.resume()
        _judge_race(trials, reference, [first.wait(), waited], f"overtaken at operation {number}", figures)


def _later(trials: Trials, pause: float) -> Callable[[], int]:
    action = trials.writer.action(trials.scene)

    def run() -> int:
        time.sleep(pause)
        return action()

    return run


def _judge_race(trials: Trials, reference: Reference, both: list[Ended], how: str, figures: Figures) -> None:
    figures.trials += 1
    figures.seconds += sum(ended.seconds for ended in both)
    failed = [ended for ended in both if ended.code != 0]
    if len(failed) == 2:
        figures.fault("refused", f"{how}: both: {outcome(failed[0])}; {outcome(failed[1])}")
        return
    if failed and not explained(failed[0]):
        figures.fault("unclear", f"{how}: {outcome(failed[0])}")
    _count_differences(trials, reference, how, figures)
