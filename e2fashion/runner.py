"""What each verb does: a resolved configuration goes in, a run folder that explains itself comes out."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from e2fashion import build
from e2fashion.config import (
    CompareConfig,
    EvaluateConfig,
    PrepareConfig,
    RunConfig,
    StageConfig,
    load_config,
    run_identity,
    save_config,
    split_names,
)
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.describe import describe_catalogue
from e2fashion.data.prepare import prepare_catalogue
from e2fashion.eval.encoder import Encoder, load_encoder, save_encoder
from e2fashion.eval.measure import MeasureSettings, RunIdentity, measure_retrieval
from e2fashion.eval.report import write_comparison, write_tables
from e2fashion.eval.results import append_records, read_records
from e2fashion.models.from_clip import new_parameter_names
from e2fashion.models.modeling_e2 import E2Model
from e2fashion.modules.callbacks import BestModel, RunInterruptedError
from e2fashion.modules.contrastive import ContrastiveModule
from e2fashion.modules.fit import fit_stage
from e2fashion.modules.optimizers import freeze_disconnected, select_trainable
from e2fashion.run_folder import RunFolder, peak_memory_mb
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


def describe(catalogue: Path) -> str:
    """What a catalogue holds, to read."""
    return describe_catalogue(Catalogue.load(catalogue)).as_text()


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
    return f"{folder.path}: best model in {folder.model}\n\n" + write_tables(
        read_records(folder.results), folder.report
    )


def train_run(config: RunConfig, progress: bool = True) -> RunFolder:
    """Train every stage that is not done yet and evaluate the best model on the splits that the run names.

    Raises:
        E2FashionError: a mistake in the configuration or the data, a loss that is not finite, or an interrupt (the
            message says how to go on).
    """
    _set_threads(config.threads)
    catalogue = Catalogue.load(config.data)
    folder = RunFolder(Path(config.output))
    folder.open(run_identity(config, catalogue.fingerprint), catalogue.fingerprint)
    save_config(config, folder.config)
    handler = folder.log_to_file()
    try:
        _train_stages(config, catalogue, folder, progress)
        _evaluate_run(config, catalogue, folder, progress)
    except RunInterruptedError as interruption:
        raise E2FashionError(f"interrupted. Go on with: e2fashion train {folder.path}") from interruption
    finally:
        logging.getLogger("e2fashion").removeHandler(handler)
        handler.close()
    return folder


def evaluate(config: EvaluateConfig, progress: bool = True) -> str:
    """Measure retrieval with any encoder, append the records and show them as a table."""
    _set_threads(config.threads)
    catalogue = Catalogue.load(config.data)
    run = RunFolder(Path(config.model))
    place = str(run.model) if run.model.is_dir() else config.model
    encoder = load_encoder(place, name=config.name, template=config.text, resize=config.resize, size=config.size)
    results = Path(config.output) if config.output else _results_file(config.model, encoder.name)
    records = _measure(encoder, catalogue, config, run.read_record(), progress)
    results.parent.mkdir(parents=True, exist_ok=True)
    append_records(results, records)
    return f"{len(records)} records appended to {results}\n\n" + write_tables(records)


def compare(files: Sequence[Path], overrides: Sequence[str], progress: bool = True) -> str:
    """Train a run per configuration file on one catalogue, evaluate each, and write one report."""
    own = [word for word in overrides if word.partition("=")[0] in ("data", "output", "split", "gallery_products")]
    config = load_config(CompareConfig, None, own)
    shared = [word for word in overrides if word not in own]
    output = Path(config.output)
    encoders: list[Encoder] = []
    records: list[ResultRecord] = []
    catalogue = Catalogue.load(config.data)
    for file in files:
        name = load_config(RunConfig, file, [f"data={config.data}", *shared]).name
        place = [f"data={config.data}", f"output={output / name}"]
        folder = train_run(load_config(RunConfig, file, [*shared, *place]), progress)
        encoder = load_encoder(str(folder.model), name=name)
        settings = EvaluateConfig(model=str(folder.path), data=config.data, split=config.split, name=name)
        measured = _measure(encoder, catalogue, settings, folder.read_record(), progress)
        append_records(folder.results, measured)
        encoders.append(encoder)
        records += measured
    file = RunFolder(output).report
    lines = _comparison_lines(catalogue, config.split, output, [encoder.name for encoder in encoders])
    write_comparison(file, records, encoders, catalogue, config.split, config.gallery_products, lines, progress)
    return file.read_text(encoding="utf-8")


def report(places: Sequence[Path], overrides: Sequence[str] = ()) -> str:
    """One table from the records of several runs or files; ``output=<file.md>`` keeps it."""
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
    return write_tables(records, Path(options["output"]) if "output" in options else None)


def _comparison_lines(catalogue: Catalogue, split: str, output: Path, names: Sequence[str]) -> list[str]:
    """What was compared on what, and what it cost."""
    lines = [
        f"Catalogue `{catalogue.manifest.name}` ({catalogue.fingerprint[:12]}), {split}. The model of the best epoch "
        "on val; hits and candidates as each table says.\n",
        "| run | parameters | minutes | best epoch |\n|---|---:|---:|---:|",
    ]
    for name in names:
        record = RunFolder(output / name).read_record()
        stages = [stage for stage in record["stages"].values() if "seconds" in stage]
        minutes = sum(stage["seconds"] for stage in stages) / 60
        lines.append(f"| {name} | {record['parameters'] / 1e6:.2f} M | {minutes:.1f} | {stages[-1]['best_epoch']} |")
    return lines


def _train_stages(config: RunConfig, catalogue: Catalogue, folder: RunFolder, progress: bool) -> None:
    stages = {name: stage for name, stage in config.train.stages.items() if stage is not None}
    if not stages:
        raise E2FashionError("The run has no train.stages: add one, as in `train.stages.main.epochs=10`.")
    template = build.build_template(config, catalogue)
    build.check_entities(build.build_entities(config.model), catalogue)
    transform = build.build_transform(config)
    tokenizer = build.build_tokenizer(config, build.training_texts(config, catalogue, template))
    done: dict[str, Any] = folder.read_record().get("stages", {})
    for name, stage in stages.items():
        if done.get(name, {}).get("done"):
            logger.info("stage %s is done", name)
            continue
        started = time.perf_counter()
        pl.seed_everything(config.seed, workers=True, verbose=False)
        start = folder.model if folder.model.is_dir() and done else None
        model = E2Model.from_pretrained(start) if start else build.build_model(config, tokenizer)
        model.config.text_template = template.template
        trained = _choose_parameters(config, model, stage)
        if not trained or stage.epochs == 0:
            logger.info("stage %s has nothing to train and is skipped", name)
            done[name] = {"done": True, "skipped": "no epochs" if trained else "no new parameters"}
            folder.update_record(stages=done)
            continue
        encoder = Encoder(model, tokenizer, transform, template, config.name)
        best_before = max((entry.get("best", float("-inf")) for entry in done.values()), default=float("-inf"))
        best = BestModel(folder.checkpoints / name / "best", partial(save_encoder, encoder), "SumR", best_before)
        module = ContrastiveModule(
            model=model,
            loss=build.build_loss(config),
            settings=build.build_optimizer_settings(config, stage),
            mean=transform.mean,
            std=transform.std,
            seed=config.seed,
            nonfinite_report=folder.path / "nonfinite_batch.json",
        )
        data = build.build_datamodule(config, catalogue, template, transform, tokenizer)
        fit_stage(module, data, build.build_fit_settings(config, stage, progress), folder.path, name, best)
        if best.folder.is_dir():
            shutil.rmtree(folder.model, ignore_errors=True)
            shutil.copytree(best.folder, folder.model)
        seconds = done.get(name, {}).get("seconds", 0.0) + time.perf_counter() - started
        done[name] = {
            "done": True,
            "best": best.best,
            "best_epoch": best.best_epoch + 1,
            "seconds": round(seconds, 1),
            "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        }
        folder.update_record(
            stages=done,
            parameters=sum(p.numel() for p in model.parameters()),
            seed=config.seed,
            peak_memory_mb=round(peak_memory_mb()),
            truncated_texts=dict(zip(("truncated", "distinct"), data.truncated_texts("train"), strict=True)),
        )
        (folder.checkpoints / name / "last.ckpt").unlink(missing_ok=True)


def _choose_parameters(config: RunConfig, model: E2Model, stage: StageConfig) -> list[str]:
    new = new_parameter_names(model) if stage.parameters == "new" else None
    trained = select_trainable(model, new, stage.freeze)
    return freeze_disconnected(model, build.build_loss(config), trained)


def _evaluate_run(config: RunConfig, catalogue: Catalogue, folder: RunFolder, progress: bool) -> None:
    if folder.read_record().get("evaluated"):
        return
    encoder = load_encoder(str(folder.model), name=config.name)
    settings = EvaluateConfig(
        model=str(folder.path), data=config.data, protocol=config.protocols, split=config.evaluate_splits
    )
    append_records(folder.results, _measure(encoder, catalogue, settings, folder.read_record(), progress))
    folder.update_record(evaluated=True)


def _measure(
    encoder: Encoder, catalogue: Catalogue, config: EvaluateConfig, run: dict[str, Any], progress: bool
) -> list[ResultRecord]:
    template = encoder.template if config.with_tags else encoder.template.without_tags()
    settings = MeasureSettings(
        protocols=split_names(config.protocol),
        queries=config.queries,
        draws=config.draws,
        fill=config.fill,
        seed=config.seed,
        candidate_folder=catalogue.path / "candidates",
        batch_size=config.batch_size,
        workers=config.workers,
        precision=config.precision,
        progress=progress,
    )
    made_by = RunIdentity(run.get("identity", ""), run.get("commit") or "", run.get("seed", 0))
    return [
        record
        for split in split_names(config.split)
        for record in measure_retrieval(encoder, catalogue, split, template, settings, made_by)
    ]


def _results_file(model: str, name: str) -> Path:
    run = RunFolder(Path(model))
    return run.results if run.config.is_file() else Path("runs") / "evaluate" / name / "results.jsonl"


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        torch.set_num_threads(threads)
