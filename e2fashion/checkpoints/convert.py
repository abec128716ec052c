"""A checkpoint from one layout into another, with notes on everything that the other layout does not hold."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from e2fashion.checkpoints.config import ConvertConfig
from e2fashion.checkpoints.open_clip import CONFIG_FILE
from e2fashion.checkpoints.read import import_checkpoint
from e2fashion.checkpoints.siglip import import_siglip
from e2fashion.checkpoints.write import export_checkpoint
from e2fashion.disk.outputs import write_output
from e2fashion.encoder import Encoder
from e2fashion.measuring import load_named_encoder
from e2fashion.types import E2FashionError

FACTS_FILE = "convert.json"
OURS = "folder"
#: Keys that mean something in one direction alone.
READING_ONLY = ("tokenizer", "config", "vision_heads", "text_heads", "resize", "template", "check", "tolerance")
WRITING_ONLY = ("lossy",)
#: Keys that change nothing in what is written.
NOT_IDENTITY = ("checkpoint", "output", "overwrite")


def convert(config: ConvertConfig) -> list[str]:
    """Convert, or find the same conversion; notes on what was read, what was left behind and what is lost.

    Raises:
        E2FashionError: the layouts or keys contradict each other, the output holds something else, or whatever is wrong
            with the checkpoint.
    """
    if (config.source == OURS) == (config.target == OURS):
        raise E2FashionError(
            f"source is {config.source} and target is {config.target}: name the layout of the checkpoint as source= "
            "(openai, open_clip, open_clip_siglip, e2_official), or as target= the one to write a model of ours in"
        )
    _check_keys(config)
    folder = Path(config.output)
    encoder = None if config.target == OURS else _model_of(config)
    identity = {
        "checkpoint": _sha256(Path(config.checkpoint)) if encoder is None else encoder.fingerprint,
        "files": _other_files(config),
        **{key: value for key, value in asdict(config).items() if key not in NOT_IDENTITY},
    }

    def write(fresh: Path) -> dict[str, Any]:
        if encoder is not None:
            notes = export_checkpoint(encoder, fresh, config)
        else:
            imported = (import_siglip if config.source == "open_clip_siglip" else import_checkpoint)(config)
            file = Path(config.checkpoint).name
            imported.save(fresh, folder.name, f"Converted by e2fashion from `{file}` (layout: {config.source})")
            notes = imported.notes
        return {"from": config.checkpoint, "identity": identity, "said": notes}

    wanted = {"identity": identity}
    facts = write_output(folder, FACTS_FILE, wanted, write, "the conversion of '{from}'", config.overwrite)
    return list(facts["said"])


def _check_keys(config: ConvertConfig) -> None:
    """Keys of the other direction must be as they are by default."""
    other, key = (WRITING_ONLY, "target=") if config.target == OURS else (READING_ONLY, "source=")
    defaults = {item.name: item.default for item in fields(ConvertConfig)}
    useless = [name for name in other if getattr(config, name) != defaults[name]]
    if useless:
        raise E2FashionError(f"{', '.join(useless)} belong to a conversion with {key}: leave them out")


def _model_of(config: ConvertConfig) -> Encoder:
    encoder = load_named_encoder(config.checkpoint)
    uses = {getattr(encoder.model.config, tower).hidden_act for tower in ("vision_config", "text_config")}
    if config.activation and uses != {config.activation}:
        raise E2FashionError(f"activation is {config.activation}, and '{config.checkpoint}' has {', '.join(uses)}")
    return encoder


def _other_files(config: ConvertConfig) -> dict[str, str]:
    """SHA-256 of the small files that a conversion reads besides the checkpoint."""
    named = (config.config, config.check, str(Path(config.checkpoint).parent / CONFIG_FILE))
    return {file: _sha256(Path(file)) for file in named if file and Path(file).is_file()}


def _sha256(file: Path) -> str:
    if not file.is_file():
        what = "a folder" if file.is_dir() else "not there"
        raise E2FashionError(
            f"'{file}' is {what}: source= reads a state dict's file (.safetensors, .pt); a model folder is written "
            "in another layout with target="
        )
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
