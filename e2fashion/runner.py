"""What each verb does: a resolved configuration goes in, a run folder that explains itself comes out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from e2fashion import build
from e2fashion.config import differences, load_config, run_identity, save_config, split_names, split_numbers
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.describe import describe_catalogue
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.data.text import TextTemplate
from e2fashion.eval.encoder import Encoder, load_encoder
from e2fashion.eval.measure import CANDIDATES, MeasureSettings, RunIdentity, measure_retrieval
from e2fashion.eval.probe import ProbeSettings, measure_probe
from e2fashion.eval.probe_figures import add_probe_figures
from e2fashion.eval.protocols import protocol_named
from e2fashion.eval.report import write_comparison, write_tables
from e2fashion.eval.results import append_records, read_records
from e2fashion.eval.selection import check_methods, measure_selection
from e2fashion.measured import TOKENS, stored_records, unmeasured
from e2fashion.modules.callbacks import RunInterruptedError
from e2fashion.run_folder import RunFolder
from e2fashion.schema import CompareConfig, DescribeConfig, EvaluateConfig, PrepareConfig, ProbeConfig, RunConfig
from e2fashion.training import is_first_process, train_stages
from e2fashion.types import E2FashionError, ResultRecord

logger = logging.getLogger(__name__)


def prepare(config: PrepareConfig, source_options: dict[str, Any], progress: bool = True) -> str:
    """Turn a source into a catalogue; a repeated call returns the one that is there."""
    catalogue = prepare_catalogue(
        build.build_source(config.source, source_options),
        config.output,
        on_error=config.on_error,
        seed=config.split_seed,
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        max_text_characters=config.max_text_characters,
        max_pixels=config.max_pixels,
        progress=progress,
        overwrite=config.overwrite,
    )
    skipped = sum(catalogue.manifest.skipped.values())
    counts = ", ".join(f"{split} {n['products']:,}" for split, n in catalogue.manifest.splits.items())
    left_out = f"; {skipped} rows skipped, listed in {Path(config.output) / 'skipped.csv'}" if skipped else ""
    return f"{config.output}: products: {counts}{left_out}"


def describe(config: DescribeConfig) -> str:
    """What a catalogue holds, to read."""
    catalogue = Catalogue.load(config.catalogue)
    counting = build.build_token_counting(config)
    return describe_catalogue(catalogue, template=TextTemplate(config.template), **counting).as_text()


def train(place: Path, overrides: Sequence[str] = (), progress: bool = True) -> str:
    """Train the run of a configuration file, or go on with the run of a folder; evaluate its best model."""
    if place.is_dir():
        file = RunFolder(place).config
        if not file.is_file():
            raise E2FashionError(f"'{place}' is no run folder: it has no config.yaml. Give a configuration file.")
        config = load_config(RunConfig, file, [f"output={place}", *overrides])
    else:
        config = load_config(RunConfig, place, overrides)
    folder = train_run(config, progress)
    if not is_first_process():
        return ""
    return f"{folder.path}: best model in {folder.model}\n\n" + write_tables(
        read_records(folder.results), folder.report
    )


def train_run(config: RunConfig, progress: bool = True) -> RunFolder:
    """Train every stage that is not done yet and evaluate the best model on the splits that the run names.

    Where several processes train together the first one alone writes and evaluates.

    Raises:
        E2FashionError: a mistake in the configuration or the data, a loss that is not finite, or an interrupt (the
            message says how to go on).
    """
    _set_threads(config.threads)
    catalogue = Catalogue.load(config.data)
    device = build.build_device(config.accelerator)
    build.check_run(config, catalogue)
    folder = RunFolder(Path(config.output))
    if not is_first_process():
        _help_training(config, catalogue, folder)
        return folder
    identity = run_identity(config, catalogue.fingerprint)
    other = folder.read_record().get("identity", identity) != identity
    folder.open(identity, catalogue.fingerprint, device, _differences(config, folder) if other else "")
    save_config(config, folder.config)
    handler = folder.log_to_file()
    try:
        train_stages(config, catalogue, folder, progress)
        encoder = load_encoder(str(folder.model), name=config.name)
        _results_of(folder, encoder, catalogue, config, split_names(config.evaluate_splits), progress)
    except E2FashionError as error:
        if isinstance(error, RunInterruptedError):
            error = RunInterruptedError(f"interrupted. Go on with: e2fashion train {folder.path}")
        # Whoever called shows it; the log keeps it.
        handler.handle(logger.makeRecord(logger.name, logging.ERROR, "", 0, str(error), (), None))
        raise error
    finally:
        logging.getLogger("e2fashion").removeHandler(handler)
        handler.close()
    return folder


def _help_training(config: RunConfig, catalogue: Catalogue, folder: RunFolder) -> None:
    """What the other processes of a run do: train, and leave the talking to the first."""
    try:
        train_stages(config, catalogue, folder, progress=False)
    except RunInterruptedError as interruption:
        raise RunInterruptedError from interruption


def evaluate(config: EvaluateConfig, progress: bool = True) -> str:
    """Measure retrieval (and where it looks) with any encoder, append the records and show them as a table."""
    _set_threads(config.threads)
    catalogue = Catalogue.load(config.data)
    for split in split_names(config.split):
        catalogue.split(split)
    for protocol in split_names(config.protocol):
        protocol_named(protocol)
    check_methods(split_names(config.selection))
    encoder, run = _load_named(config, config.text)
    of_run = run.config.is_file()
    # Ranks to compare with other runs are kept of the model as it was trained, not of what was tried with it.
    as_trained = of_run and (config.text, config.resize, config.size) == (None, None, None) and config.with_tags
    rankings = run.rankings if as_trained and config.precision == "fp32" else None
    results = _results_file(config.output, run, "evaluate", encoder)
    candidates = Path(config.candidates) if config.candidates else results.parent / CANDIDATES
    records = _measure(encoder, catalogue, config, run.read_record(), candidates, progress, rankings)
    append_records(results, records)
    if of_run:
        write_tables(read_records(run.results), run.report)
    return f"{len(records)} records appended to {results}\n\n" + write_tables(records)


def probe(config: ProbeConfig, progress: bool = True) -> str:
    """Measure linear probes of any encoder, append the records and show them as a table."""
    results, records = probe_records(config, progress)
    append_records(results, records)
    run = RunFolder(Path(config.model))
    if results == run.results:
        write_tables(read_records(results), run.report)
    return f"{len(records)} records appended to {results}\n\n" + write_tables(records)


def probe_records(config: ProbeConfig, progress: bool = True) -> tuple[Path, list[ResultRecord]]:
    """The records of linear probes, and the file where they belong; features are kept beside it."""
    _set_threads(config.threads)
    catalogue = Catalogue.load(config.data)
    encoder, run = _load_named(config)
    results = _results_file(config.output, run, "probe", encoder)
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
        precision=config.precision,
        progress=progress,
    )
    cast(nn.Module, encoder.model).to(build.build_device(config.accelerator))
    return results, measure_probe(encoder, catalogue, settings, _made_by(run.read_record()))


def compare(files: Sequence[Path], overrides: Sequence[str], progress: bool = True) -> str:
    """Train a run per configuration file on one catalogue, evaluate each, and write one report."""
    own = [word for word in overrides if word.partition("=")[0] in ("data", "output", "split", "gallery_products")]
    config = load_config(CompareConfig, None, own)
    shared = [word for word in overrides if word not in own]
    output = Path(config.output)
    catalogue = Catalogue.load(config.data)
    runs = [_run_of(file, shared, config.data, output) for file in files]
    names = [run.name for run in runs]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise E2FashionError(f"Two configurations are called '{doubled}'. Give each a name of its own.")
    for run in runs:
        build.check_run(run, catalogue)
    encoders: list[Encoder] = []
    records: list[ResultRecord] = []
    for run in runs:
        folder = train_run(run, progress)
        if is_first_process():
            encoders.append(load_encoder(str(folder.model), name=run.name))
            records += _results_of(folder, encoders[-1], catalogue, run, [config.split], progress)
    file = RunFolder(output).report
    if not is_first_process():
        return ""
    lines = _comparison_lines(catalogue, config.split, output, names)
    write_comparison(file, records, encoders, catalogue, config.split, config.gallery_products, lines, progress)
    return file.read_text(encoding="utf-8")


def report(places: Sequence[Path], overrides: Sequence[str] = ()) -> str:
    """Tables from the records of several runs or files; ``output=<file.md>`` keeps them, and figures of probes."""
    options = dict(word.partition("=")[::2] for word in overrides)
    unknown = sorted(set(options) - {"output"})
    if unknown or not places:
        raise E2FashionError(
            f"report takes run folders or results.jsonl files and output=<file.md>; got {unknown or 'no places'}."
        )
    records: list[ResultRecord] = []
    for place in places:
        file = RunFolder(place).results if place.is_dir() else place
        if not file.is_file():
            raise E2FashionError(f"'{place}' holds no records: {file} does not exist. Run `e2fashion evaluate` first.")
        records += read_records(file)
    if "output" not in options:
        return write_tables(records)
    file = Path(options["output"])
    return write_tables(records, file) + add_probe_figures(records, file)


def _comparison_lines(catalogue: Catalogue, split: str, output: Path, names: Sequence[str]) -> list[str]:
    """What was compared on what, and what it cost."""
    lines = [
        f"Catalogue `{catalogue.manifest.name}` ({catalogue.fingerprint[:12]}), {split}. The model of the best epoch "
        "on val; hits and candidates as each table says.\n",
        "| run | parameters | of these E2's | minutes | best epoch |\n|---|---:|---:|---:|---:|",
    ]
    for name in names:
        record = RunFolder(output / name).read_record()
        stages = [stage for stage in record["stages"].values() if "seconds" in stage]
        minutes = sum(stage["seconds"] for stage in stages) / 60
        added = "n/a"  # of a run that an earlier version trained
        if "added_percent" in record:
            added = f"{record['added_parameters'] / 1e6:.2f} M, + {record['added_percent']:.1f} %"
        lines.append(
            f"| {name} | {record['parameters'] / 1e6:.2f} M | {added} | {minutes:.1f} | {stages[-1]['best_epoch']} |"
        )
    return lines


def _run_of(file: Path, overrides: Sequence[str], data: str, output: Path) -> RunConfig:
    name = load_config(RunConfig, file, [*overrides, f"data={data}"]).name
    return load_config(RunConfig, file, [*overrides, f"data={data}", f"output={output / name}"])


def _differences(config: RunConfig, folder: RunFolder) -> str:
    """What the run that lies in the folder has otherwise, in words; empty where only the data differ."""
    if not folder.config.is_file():
        return ""
    found = differences(load_config(RunConfig, folder.config), config)
    return "; ".join(f"{key} is {there} there and {here} here" for key, (there, here) in list(found.items())[:5])


def _results_of(
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
            records = _measure(encoder, catalogue, settings, made_by, lists, progress, folder.rankings)
            append_records(folder.results, records)
    return stored_records(folder, config, catalogue.fingerprint, splits)


def _measure(
    encoder: Encoder,
    catalogue: Catalogue,
    config: EvaluateConfig,
    run: dict[str, Any],
    candidates: Path,
    progress: bool,
    rankings: Path | None = None,
) -> list[ResultRecord]:
    cast(nn.Module, encoder.model).to(build.build_device(config.accelerator))
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
        precision=config.precision,
        progress=progress,
        with_tags=config.with_tags,
    )
    made_by = _made_by(run)
    splits = split_names(config.split)
    records = [
        record
        for split in (splits if settings.protocols else ())
        for record in measure_retrieval(encoder, catalogue, split, template, settings, made_by)
    ]
    methods = split_names(config.selection)
    return records + measure_selection(encoder, catalogue, splits, methods, settings, made_by)


def _load_named(config: EvaluateConfig | ProbeConfig, template: str | None = None) -> tuple[Encoder, RunFolder]:
    """The encoder that a configuration names, called as its run is called, and the run folder if it is one."""
    run = RunFolder(Path(config.model))
    name = config.name or (load_config(RunConfig, run.config).name if run.config.is_file() else None)
    return load_encoder(config.model, name=name, template=template, resize=config.resize, size=config.size), run


def _results_file(output: str | None, run: RunFolder, verb: str, encoder: Encoder) -> Path:
    """Where a verb's records go: the file that was named, else the run's own, else one of the verb's."""
    if output:
        return Path(output)
    return run.results if run.config.is_file() else Path("runs") / verb / encoder.name / "results.jsonl"


def _made_by(run: dict[str, Any]) -> RunIdentity:
    return RunIdentity(run.get("identity", ""), run.get("commit") or "", run.get("seed", 0))


def _set_threads(threads: int | None) -> None:
    if threads is None:
        return
    if threads < 1:
        raise E2FashionError(f"threads is {threads}; give a number from 1, or null for all.")
    torch.set_num_threads(threads)
