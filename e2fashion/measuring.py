"""What every measurement of an encoder begins and ends with: the encoder that was named, its device, its records."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol, cast

from torch import nn

from e2fashion.arithmetic import build_device
from e2fashion.config import read_yaml
from e2fashion.disk import file_name
from e2fashion.encoder import Encoder, load_encoder
from e2fashion.records import RunIdentity
from e2fashion.run_folder import RunFolder


class NamesEncoder(Protocol):
    """The keys by which a configuration names an encoder; see :class:`e2fashion.options.Measuring`."""

    model: str
    name: str | None
    resize: Literal["squeeze", "crop", "pad"] | None
    size: int | None


def load_named(config: NamesEncoder, template: str | None = None) -> tuple[Encoder, RunFolder]:
    """The encoder that a configuration names, called as its run is called, and the run folder if it is one."""
    run = RunFolder(Path(config.model))
    name = config.name or (name_of_run(run))
    return load_encoder(config.model, name=name, template=template, resize=config.resize, size=config.size), run


def load_named_encoder(place: str) -> Encoder:
    """The encoder of a run folder, a model folder or a hub name, called as its run is called."""
    run = RunFolder(Path(place))
    return load_encoder(place, name=name_of_run(run))


def name_of_run(run: RunFolder) -> str | None:
    """What a run is called by its configuration; None for any other folder."""
    return str(read_yaml(run.config).get("name", "run")) if run.config.is_file() else None


def results_file(output: str | None, run: RunFolder, verb: str, encoder: Encoder) -> Path:
    """Where a verb's records go: the file that was named, else the run's own, else one of the verb's."""
    if output:
        return Path(output)
    return run.results if run.config.is_file() else Path("runs") / verb / file_name(encoder.name) / "results.jsonl"


def to_device(encoder: Encoder, accelerator: str) -> None:
    """Move the encoder to where it shall compute."""
    cast(nn.Module, encoder.model).to(build_device(accelerator))


def identity_of(run: dict[str, Any]) -> RunIdentity:
    """Which run a record comes from, by what ``record.json`` of its folder says (empty: no run of ours)."""
    return RunIdentity(run.get("identity", ""), run.get("commit") or "", run.get("seed", 0))
