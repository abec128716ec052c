"""Retrieval and selection of any encoder on a catalogue, from a configuration to records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from e2fashion.arithmetic import measuring_precision, set_threads
from e2fashion.config import split_names
from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder
from e2fashion.measuring import identity_of, load_named, results_file, to_device
from e2fashion.tasks.localization.measure import check_methods, measure_selection
from e2fashion.tasks.retrieval.config import EvaluateConfig
from e2fashion.tasks.retrieval.measure import CANDIDATES, MeasureSettings, measure_retrieval
from e2fashion.tasks.retrieval.protocols import protocol_named
from e2fashion.types import ResultRecord


def evaluate(config: EvaluateConfig, progress: bool = True) -> tuple[Path, list[ResultRecord]]:
    """Measure retrieval with any encoder, and where it looks; the records, and the file where they belong.

    Raises:
        E2FashionError: a mistake in the configuration, or a model or catalogue that cannot be read.
    """
    set_threads(config.threads)
    catalogue = Catalogue.load(config.data)
    for split in split_names(config.split):
        catalogue.split(split)
    for protocol in split_names(config.protocol):
        protocol_named(protocol)
    check_methods(split_names(config.selection))
    encoder, run = load_named(config, config.text)
    # Ranks to compare with other runs are kept of the model as it was trained, not of what was tried with it.
    as_trained = (config.text, config.resize, config.size) == (None, None, None) and config.with_tags
    config = replace(config, precision=measuring_precision(config))
    keeps_ranks = run.config.is_file() and as_trained and config.precision == "fp32"
    results = results_file(config.output, run, "evaluate", encoder)
    candidates = Path(config.candidates) if config.candidates else results.parent / CANDIDATES
    rankings = run.rankings if keeps_ranks else None
    return results, measure(encoder, catalogue, config, run.read_record(), candidates, progress, rankings)


def measure(
    encoder: Encoder,
    catalogue: Catalogue,
    config: EvaluateConfig,
    run: dict[str, Any],
    candidates: Path,
    progress: bool,
    rankings: Path | None = None,
) -> list[ResultRecord]:
    """The records of ``config`` for an encoder that is loaded; ``run`` is what ``record.json`` of its folder says."""
    to_device(encoder, config.accelerator)
    template = encoder.template if config.with_tags else encoder.template.without_tags()
    settings = MeasureSettings(
        protocols=split_names(config.protocol),
        queries=config.queries,
        draws=config.draws,
        fill=config.fill,
        seed=config.seed,
        candidate_folder=candidates,
        rankings_folder=rankings,
        batch_size=config.batch_size,
        workers=config.workers,
        precision=measuring_precision(config),
        progress=progress,
        with_tags=config.with_tags,
    )
    made_by = identity_of(run)
    splits = split_names(config.split)
    records = [
        record
        for split in (splits if settings.protocols else ())
        for record in measure_retrieval(encoder, catalogue, split, template, settings, made_by)
    ]
    methods = split_names(config.selection)
    return records + measure_selection(encoder, catalogue, splits, methods, settings, made_by)
