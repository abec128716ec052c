"""``probe``: fit linear probes to the features of any encoder."""

from __future__ import annotations

from pathlib import Path

from e2fashion.arithmetic import measuring_precision, set_threads
from e2fashion.config import split_names, split_numbers
from e2fashion.data.catalogue import Catalogue
from e2fashion.measuring import identity_of, load_named, results_file, to_device
from e2fashion.report import keep_records
from e2fashion.tasks.probing.config import ProbeConfig
from e2fashion.tasks.probing.probe import ProbeSettings, measure_probe
from e2fashion.types import ResultRecord


def probe(config: ProbeConfig, progress: bool = True) -> str:
    """Measure linear probes of any encoder, append the records and show them as a table."""
    results, records = probe_records(config, progress)
    return keep_records(results, records, config.model)


def probe_records(config: ProbeConfig, progress: bool = True) -> tuple[Path, list[ResultRecord]]:
    """The records of linear probes, and the file where they belong; features are kept beside it."""
    set_threads(config.threads)
    catalogue = Catalogue.load(config.data)
    encoder, run = load_named(config)
    results = results_file(config.output, run, "probe", encoder)
    settings = ProbeSettings(
        entities=split_names(config.entity),
        folder=results.parent / "features",
        features=split_names(config.features),
        split=config.split,
        min_examples=config.min_examples,
        fibre_columns=split_names(config.fibre_columns),
        shots=split_numbers("shots", config.shots),
        draws=config.draws,
        strengths=config.strengths,
        tolerance=config.tolerance,
        max_iterations=config.max_iterations,
        resamples=config.resamples,
        seed=config.seed,
        batch_size=config.batch_size,
        workers=config.workers,
        precision=measuring_precision(config),
        progress=progress,
    )
    to_device(encoder, config.accelerator)
    return results, measure_probe(encoder, catalogue, settings, identity_of(run.read_record()))
