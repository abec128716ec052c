"""The checkpoint that an interrupted stage goes on from: whole to the last byte, or set aside."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import torch

#: What a checkpoint of Lightning must hold to go on from.
NEEDED = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "epoch", "global_step")


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
        said = " ".join(str(error).split())
        return f"{type(error).__name__}: {said[:120]}" if said else type(error).__name__
    if not isinstance(content, dict):
        return f"it holds a {type(content).__name__}"
    missing = [key for key in NEEDED if key not in content]
    return f"it lacks {', '.join(missing)}" if missing else None


def set_aside_damaged(run_folder: Path, stage: str) -> str | None:
    """Let a stage begin anew where its checkpoint is damaged; returns what is wrong with it, None where nothing is.

    The damaged file stays beside its place until the stage is done. The stage's best model so far goes: it is made
    again, to the bit, by the same steps.
    """
    checkpoint = last_checkpoint(run_folder, stage)
    if not checkpoint.is_file() or (damage := damage_of(checkpoint)) is None:
        return None
    checkpoint.replace(_aside(checkpoint))
    shutil.rmtree(checkpoint.parent / "best", ignore_errors=True)
    return damage


def remove_checkpoints(run_folder: Path, stage: str) -> None:
    """Remove what a stage that is done needs no more."""
    checkpoint = last_checkpoint(run_folder, stage)
    for file in (checkpoint, _aside(checkpoint)):
        file.unlink(missing_ok=True)


def _aside(checkpoint: Path) -> Path:
    return checkpoint.with_name(f"{checkpoint.name}.damaged")
