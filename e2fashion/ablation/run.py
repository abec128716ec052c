"""Train all stages of one run, then evaluate its best model; several runs on one catalogue with one report."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from e2fashion.ablation.config import CompareConfig
from e2fashion.ablation.state import results_of
from e2fashion.arithmetic import Choice, build_device, set_threads
from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.disk import atomic_folder
from e2fashion.encoder import Encoder, load_encoder
from e2fashion.escape import markdown_code
from e2fashion.hub import StoredSource
from e2fashion.options import check_schema
from e2fashion.report import write_comparison
from e2fashion.run_folder import RunFolder
from e2fashion.tables import MISSING_VALUE, Cell, Table, to_markdown
from e2fashion.tasks.retrieval.config import EvaluateConfig
from e2fashion.tasks.retrieval.measure import region_score_weight, stated_regions
from e2fashion.tasks.retrieval.protocols import FullWithRegions
from e2fashion.training import build
from e2fashion.training.callbacks import RunInterruptedError
from e2fashion.training.checks import check_run
from e2fashion.training.config import RunConfig
from e2fashion.training.fit import is_first_process, recorded_run
from e2fashion.training.identity import differences, run_identity
from e2fashion.training.stages import train_stages
from e2fashion.types import ResultRecord


def train(config: RunConfig, progress: bool = True) -> RunFolder:
    """Train every stage that is not done yet and evaluate the best model on the configured splits.

    With several processes only the first one writes and evaluates.

    Raises:
        E2FashionError: an invalid configuration or catalogue, a loss that is not finite, an interrupt (the message
            states how to resume), or another process that writes the folder.
    """
    check_schema(config)
    set_threads(config.threads)
    catalogue = Catalogue.load(config.data)
    device = build_device(config.accelerator)
    config, arithmetic = build.resolve_arithmetic(config)
    check_run(config, catalogue)
    folder = RunFolder(Path(config.output))
    if not is_first_process():
        _train_further_process(config, catalogue, folder)
        return folder
    with folder.locked():
        _train_first_process(config, catalogue, folder, device, arithmetic, progress)
    return folder


def _train_first_process(
    config: RunConfig,
    catalogue: Catalogue,
    folder: RunFolder,
    device: torch.device,
    arithmetic: dict[str, Choice],
    progress: bool,
) -> None:
    """Train and evaluate as the process that writes the folder."""
    identity = run_identity(config, catalogue.fingerprint)
    other = folder.read_record().get("identity", identity) != identity
    folder.open(identity, catalogue.fingerprint, device, _differences(config, folder) if other else "")
    with recorded_run(folder, config, arithmetic, "train"):
        config = _with_checkpoint(config, folder)
        train_stages(config, catalogue, folder, progress)
        encoder = load_encoder(str(folder.model), name=config.name)
        if FullWithRegions.name in config.protocols:
            _store_region_score_weight(encoder, catalogue, config, folder, progress)
        folder.list_finished()
        results_of(folder, encoder, catalogue, config, config.evaluate_splits, progress)


def _store_region_score_weight(
    encoder: Encoder, catalogue: Catalogue, config: RunConfig, folder: RunFolder, progress: bool
) -> None:
    """Choose the weight of the regional score on val, and keep it with the model, unless it has one or no regions."""
    if encoder.model.config.region_score_weight is not None or not stated_regions(encoder, encoder.template):
        return
    settings = EvaluateConfig(batch_size=config.loader.evaluation_batch_size, workers=config.loader.workers)
    weight, _ = region_score_weight(encoder, catalogue, settings, progress)
    encoder.model.config.region_score_weight = weight
    folder.update_record(files={})
    with atomic_folder(folder.model) as fresh:
        encoder.save_pretrained(fresh)


def _with_checkpoint(config: RunConfig, folder: RunFolder) -> RunConfig:
    """The run with the path of its checkpoint as of its start, so that it can be resumed from another folder."""
    written = config.model.checkpoint
    if written is None:
        return config
    record = folder.read_record().get("checkpoint_place")
    checkpoint = StoredSource.recall(written, record, folder.path, f"the checkpoint of {folder.path}")
    if is_first_process():
        folder.update_record(checkpoint_place=StoredSource.remembered(written, folder.path, checkpoint))
    return replace(config, model=replace(config.model, checkpoint=checkpoint))


def _train_further_process(config: RunConfig, catalogue: Catalogue, folder: RunFolder) -> None:
    """Train without output."""
    try:
        train_stages(_with_checkpoint(config, folder), catalogue, folder, progress=False)
    except RunInterruptedError as interruption:
        raise RunInterruptedError(number=interruption.number) from interruption


def _differences(config: RunConfig, folder: RunFolder) -> str:
    """A description of how the run in the folder differs; empty if only the data differ."""
    if not folder.config.is_file():
        return ""
    differing = differences(load_config(RunConfig, folder.config), config)
    return "; ".join(f"{key} is {there} there and {here} here" for key, (there, here) in list(differing.items())[:5])


def compare(config: CompareConfig, runs: Sequence[RunConfig], progress: bool = True) -> list[ResultRecord]:
    """Train and evaluate every run that is not finished, the baseline first, and write ``report.md``.

    Returns:
        The records of all runs on the split of the report; none in the further processes of a distributed run.

    Raises:
        E2FashionError: a run that does not fit the catalogue, before any is trained, or one that fails.
    """
    folder, catalogue = RunFolder(Path(config.output)), Catalogue.load(config.data)
    for run in runs:
        check_run(run, catalogue)
    encoders: list[Encoder] = []
    records: list[ResultRecord] = []
    with folder.locked() if is_first_process() else nullcontext():
        for run in runs:
            trained = train(run, progress)
            if is_first_process():
                encoders.append(load_encoder(str(trained.model), name=run.name))
                records += results_of(trained, encoders[-1], catalogue, run, [config.split], progress)
        if is_first_process():
            lines = _comparison_lines(catalogue, config.split, folder.path, [run.name for run in runs])
            gallery = config.gallery_products
            write_comparison(folder.report, records, encoders, catalogue, config.split, gallery, lines, progress)
    return records


def _comparison_lines(catalogue: Catalogue, split: str, output: Path, names: Sequence[str]) -> list[str]:
    """The catalogue, and the size and training time of each run."""
    rows = []
    for name in names:
        record = RunFolder(output / name).read_record()
        stages = [stage for stage in record["stages"].values() if "seconds" in stage]
        minutes = sum(stage["seconds"] for stage in stages) / 60
        added = MISSING_VALUE  # of a run that an earlier version trained
        if "added_percent" in record:
            added = f"{record['added_parameters'] / 1e6:.2f} M, + {record['added_percent']:.1f} %"
        texts = (name, f"{record['parameters'] / 1e6:.2f} M", added, f"{minutes:.1f}", str(stages[-1]["best_epoch"]))
        rows.append(tuple(map(Cell, texts)))
    return [
        f"Catalogue {markdown_code(catalogue.manifest.name)} ({catalogue.fingerprint[:12]}), {split}. Models of the "
        "best epoch on val; hits and candidates as stated in each table.\n",
        to_markdown(Table(("run", "parameters", "added by E2", "minutes", "best epoch"), tuple(rows))),
    ]
