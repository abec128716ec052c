"""All trials of all commands, and all inputs of all readers, as the options ask for them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from scripts.torture import damage, disks, kills, races
from scripts.torture.fuzz import fuzz
from scripts.torture.kills import Figures, Reference, Trials
from scripts.torture.operations import Strike
from scripts.torture.reading_sources import source_readers
from scripts.torture.reading_state import state_readers
from scripts.torture.report import Session
from scripts.torture.scene import Scene
from scripts.torture.verbs import writers

#: Bytes that a small disk leaves free.
ROOMS = (4_096, 20_000, 60_000, 150_000, 400_000)


class TrialOptions(Protocol):
    """The options that matter here, see :class:`scripts.torture.__main__.Options`."""

    seed: int
    inputs: int
    trials: int
    only: str


def run_trials(scene: Scene, parts: Sequence[str], options: TrialOptions, folder: Path, session: Session) -> None:
    """Every part but the damaged inputs, of every command."""
    chosen = [part for part in _PARTS if part in parts]
    session.parts = {part: [] for part in chosen}
    for writer in writers(scene):
        if not _is_chosen(writer.name, options.only):
            continue
        trials = Trials(scene, writer, folder)
        reference = trials.reference()
        for part in chosen:
            figures = Figures(writer.name)
            _PARTS[part](trials, reference, options, figures)
            session.parts[part].append(figures)
            _say(f"{part}: {writer.name}: {figures.trials} trials, {len(figures.faults)} faults")
            for fault in figures.faults:
                _say(f"  {fault}")


def run_fuzz(scene: Scene, options: TrialOptions, folder: Path, session: Session) -> None:
    """Every reader, its share of the inputs."""
    readers = [item for item in (*source_readers(scene), *state_readers(scene)) if _is_chosen(item.name, options.only)]
    whole = sum(reader.weight for reader in readers)
    for reader in readers:
        figures = fuzz(reader, max(round(options.inputs * reader.weight / whole), 1), options.seed, folder)
        session.readers.append(figures)
        _say(
            f"fuzz: {reader.name}: {figures.inputs:,} inputs in {figures.seconds:.0f} s, {figures.unexplained} "
            f"unexplained, {figures.hangs} hangs"
        )


def _kill(trials: Trials, reference: Reference, options: TrialOptions, figures: Figures) -> None:
    """At every operation where they are few enough, and a third as often at random moments."""
    kills.kill_at_operations(
        trials, reference, kills.spread(reference.operations, options.trials, options.seed), figures
    )
    kills.kill_at_random(trials, reference, max(options.trials // 3, 1), options.seed, figures)


def _fill(trials: Trials, reference: Reference, options: TrialOptions, figures: Figures) -> None:
    numbers = [number for number, _ in kills.spread(reference.operations, max(options.trials // 4, 1), options.seed)]
    failing: tuple[Strike, ...] = ("full", "read_only")
    disks.fail_at_operations(trials, reference, [(n, failing[k % 2]) for k, n in enumerate(numbers)], figures)
    if disks.can_mount():
        disks.fill_small_disk(trials, reference, ROOMS, figures)


def _damage(trials: Trials, reference: Reference, options: TrialOptions, figures: Figures) -> None:
    damage.damage_results(trials, reference, options.trials // 2, options.seed, figures)


def _race(trials: Trials, reference: Reference, options: TrialOptions, figures: Figures) -> None:
    wanted = max(options.trials // 6, 1)
    races.race_together(trials, reference, wanted, options.seed, figures)
    numbers = [number for number, _ in kills.spread(reference.operations, wanted, options.seed)]
    races.race_at_operations(trials, reference, numbers, figures)


_PARTS: dict[str, Callable[[Trials, Reference, TrialOptions, Figures], None]] = {
    "kills": _kill,
    "disks": _fill,
    "damage": _damage,
    "races": _race,
}


def _is_chosen(name: str, only: str) -> bool:
    """Whether a name holds one of the words that ``only`` lists, separated by commas."""
    return any(word in name for word in only.split(","))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
