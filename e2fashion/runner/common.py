"""What several verbs do: name an encoder, keep its records, bound the threads."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import torch
from torch import nn

from e2fashion import build
from e2fashion.arithmetic import multiplies_bf16, resolve_precision
from e2fashion.config import load_config
from e2fashion.eval.encoder import Encoder, load_encoder
from e2fashion.eval.report import write_tables
from e2fashion.records import RunIdentity, append_records, read_records
from e2fashion.run_folder import RunFolder
from e2fashion.schema import RunConfig
from e2fashion.schema.common import Accelerator
from e2fashion.types import E2FashionError, ResultRecord

logger = logging.getLogger(__name__)


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
    return run.results if run.config.is_file() else Path("runs") / verb / encoder.name / "results.jsonl"


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
