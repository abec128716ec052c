"""The checkpoint and the best model that an interrupted stage goes on from: whole to the last byte, or set aside."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch

from e2fashion.disk import DamagedError, check_checksums, reason_of, remove_folder

#: What a checkpoint of Lightning must hold to go on from.
NEEDED = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "epoch", "global_step")
#: The key of :class:`~e2fashion.training.callbacks.BestModel` among a checkpoint's callbacks.
BEST_MODEL = "BestModel"


def last_checkpoint(run_folder: Path, stage: str) -> Path:
    """Where a stage keeps the checkpoint that it resumes from."""
    return run_folder / "checkpoints" / stage / "last.ckpt"


def damage_of(checkpoint: Path) -> str | None:
    """Why a checkpoint cannot be gone on from; None of one that is whole.

    Every byte is compared with the checksums in the file, which PyTorch writes and does not read: a flipped bit in a
    weight would train on, and show as a loss that is not finite.
    """
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            if (part := archive.testzip()) is not None:
                return f"the checksum of its part '{part}' does not fit"
        content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # of zipfile, pickle and PyTorch, whatever a broken file causes
        return reason_of(error)
    if not isinstance(content, dict):
        return f"it holds a {type(content).__name__}"
    missing = [key for key in NEEDED if key not in content]
    return f"it lacks {', '.join(missing)}" if missing else None


def damage_of_best(model: Path, checkpoint: Path) -> str | None:
    """Why the best model so far cannot be kept; None of one that is whole, or that a whole checkpoint does not know.

    One of an earlier version has no checksums, and passes.
    """
    if not model.is_dir():
        callbacks = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["callbacks"]
        made = callbacks.get(BEST_MODEL, {}).get("best_epoch", -1) >= 0
        return "it is missing" if made else None
    try:
        check_checksums(model, "", again=True)
    except DamagedError as damage:
        return str(damage).strip()
    return None


def set_aside_damaged(run_folder: Path, stage: str, best: Path) -> tuple[Path, str] | None:
    """Let a stage begin anew where its checkpoint or its best model is damaged; returns which of them, and why.

    The checkpoint stays beside its place until the stage is done. The best model so far goes: it is made again, to the
    bit, by the same steps. It goes first, so that a kill in between leaves the damage to be seen again.
    """
    checkpoint = last_checkpoint(run_folder, stage)
    if not checkpoint.is_file():
        return None
    found = None
    if damage := damage_of(checkpoint):
        found = checkpoint, damage
    elif damage := damage_of_best(best, checkpoint):
        found = best, damage
    if found is not None:
        remove_folder(best)
        checkpoint.replace(_aside(checkpoint))
    return found


def remove_checkpoints(run_folder: Path, stage: str) -> None:
    """Remove what a stage that is done needs no more."""
    checkpoint = last_checkpoint(run_folder, stage)
    for file in (checkpoint, _aside(checkpoint)):
        file.unlink(missing_ok=True)


def _aside(checkpoint: Path) -> Path:
    return checkpoint.with_name(f"{checkpoint.name}.damaged")
