"""The part of the trials that is quick and always the same: no moment is drawn, no time is compared."""

from __future__ import annotations

from pathlib import Path

from scripts.torture import damage, disks, kills, races
from scripts.torture.fuzz import fuzz
from scripts.torture.kills import Figures, Trials
from scripts.torture.reading_sources import source_readers
from scripts.torture.report import Session
from scripts.torture.scene import Scene
from scripts.torture.verbs import catalogue_writers

#: Kills of each command; the others are for longer sessions.
KILLS = {"prepare": 4, "prepare overwrite=true": 6}
#: Readers whose inputs cost a few milliseconds.
QUICK = ("CSV table", "JSON Lines table", "image list", "pictures")
INPUTS = 70


def run_small(scene: Scene, folder: Path, session: Session) -> None:
    """A few kills of each kind of writer, a disk that is full, a damaged result, a race, a few hundred inputs."""
    session.parts = {part: [] for part in ("kills", "disks", "damage", "races")}
    for writer in catalogue_writers(scene):
        if writer.name not in KILLS:
            continue
        trials = Trials(scene, writer, folder / "work")
        reference = trials.reference()
        figures = Figures(writer.name)
        kills.kill_at_operations(trials, reference, kills.spread(reference.operations, KILLS[writer.name], 0), figures)
        session.parts["kills"].append(figures)
        if writer.name == "prepare overwrite=true":
            parts = {part: Figures(writer.name) for part in ("disks", "damage", "races")}
            disks.fail_at_operations(trials, reference, [(5, "full"), (20, "read_only")], parts["disks"])
            damage.damage_results(trials, reference, 4, 0, parts["damage"])
            races.race_at_operations(trials, reference, [reference.operations // 2], parts["races"])
            for part, made in parts.items():
                session.parts[part].append(made)
    for reader in source_readers(scene):
        if reader.name in QUICK:
            session.readers.append(fuzz(reader, INPUTS, 0, folder / "inputs"))
