"""What several verbs do: name an encoder, keep its records, bound the threads."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import torch
from torch import nn

from e2fashion.arithmetic import multiplies_bf16, resolve_precision
from e2fashion.config import load_config
from e2fashion.disk import DamagedError, check_files, check_replaceable, file_name, read_json
from e2fashion.encoder import Encoder, load_encoder
from e2fashion.records import RunIdentity, append_records, read_records
from e2fashion.report import write_tables
from e2fashion.run_folder import RunFolder
from e2fashion.schema import RunConfig
from e2fashion.schema.common import Accelerator
from e2fashion.training import build
from e2fashion.types import E2FashionError, ResultRecord

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


class NamesEncoder(Protocol):
    """The keys by which a configuration names an encoder; see :class:`e2fashion.schema.EvaluateConfig`."""

    model: str
    name: str | None
    resize: Literal["squeeze", "crop", "pad"] | None
    size: int | None


def load_named(config: NamesEncoder, template: str | None = None) -> tuple[Encoder, RunFolder]:
    """The encoder that a configuration names, called as its run is called, and the run folder if it is one."""
    run = RunFolder(Path(config.model))
    name = config.name or (load_config(RunConfig, run.config).name if run.config.is_file() else None)
    return load_encoder(config.model, name=name, template=template, resize=config.resize, size=config.size), run


def load_named_encoder(place: str) -> Encoder:
    """The encoder of a run folder, a model folder or a hub name, called as its run is called."""
    run = RunFolder(Path(place))
    return load_encoder(place, name=load_config(RunConfig, run.config).name if run.config.is_file() else None)


def results_file(output: str | None, run: RunFolder, verb: str, encoder: Encoder) -> Path:
    """Where a verb's records go: the file that was named, else the run's own, else one of the verb's."""
    if output:
        return Path(output)
    return run.results if run.config.is_file() else Path("runs") / verb / file_name(encoder.name) / "results.jsonl"


def to_device(encoder: Encoder, accelerator: str) -> None:
    """Move the encoder to where it shall compute."""
    cast(nn.Module, encoder.model).to(build.build_device(accelerator))


def log_arithmetic(reasons: Mapping[str, str], device: torch.device) -> None:
    """Say what is computed in, and why; a warning where bf16 was asked for and is emulated."""
    for name, reason in reasons.items():
        emulated = name == "precision" and reason.startswith("bf16") and not multiplies_bf16(device)
        logger.log(logging.WARNING if emulated else logging.INFO, "%s %s", name, reason)


class ChoosesPrecision(Protocol):
    """The keys that say in which arithmetic an encoder is measured, and where."""

    accelerator: Accelerator
    precision: Literal["auto", "fp32", "bf16"]


def measuring_precision(config: ChoosesPrecision) -> Literal["fp32", "bf16"]:
    """The precision of an encoder that is only measured; the log says what ``auto`` means here."""
    device = build.build_device(config.accelerator)
    used, reason = resolve_precision(config.precision, device)
    if config.precision != "fp32":
        log_arithmetic({"precision": f"{used}: {reason}"}, device)
    return cast(Literal["fp32", "bf16"], used)


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


def keep_records(results: Path, run: RunFolder, records: Sequence[ResultRecord]) -> None:
    """Append records; where they are the run's own, its report is written anew."""
    append_records(results, records)
    if results == run.results:
        write_tables(read_records(results), run.report)


def identity_of(run: dict[str, Any]) -> RunIdentity:
    """Which run a record comes from, by what ``record.json`` of its folder says (empty: no run of ours)."""
    return RunIdentity(run.get("identity", ""), run.get("commit") or "", run.get("seed", 0))


def set_threads(threads: int | None) -> None:
    """Let this process compute with so many threads; None leaves them as they are."""
    if threads is None:
        return
    if threads < 1:
        raise E2FashionError(f"threads is {threads}; give a number from 1, or null for all.")
    torch.set_num_threads(threads)
