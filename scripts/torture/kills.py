"""SIGKILL at every file operation and at random moments; then the same command again, and what became of the state."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from scripts.torture.child import Child, Ended, run_in_child
from scripts.torture.operations import Operations, Strike
from scripts.torture.scene import Scene, copy_tree, outcome
from scripts.torture.snapshot import compare, snapshot
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
    lost, left = compare(snapshot(trials.workdir), reference.state)
    if lost and not problem:
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
