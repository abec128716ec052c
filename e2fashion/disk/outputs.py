"""Folders that exports and conversions write: whether they may be replaced, and whether they are still whole."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from e2fashion.disk import DamagedError, check_files, check_replaceable, read_json
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

#: Names of files that exports and conversions write.
_MODEL_FILES = frozenset(
    [
        "README.md",
        "added_tokens.json",
        "chat_template.jinja",
        "config.json",
        "config_sentence_transformers.json",
        "generation_config.json",
        "image.onnx",
        "image.onnx.data",
        "merges.txt",
        "model.safetensors",
        "modules.json",
        "open_clip_config.json",
        "open_clip_model.safetensors",
        "open_clip_pytorch_model.bin",
        "preprocessor_config.json",
        "processor_config.json",
        "sentence_bert_config.json",
        "special_tokens_map.json",
        "text.onnx",
        "text.onnx.data",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    ]
)


def check_room(folder: Path, held: str | None, kind: str, overwrite: bool) -> None:
    """Refuse a folder that is not empty, unless it holds a ``kind`` of ours (``held`` says which) and may be replaced.

    Raises:
        E2FashionError: the folder holds something that is not replaced.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise E2FashionError(f"'{folder}' holds {held or 'something else'}: choose another output=, or overwrite=true.")
    if held is None:
        raise E2FashionError(f"'{folder}' holds no {kind}, so overwrite=true leaves it alone: choose another output=.")


def is_damaged(folder: Path, facts: dict[str, Any]) -> bool:
    """Whether an output is not what its ``facts`` list any more; a warning says so, and that it is written again."""
    try:
        # A card is there to be edited.
        listed = {name: about for name, about in facts.get("files", {}).items() if name != "README.md"}
        check_files(folder, listed, "It is written again.")
    except DamagedError as damage:
        logger.warning("%s", damage)
        return True
    return False


def check_ours(folder: Path, facts_file: str) -> None:
    """Refuse to replace an output that holds files which we did not write, by the list in its ``facts_file``.

    Raises:
        E2FashionError: it holds another file; the message names it.
    """
    remedy = "Move it elsewhere, or choose another output."
    listed = read_json(folder / facts_file, remedy).get("files")
    names = [file.relative_to(folder).as_posix() for file in folder.rglob("*")]
    # Of an earlier version, which made no list.
    known = [name for name in names if name.rpartition("/")[2] in _MODEL_FILES] if listed is None else listed
    check_replaceable(folder, [*known, facts_file], remedy)
