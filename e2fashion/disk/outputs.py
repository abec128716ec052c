"""Output folders of exports and conversions: written atomically, and recognized by a repeated command."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from e2fashion.disk import (
    DamagedError,
    atomic_folder,
    check_files,
    check_replaceable,
    clear_leftovers,
    list_files,
    read_json,
    recover,
    seal,
    write_json,
)
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

#: Names of files that exports and conversions write.
_MODEL_FILES = frozenset(
    """README.md added_tokens.json chat_template.jinja config.json config_sentence_transformers.json
    generation_config.json image.onnx image.onnx.data merges.txt model.safetensors modules.json open_clip_config.json
    open_clip_model.safetensors open_clip_pytorch_model.bin preprocessor_config.json processor_config.json
    sentence_bert_config.json special_tokens_map.json text.onnx text.onnx.data tokenizer.json tokenizer_config.json
    vocab.json""".split()  # noqa: SIM905
)
_REMEDY = "Move it elsewhere, or choose another output."


def write_output(
    folder: Path,
    facts_file: str,
    wanted: Mapping[str, Any],
    write: Callable[[Path], Mapping[str, Any]],
    held_as: str,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write an output unless ``folder`` already has the same one; returns the content of its ``facts_file``.

    Args:
        folder: the output.
        facts_file: name of the JSON file in it with the facts and the list of files.
        wanted: facts that identify the output.
        write: fills an empty folder, which then replaces ``folder``, and returns its facts.
        held_as: a description of an output for messages, with fields for its facts, as in ``{model}``.
        overwrite: whether an output of ours is replaced.

    Raises:
        E2FashionError: the folder holds something else, or an output that may not be replaced.
    """
    recover(folder)
    file = folder / facts_file
    facts = read_json(file, "Remove the folder, or choose another output.") if os.path.lexists(file) else {}
    wanted = json.loads(json.dumps(wanted))
    same = bool(facts) and all(facts.get(key) == value for key, value in wanted.items())
    if not same and folder.is_dir() and any(folder.iterdir()):
        if not facts:
            also = ", so overwrite=true leaves it alone" if overwrite else ""
            raise E2FashionError(f"'{folder}' holds no output of this command{also}: choose another output=")
        if not overwrite:
            held = held_as.format_map(facts)
            raise E2FashionError(f"'{folder}' holds {held}: choose another output=, or overwrite=true.")
    if same and not overwrite and not _is_damaged(folder, facts):
        clear_leftovers(folder)
        return facts
    with atomic_folder(folder, partial(_check_ours, facts_file=facts_file)) as fresh:
        facts = dict(write(fresh))
        write_json(fresh / facts_file, seal(facts | {"files": list_files(fresh)}))
    return facts


def _is_damaged(folder: Path, facts: dict[str, Any]) -> bool:
    """Whether an output no longer matches its ``facts``; logs a warning that it is written again."""
    try:
        # A card may be edited.
        listed = {name: about for name, about in facts.get("files", {}).items() if name != "README.md"}
        check_files(folder, listed, "It is written again.")
    except DamagedError as damage:
        logger.warning("%s", damage)
        return True
    return False


def _check_ours(folder: Path, facts_file: str) -> None:
    """Raise an E2FashionError for an output with files that are not in the list of its ``facts_file``."""
    listed = read_json(folder / facts_file, _REMEDY).get("files")
    names = [file.relative_to(folder).as_posix() for file in folder.rglob("*")]
    # Of an earlier version, which made no list.
    known = [name for name in names if name.rpartition("/")[2] in _MODEL_FILES] if listed is None else listed
    check_replaceable(folder, [*known, facts_file], _REMEDY)
