"""The checkpoint and the best model that an interrupted stage resumes from: intact, or moved aside."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch

from e2fashion.disk import DamagedError, check_checksums, reason_of, remove_folder

#: Keys of a Lightning checkpoint that resuming needs.
NEEDED = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "epoch", "global_step")
#: The key of :class:`~e2fashion.training.callbacks.BestModel` among a checkpoint's callbacks.
BEST_MODEL = "BestModel"


def last_checkpoint(run_folder: Path, stage: str) -> Path:
    """The checkpoint file that a stage resumes from."""
    return run_folder / "checkpoints" / stage / "last.ckpt"


def damage_of(checkpoint: Path) -> str | None:
    """Why a checkpoint cannot be resumed from; None if it is intact.

    Every byte is compared with the checksums in the file, which PyTorch writes but does not verify: a flipped bit in a
    weight would go unnoticed.
    """
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            if (part := archive.testzip()) is not None:
                return f"the checksum of its part '{part}' does not match"
        content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # zipfile, pickle and PyTorch raise many types
        return reason_of(error)
    if not isinstance(content, dict):
        return f"it is a {type(content).__name__}"
    missing = [key for key in NEEDED if key not in content]
    return f"it lacks {', '.join(missing)}" if missing else None


def damage_of_best(model: Path, checkpoint: Path) -> str | None:
    """Why the best model so far cannot be kept; None if it is intact or none has been saved yet.

    Models of earlier versions have no checksums and pass.
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
    """Restart a stage whose checkpoint or best model is damaged; returns the damaged path and the reason.

    The checkpoint is kept under another name until the stage is done. The best model is removed, since the same steps
    make it again bit for bit; it is removed first, so that a kill in between leaves the damage detectable.
    """
    checkpoint = last_checkpoint(run_folder, stage)
    if not checkpoint.is_file():
        return None
    damaged = None
    if reason := damage_of(checkpoint):
        damaged = checkpoint, reason
    elif reason := damage_of_best(best, checkpoint):
        damaged = best, reason
    if damaged is not None:
        remove_folder(best)
        checkpoint.replace(_aside(checkpoint))
    return damaged


def remove_checkpoints(run_folder: Path, stage: str) -> None:
    """Remove the checkpoints of a finished stage."""
    checkpoint = last_checkpoint(run_folder, stage)
    for file in (checkpoint, _aside(checkpoint)):
        file.unlink(missing_ok=True)


def _aside(checkpoint: Path) -> Path:
    return checkpoint.with_name(f"{checkpoint.name}.damaged")
