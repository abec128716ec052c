"""``convert``: a checkpoint from one layout into another, with everything said that the other does not hold."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any, cast

from e2fashion.checkpoints.config import ConvertConfig
from e2fashion.checkpoints.convert_from import Foreign, ImportSettings, import_checkpoint
from e2fashion.checkpoints.convert_to import export_checkpoint
from e2fashion.checkpoints.open_clip import CONFIG_FILE
from e2fashion.disk import atomic_folder, clear_leftovers, list_files, read_json, recover, seal, write_json
from e2fashion.disk.outputs import check_ours, check_room, is_damaged
from e2fashion.encoder import Encoder
from e2fashion.measuring import load_named_encoder
from e2fashion.types import E2FashionError

FACTS_FILE = "convert.json"
OURS = "folder"
#: Keys that mean something in one direction alone.
READING_ONLY = (
    "tokenizer",
    "config",
    "vision_heads",
    "text_heads",
    "resize",
    "template",
    "check",
    "tolerance",
)
WRITING_ONLY = ("lossy",)
#: Keys that change nothing in what is written.
NOT_IDENTITY = ("checkpoint", "output", "overwrite")


def convert(config: ConvertConfig) -> str:
    """Convert, or find the same conversion there; says what was read, what was left behind and what is lost."""
    if (config.source == OURS) == (config.target == OURS):
        raise E2FashionError(
            f"source is {config.source} and target is {config.target}: name the layout of the checkpoint as source= "
            "(openai, open_clip, e2_official), or as target= the one to write a model of ours in"
        )
    _check_keys(config)
    reading, folder = config.target == OURS, Path(config.output)
    if reading:
        encoder, digest = None, _sha256(Path(config.checkpoint))
    else:
        encoder = _own_model(config)
        digest = encoder.fingerprint
    settings = {key: value for key, value in asdict(config).items() if key not in NOT_IDENTITY}
    identity = {"checkpoint": digest, "files": _beside(config), **settings}
    recover(folder)
    facts = _read_facts(folder)
    same = facts.get("identity") == json.loads(json.dumps(identity))
    if same and not config.overwrite and not is_damaged(folder, facts):
        clear_leftovers(folder)
        return _said(folder, facts["said"])
    if not same:
        held = f"the conversion of '{facts['from']}'" if facts else None
        check_room(folder, held, "conversion", config.overwrite)
    with atomic_folder(folder, partial(check_ours, facts_file=FACTS_FILE)) as fresh:
        if encoder is None:
            said = _import(config, folder.name, fresh)
        else:
            said = export_checkpoint(encoder, fresh, cast(Foreign, config.target), config.fusion_layers, config.lossy)
        content = {"from": config.checkpoint, "identity": identity, "said": said, "files": list_files(fresh)}
        write_json(fresh / FACTS_FILE, seal(content))
    return _said(folder, said)


def _check_keys(config: ConvertConfig) -> None:
    """Keys of the other direction must be as they are by default."""
    other, word = (WRITING_ONLY, "target=") if config.target == OURS else (READING_ONLY, "source=")
    defaults = {item.name: item.default for item in fields(ConvertConfig)}
    useless = [key for key in other if getattr(config, key) != defaults[key]]
    if useless:
        raise E2FashionError(f"{', '.join(useless)} belong to a conversion with {word}: leave them out")


def _own_model(config: ConvertConfig) -> Encoder:
    encoder = load_named_encoder(config.checkpoint)
    found = {getattr(encoder.model.config, tower).hidden_act for tower in ("vision_config", "text_config")}
    if config.activation and found != {config.activation}:
        raise E2FashionError(f"activation is {config.activation}, and '{config.checkpoint}' has {', '.join(found)}")
    return encoder


def _import(config: ConvertConfig, name: str, folder: Path) -> list[str]:
    own = {item.name for item in fields(ImportSettings)}
    settings = ImportSettings(**{key: value for key, value in asdict(config).items() if key in own})
    file = Path(config.checkpoint)
    imported = import_checkpoint(file, settings)
    imported.save(folder, name, f"Converted by e2fashion from `{file.name}` (layout: {config.source})")
    return imported.said


def _beside(config: ConvertConfig) -> dict[str, str]:
    """SHA-256 of the small files that a conversion reads beside the checkpoint."""
    named = (config.config, config.check, str(Path(config.checkpoint).parent / CONFIG_FILE))
    return {place: _sha256(Path(place)) for place in named if place and Path(place).is_file()}


def _sha256(file: Path) -> str:
    if not file.is_file():
        what = "a folder" if file.is_dir() else "not there"
        raise E2FashionError(
            f"'{file}' is {what}: source= reads a state dict's file (.safetensors, .pt); a model folder is written "
            "in another layout with target="
        )
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _read_facts(folder: Path) -> dict[str, Any]:
    file = folder / FACTS_FILE
    return read_json(file, "Remove the folder, or choose another output.") if os.path.lexists(file) else {}


def _said(folder: Path, lines: list[str]) -> str:
    return "\n".join([f"{folder}:", *[f"- {line}" for line in lines]])
