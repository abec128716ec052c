"""All trials of all commands, and all inputs of all readers, as the options ask for them; or the quick part of both."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.torture import trials as strikes
from scripts.torture.fuzz import fuzz
from scripts.torture.operations import Strike
from scripts.torture.reading_sources import source_readers
from scripts.torture.reading_state import state_readers
from scripts.torture.report import Session
from scripts.torture.scene import Scene
from scripts.torture.trials import Figures, Reference, Trials, spread
from scripts.torture.verbs import catalogue_writers, writers

if TYPE_CHECKING:
    from scripts.torture.__main__ import Options

#: Bytes that a small disk leaves free.
ROOMS = (4_096, 20_000, 60_000, 150_000, 400_000)
#: Of the quick part: kills of each command, readers whose inputs cost a few milliseconds, and their inputs.
KILLS = {"prepare": 4, "prepare overwrite=true": 6}
QUICK = ("CSV table", "JSON Lines table", "image list", "images")
INPUTS = 70


def run_trials(scene: Scene, parts: Sequence[str], options: Options, folder: Path, session: Session) -> None:
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


def run_fuzz(scene: Scene, options: Options, folder: Path, session: Session) -> None:
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


def run_small(scene: Scene, folder: Path, session: Session) -> None:
    """A few kills of each kind of writer, a disk that is full, a damaged result, a race, a few hundred inputs.

    It is always the same: no moment is drawn, no time is compared.
    """
    session.parts = {part: [] for part in ("kills", "disks", "damage", "races")}
    for writer in catalogue_writers(scene):
        if writer.name not in KILLS:
            continue
        trials = Trials(scene, writer, folder / "work")
        reference = trials.reference()
        figures = Figures(writer.name)
        strikes.kill_at_operations(trials, reference, spread(reference.operations, KILLS[writer.name], 0), figures)
        session.parts["kills"].append(figures)
        if writer.name == "prepare overwrite=true":
            parts = {part: Figures(writer.name) for part in ("disks", "damage", "races")}
            strikes.fail_at_operations(trials, reference, [(5, "full"), (20, "read_only")], parts["disks"])
            strikes.damage_results(trials, reference, 4, 0, parts["damage"])
            strikes.race_at_operations(trials, reference, [reference.operations // 2], parts["races"])
            for part, made in parts.items():
                session.parts[part].append(made)
    for reader in source_readers(scene):
        if reader.name in QUICK:
            session.readers.append(fuzz(reader, INPUTS, 0, folder / "inputs"))


def _kill(trials: Trials, reference: Reference, options: Options, figures: Figures) -> None:
    """At every operation where they are few enough, and a third as often at random moments."""
    strikes.kill_at_operations(trials, reference, spread(reference.operations, options.trials, options.seed), figures)
    strikes.kill_at_random(trials, reference, max(options.trials // 3, 1), options.seed, figures)


def _fill(trials: Trials, reference: Reference, options: Options, figures: Figures) -> None:
    numbers = [number for number, _ in spread(reference.operations, max(options.trials // 4, 1), options.seed)]
    failing: tuple[Strike, ...] = ("full", "read_only")
    strikes.fail_at_operations(trials, reference, [(n, failing[k % 2]) for k, n in enumerate(numbers)], figures)
    if strikes.can_mount():
        strikes.fill_small_disk(trials, reference, ROOMS, figures)


def _damage(trials: Trials, reference: Reference, options: Options, figures: Figures) -> None:
    strikes.damage_results(trials, reference, options.trials // 2, options.seed, figures)


def _race(trials: Trials, reference: Reference, options: Options, figures: Figures) -> None:
    wanted = max(options.trials // 6, 1)
    strikes.race_together(trials, reference, wanted, options.seed, figures)
    numbers = [number for number, _ in spread(reference.operations, wanted, options.seed)]
    strikes.race_at_operations(trials, reference, numbers, figures)


_PARTS: dict[str, Callable[[Trials, Reference, Options, Figures], None]] = {
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
