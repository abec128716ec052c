"""What every measurement of an encoder begins with: the encoder that was named, its device, where its records go."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from e2fashion.arithmetic import build_device, measuring_precision, set_threads
from e2fashion.config import read_yaml
from e2fashion.disk import DamagedError, file_name
from e2fashion.encoder import Encoder, load_encoder
from e2fashion.options import Measuring, check_schema
from e2fashion.records import RunIdentity
from e2fashion.run_folder import REMEDY, RunFolder

if TYPE_CHECKING:
    from e2fashion.data.catalogue import Catalogue

Config = TypeVar("Config", bound=Measuring)


class NamesEncoder(Protocol):
    """The keys by which a configuration names an encoder; see :class:`e2fashion.options.Measuring`."""

    model: str
    name: str | None
    resize: Literal["squeeze", "crop", "pad"] | None
    size: int | None


@dataclass(frozen=True)
class Setup:
    """An encoder on its device, the catalogue, the run folder (of a run or not), and the file of the records."""

    encoder: Encoder
    catalogue: Catalogue
    run: RunFolder
    results: Path

    @property
    def identity(self) -> RunIdentity:
        """Which run the encoder comes from, see :func:`identity_of_run`."""
        return identity_of_run(self.run)

    @property
    def features(self) -> Path:
        """The folder of cached features, next to the records."""
        return self.results.parent / "features"


def set_up(
    config: Config, verb: str, catalogue: Catalogue | None = None, template: str | None = None
) -> tuple[Config, Setup]:
    """Open the catalogue (unless it is given) and load the encoder; ``precision: auto`` is resolved in what returns.

    Raises:
        E2FashionError: a mistake in the configuration, or a catalogue or a model that cannot be read.
    """
    from e2fashion.data.catalogue import Catalogue  # here: a search loads an encoder and opens no catalogue

    check_schema(config)
    set_threads(config.threads)
    catalogue = catalogue or Catalogue.load(config.data)
    encoder, run = load_named(config, template)
    config = replace(config, precision=measuring_precision(config))
    to_device(encoder, config.accelerator)
    return config, Setup(encoder, catalogue, run, results_file(config.output, run, verb, encoder))


def load_named(config: NamesEncoder, template: str | None = None) -> tuple[Encoder, RunFolder]:
    """The encoder that a configuration names, called as its run is called, and the run folder if it is one."""
    run = RunFolder(Path(config.model))
    name = config.name or name_of_run(run)
    return load_encoder(config.model, name=name, template=template, resize=config.resize, size=config.size), run


def load_named_encoder(name_or_folder: str) -> Encoder:
    """The encoder of a run folder, a model folder or a hub name, called as its run is called."""
    return load_encoder(name_or_folder, name=name_of_run(RunFolder(Path(name_or_folder))))


def name_of_run(run: RunFolder) -> str | None:
    """What a run is called by its configuration; None for any other folder."""
    return str(read_yaml(run.config).get("name", "run")) if run.config.is_file() else None


def results_file(output: str | None, run: RunFolder, verb: str, encoder: Encoder) -> Path:
    """Where a verb's records go: the file that was named, else the run's, else one of the verb's."""
    if output:
        return Path(output)
    return run.results if run.config.is_file() else Path("runs") / verb / file_name(encoder.name) / "results.jsonl"


def to_device(encoder: Encoder, accelerator: str) -> None:
    """Move the encoder to where it shall compute."""
    encoder.to(build_device(accelerator))


def encoding_of(encoder: Encoder, precision: str) -> dict[str, Any]:
    """The values of :data:`e2fashion.records.ENCODING` of what this encoder embeds."""
    return {"image_size": encoder.transform.size, "resize": encoder.transform.resize, "precision": precision}


def identity_of_run(run: RunFolder) -> RunIdentity:
    """Which run the records of a folder's model come from.

    Raises:
        DamagedError: the folder holds a run whose record is missing or whose model is damaged or edited.
    """
    record = run.read_record()
    if not record and run.config.is_file() and run.model.is_dir():
        raise DamagedError(f"{run.record} is missing: results could not be attributed to the run. {REMEDY}")
    run.check_model()
    return identity_of(record)


def identity_of(run: dict[str, Any]) -> RunIdentity:
    """Which run a record comes from, by what ``record.json`` of its folder says (empty: no run of ours)."""
    return RunIdentity(run.get("identity", ""), run.get("commit") or "", run.get("seed", 0))
