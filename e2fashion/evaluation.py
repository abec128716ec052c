"""Retrieval and selection of any encoder on a catalogue, from a configuration to records."""

from __future__ import annotations

from pathlib import Path

from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder
from e2fashion.measuring import set_up, to_device
from e2fashion.options import check_schema
from e2fashion.records import RunIdentity
from e2fashion.tasks.localization.attribution import check_methods
from e2fashion.tasks.localization.measure import measure_selection
from e2fashion.tasks.retrieval.config import EvaluateConfig
from e2fashion.tasks.retrieval.measure import CANDIDATES, measure_retrieval
from e2fashion.tasks.retrieval.protocols import protocol_named
from e2fashion.types import ResultRecord


def evaluate(config: EvaluateConfig, progress: bool = True) -> tuple[Path, list[ResultRecord]]:
    """Measure retrieval and selection with any encoder: the records, and the file where they belong.

    Raises:
        E2FashionError: a mistake in the configuration, or a model or catalogue that cannot be read.
    """
    check_schema(config)
    catalogue = Catalogue.load(config.data)
    for split in config.split:
        catalogue.split(split)
    for protocol in config.protocol:
        protocol_named(protocol)
    config, setup = set_up(config, "evaluate", catalogue, config.text)
    # Ranks to compare with other runs are kept of the model as it was trained, not of what was tried with it.
    as_trained = (config.text, config.resize, config.size) == (None, None, None) and config.with_tags
    keeps_ranks = setup.run.config.is_file() and as_trained and config.precision == "fp32"
    candidates = Path(config.candidates) if config.candidates else setup.results.parent / CANDIDATES
    rankings = setup.run.rankings if keeps_ranks else None
    records = measure(setup.encoder, catalogue, config, setup.identity, candidates, rankings, progress)
    return setup.results, records


def measure(
    encoder: Encoder,
    catalogue: Catalogue,
    config: EvaluateConfig,
    run: RunIdentity,
    candidates: Path,
    rankings: Path | None,
    progress: bool = True,
) -> list[ResultRecord]:
    """The records of ``config`` for a loaded encoder, see :func:`.measure_retrieval` and :func:`.measure_selection`."""
    check_methods(config.selection, "selection", encoder)
    to_device(encoder, config.accelerator)
    records: list[ResultRecord] = []
    for split in config.split if config.protocol else ():
        records += measure_retrieval(
            encoder, catalogue, split, config, run, candidates=candidates, rankings=rankings, progress=progress
        )
    return records + measure_selection(
        encoder, catalogue, config.split, config.selection, config, run, progress=progress
    )
