"""``classify``, ``tags fit`` and ``tags predict``: names and tags of pictures by any encoder."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from e2fashion.arithmetic import measuring_precision, set_threads
from e2fashion.config import split_names
from e2fashion.data.catalogue import Catalogue
from e2fashion.disk import open_text
from e2fashion.measuring import identity_of, load_named, results_file, to_device
from e2fashion.published import PublishedRow, load_published, of_benchmark
from e2fashion.report import keep_records
from e2fashion.tasks.classification.classify import ClassifySettings, classify_split
from e2fashion.tasks.classification.config import ClassifyConfig, TagsFitConfig, TagsPredictConfig
from e2fashion.tasks.classification.report import write_classification
from e2fashion.tasks.classification.tag_predictor import PredictedTag
from e2fashion.tasks.classification.tags import fit_tags
from e2fashion.tasks.classification.tags_file import NAME, load_tag_predictor, save_tag_predictor
from e2fashion.types import E2FashionError


def classify(config: ClassifyConfig, progress: bool = True) -> str:
    """Classify a split, append the records, and write a page with tables and confusion figures."""
    set_threads(config.threads)
    catalogue = Catalogue.load(config.data)
    published = published_rows(config)
    encoder, run = load_named(config)
    results = results_file(config.output, run, "classify", encoder)
    own = {"column": config.column, "wording": config.wording, "entity": config.entity}
    settings = _settings(config, split_names(config.features), results, progress, **own)
    to_device(encoder, config.accelerator)
    found = classify_split(encoder, catalogue, settings, identity_of(run.read_record()))
    keep_records(results, [record for own in found for record in own.records], config.model)
    data = catalogue.manifest.name
    folder = results.parent / "classify" / re.sub(r"[^\w.-]+", "_", f"{data}_{config.column}_{config.split}")
    page = write_classification(folder, found, encoder.name, data, config.column, config.split, published)
    return f"{page}\n\n" + page.read_text(encoding="utf-8")


def _settings(
    config: ClassifyConfig | TagsFitConfig, features: Sequence[str], results: Path, progress: bool, **own: Any
) -> ClassifySettings:
    """What both verbs share, with what is ``own`` to one; features are kept beside the records."""
    return ClassifySettings(
        templates=config.templates,
        region_templates=config.region_templates,
        features=features,
        region_weight=config.region_weight,
        split=config.split,
        resamples=config.resamples,
        folder=results.parent / "features",
        batch_size=config.batch_size,
        workers=config.workers,
        precision=measuring_precision(config),
        progress=progress,
        **own,
    )


def published_rows(config: ClassifyConfig) -> list[PublishedRow]:
    """The published values of the benchmark that a configuration names; none where it names none.

    Raises:
        E2FashionError: one of ``benchmark`` and ``published`` without the other, or no row that has the benchmark.
    """
    if config.benchmark is None and config.published is None:
        return []
    if config.benchmark is None or config.published is None:
        raise E2FashionError(
            f"benchmark={config.benchmark} and published={config.published} belong together: give both, or neither."
        )
    rows = [row for row in load_published(Path(config.published)) if row.task == "zero_shot"]
    chosen = of_benchmark(rows, config.benchmark)
    if not chosen:
        there = ", ".join(dict.fromkeys(name for row in rows for name in row.values))
        raise E2FashionError(f"{config.published} has no benchmark '{config.benchmark}'; it has: {there or 'none'}.")
    return chosen


def tags_fit(config: TagsFitConfig, progress: bool = True) -> str:
    """Choose thresholds on val, keep them beside the model, and measure coverage and accuracy on another split."""
    set_threads(config.threads)
    catalogue = Catalogue.load(config.data)
    encoder, run = load_named(config)
    results = results_file(config.output, run, "tags", encoder)
    own = [entity.name for entity in encoder.entities]
    columns = split_names(config.columns) if config.columns else own or list(catalogue.tag_columns)
    settings = _settings(config, [config.features or ("region" if own else "global")], results, progress)
    to_device(encoder, config.accelerator)
    made_by = identity_of(run.read_record())
    predictor, records = fit_tags(encoder, catalogue, columns, settings, config.accuracy, made_by)
    file = Path(config.file) if config.file else results.parent / NAME
    made_on = {"catalogue": catalogue.manifest.name, "data_fingerprint": catalogue.fingerprint, "split": "val"}
    save_tag_predictor(predictor, encoder, file, made_on | {"target_accuracy": config.accuracy})
    shown = keep_records(results, records, config.model)
    return f"{file}: thresholds chosen on val; {shown}"


def tags_predict(config: TagsPredictConfig) -> str:
    """The tags of pictures as a table to read; ``output=<file.csv>`` keeps them."""
    set_threads(config.threads)
    pictures = config.images
    if not pictures:
        raise E2FashionError("Give the pictures whose tags are wanted: `e2fashion tags predict <model> shirt.jpg ...`.")
    predictor = load_tag_predictor(config.model, config.file, config.threshold)
    to_device(predictor.encoder, config.accelerator)
    found = predictor.predict_tags(list(pictures), config.batch_size)
    if config.output:
        _write_predictions(Path(config.output), pictures, found)
    lines = []
    for picture, tags in zip(pictures, found, strict=True):
        lines.append(picture)
        for entity, tag in tags.items():
            answer = tag.value if tag.value is not None else f"(not sure; nearest: {tag.best})"
            lines.append(f"  {entity}: {answer}  {100 * tag.score:.0f} %")
    return "\n".join(lines)


def _write_predictions(file: Path, pictures: Sequence[str], found: Sequence[dict[str, PredictedTag]]) -> None:
    with open_text(file) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["picture", "entity", "value", "nearest", "probability"])
        for picture, tags in zip(pictures, found, strict=True):
            for entity, tag in tags.items():
                writer.writerow([picture, entity, tag.value or "", tag.best, f"{tag.score:.4f}"])
