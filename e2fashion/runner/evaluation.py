"""``evaluate``: measure retrieval, and where selection looks, with any encoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from e2fashion.config import split_names
from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder
from e2fashion.measured import TOKENS, stored_records, unmeasured
from e2fashion.records import append_records, read_records
from e2fashion.report import write_tables
from e2fashion.run_folder import RunFolder
from e2fashion.runner.common import identity_of, load_named, measuring_precision, results_file, set_threads, to_device
from e2fashion.schema import EvaluateConfig, RunConfig
from e2fashion.tasks.localization.measure import check_methods, measure_selection
from e2fashion.tasks.retrieval.measure import CANDIDATES, MeasureSettings, measure_retrieval
from e2fashion.tasks.retrieval.protocols import protocol_named
from e2fashion.types import ResultRecord


def evaluate(config: EvaluateConfig, progress: bool = True) -> str:
    """Measure retrieval (and where it looks) with any encoder, append the records and show them as a table."""
    set_threads(config.threads)
    catalogue = Catalogue.load(config.data)
    for split in split_names(config.split):
        catalogue.split(split)
    for protocol in split_names(config.protocol):
        protocol_named(protocol)
    check_methods(split_names(config.selection))
    encoder, run = load_named(config, config.text)
    of_run = run.config.is_file()
    # Ranks to compare with other runs are kept of the model as it was trained, not of what was tried with it.
    as_trained = of_run and (config.text, config.resize, config.size) == (None, None, None) and config.with_tags
    config = replace(config, precision=measuring_precision(config))
    rankings = run.rankings if as_trained and config.precision == "fp32" else None
    results = results_file(config.output, run, "evaluate", encoder)
    candidates = Path(config.candidates) if config.candidates else results.parent / CANDIDATES
    records = measure(encoder, catalogue, config, run.read_record(), candidates, progress, rankings)
    append_records(results, records)
    if of_run:
        write_tables(read_records(run.results), run.report)
    return f"{len(records)} records appended to {results}\n\n" + write_tables(records)


def results_of(
    folder: RunFolder, encoder: Encoder, catalogue: Catalogue, config: RunConfig, splits: list[str], progress: bool
) -> list[ResultRecord]:
    """The records of the run's protocols and selection; those that ``results.jsonl`` lacks are measured first."""
    for split in splits:
        missing = unmeasured(folder, config, catalogue.fingerprint, split)
        settings = EvaluateConfig(
            model=str(folder.path),
            data=config.data,
            protocol=",".join(protocol for protocol in missing if protocol != TOKENS),
            split=split,
            selection=TOKENS if TOKENS in missing else "",
            batch_size=config.loader.evaluation_batch_size,
            workers=config.loader.workers,
            accelerator=config.accelerator,
        )
        if missing:
            made_by, lists = folder.read_record(), folder.path / CANDIDATES
            records = measure(encoder, catalogue, settings, made_by, lists, progress, folder.rankings)
            append_records(folder.results, records)
    return stored_records(folder, config, catalogue.fingerprint, splits)


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
