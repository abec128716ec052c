"""``compose``: search by a picture and what shall be different from it, with one encoder or several."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from e2fashion.arithmetic import set_threads
from e2fashion.config import save_config, split_names
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.fashion_iq import FashionIQ, Gallery, check_category
from e2fashion.disk import file_name, write_text
from e2fashion.encoder import Encoder
from e2fashion.measuring import identity_of, load_named, to_device
from e2fashion.records import RecordContext, append_records, read_records
from e2fashion.run_folder import RunFolder, git_commit
from e2fashion.runner.compose_parts import (
    build_captioner,
    build_language_model,
    list_unanswered,
    protected_phrases,
)
from e2fashion.tables import to_markdown
from e2fashion.tasks.composed.arms import check_arms
from e2fashion.tasks.composed.config import ComposeConfig
from e2fashion.tasks.composed.figures import draw_composed, read_traces
from e2fashion.tasks.composed.measure import (
    COMPOSED,
    MADE_BY,
    SETTINGS,
    ArmResult,
    ComposedSettings,
    Key,
    compared_records,
    composed_records,
    measure_composed,
    ranks_file,
    save_results,
    traces_file,
)
from e2fashion.tasks.composed.queries import LineColumns
from e2fashion.tasks.composed.sets import ComposedTask, FashionIqTask, OtherColourTask, counts_lines, write_missing
from e2fashion.tasks.composed.tables import composed_tables
from e2fashion.tasks.retrieval.rankings import Ranking, load_rankings
from e2fashion.types import E2FashionError, ResultRecord

logger = logging.getLogger(__name__)

#: Keys that change nothing that is measured: not part of what tells one measurement from another.
STEERING = ("model", "name", "arms", "figure_queries", "figure_arms", "batch_size", "accelerator", "threads", "output")


@dataclass(frozen=True)
class Measured:
    """One encoder's records under this configuration, and its ranks by protocol, arm and category."""

    name: str
    folder: Path
    records: list[ResultRecord]
    context: RecordContext

    def rankings(self) -> dict[Key, Ranking]:
        """Read from its folder."""
        found: dict[Key, Ranking] = {}
        for record in self.records:
            key = (record.protocol, str(record.extra["arm"]), record.direction)
            file = ranks_file(self.folder, key, self.context.split, self.context.data_fingerprint)
            if key not in found and file.is_file():
                found[key] = load_rankings(file)[0][0]
        return found


def compose(config: ComposeConfig, progress: bool = True) -> str:
    """Measure every model of the configuration, compare the later ones with the first, and write the report."""
    return composed(config, progress)[1]


def composed(config: ComposeConfig, progress: bool = True) -> tuple[list[ResultRecord], str]:
    """The records of a configuration and its report; what its folder holds already is not measured again.

    Raises:
        E2FashionError: a mistake in the configuration, the data, or a model that cannot do this.
    """
    set_threads(config.threads)
    arms, models = split_names(config.arms), split_names(config.model)
    check_arms(arms)
    check_arms(split_names(config.figure_arms) or arms)
    names, decoders = _one_each("name", config.name, models), _one_each("decoder", config.decoder, models)
    task = build_composed_task(config)
    folder = RunFolder(Path(config.output or f"runs/compose/{config.task}"))
    sets = task.queries()
    for line in counts_lines(sets):
        logger.info(line)
    missing = write_missing(task, folder.path / "missing_pictures.txt")
    measured = []
    for model, name, decoder in zip(models, names, decoders, strict=True):
        one = replace(config, model=model, name=name, decoder=decoder)
        measured.append(_measure_one(one, task, arms, folder, progress))
    if doubled := {item.name for item in measured if [other.name for other in measured].count(item.name) > 1}:
        raise E2FashionError(f"two models are called '{doubled.pop()}': name them with name=one,other")
    records = [record for item in measured for record in item.records]
    differences = _differences(measured)
    append_records(folder.results, differences)
    save_config(config, folder.config)
    lines = [f"# Text-guided retrieval: {config.task}\n", *(f"- {line}" for line in counts_lines(sets)), ""]
    if missing:
        lines.append(f"{missing:,} pictures are missing; `missing_pictures.txt` lists them.\n")
    tables = [to_markdown(table) for table in composed_tables([*records, *differences])]
    figure = _draw(config, task, measured, sets, folder.figures)
    shown = [f"![queries](figures/{figure.name})\n"] if figure else []
    text = "\n".join([*lines, *tables])
    write_text(folder.report, "\n".join([text, *shown]))
    return [*records, *differences], f"{folder.report}\n\n{text}"


def build_composed_task(config: ComposeConfig) -> ComposedTask:
    """The task that a configuration names.

    Raises:
        E2FashionError: its data are missing, or lack what the configuration asks for.
    """
    if config.task == "other_colour":
        columns = LineColumns(
            tuple(split_names(config.line_columns)), config.colour_column, config.line_name, config.instruction
        )
        catalogue = Catalogue.load(config.data)
        return OtherColourTask(catalogue, columns, config.split or "test", config.tuning_split or "val")
    categories = [check_category(name) for name in split_names(config.categories)]
    galleries = split_names(config.galleries)
    if not categories or not galleries:
        raise E2FashionError(
            f"categories is '{config.categories}' and galleries '{config.galleries}': name one of each"
        )
    return FashionIqTask(
        data=FashionIQ(Path(config.data), Path(config.images) if config.images else None),
        categories=categories,
        galleries=cast(list[Gallery], galleries),
        split=config.split or "val",
        tuning_split=config.tuning_split or "train",
        tuning_triplets=config.tuning_triplets,
        pad_aspect=config.pad_aspect,
    )


def _one_each(key: str, given: str | None, models: Sequence[str]) -> Sequence[str | None]:
    """The parts of a key that has one for every model; as many None where it is null."""
    parts = split_names(given) if given else [None] * len(models)
    if len(parts) != len(models):
        raise E2FashionError(f"{key} has {len(parts)} parts for {len(models)} models: give one each, or none")
    return parts


def _measure_one(
    config: ComposeConfig, task: ComposedTask, arms: Sequence[str], folder: RunFolder, progress: bool
) -> Measured:
    encoder, run = load_named(config)
    context = identity_of(run.read_record()).context(encoder.name, task.split, task.fingerprint)
    place = folder.path / file_name(encoder.name)
    measurement = _measurement(config, encoder, task)
    there = read_records(folder.results) if folder.results.is_file() else []
    kept = [
        record for record in there if record.task == COMPOSED.task and record.extra.get("measurement") == measurement
    ]
    done = {str(record.extra["arm"]) for record in kept}
    asked = [arm for arm in arms if arm not in done]
    if asked:
        to_device(encoder, config.accelerator)
        captioner, origin = build_captioner(config, encoder, asked, folder.path / "memory", progress)
        language_model, asked_model = build_language_model(config, asked)
        settings = ComposedSettings(
            arms=asked,
            both_orders=config.both_orders,
            weight=config.weight,
            weights=config.weights,
            memory=origin.get("memory", ""),
            captioner=origin.get("captioner", ""),
            protected=protected_phrases(config),
            language_model=language_model,
            language_model_name=asked_model,
            resamples=config.resamples,
            batch_size=config.batch_size,
            progress=progress,
        )
        results = measure_composed(encoder, task, captioner, settings)
        save_results(results, place, context)
        if language_model is not None:
            list_unanswered(language_model, folder.path / "unanswered.json")
        kept += _kept(results, context, config, measurement)
        append_records(folder.results, [record for record in kept if record.extra["arm"] in asked])
    return Measured(encoder.name, place, [record for record in kept if record.extra["arm"] in arms], context)


def _kept(
    results: Sequence[ArmResult], context: RecordContext, config: ComposeConfig, measurement: str
) -> list[ResultRecord]:
    made_by = {"measurement": measurement, "measured_commit": git_commit()}
    return composed_records(results, context, config.resamples, made_by)


def _measurement(config: ComposeConfig, encoder: Encoder, task: ComposedTask) -> str:
    """What was measured, as twelve hexadecimal digits: settings, encoder, data, and the answers of a language model."""
    values: dict[str, Any] = {key: value for key, value in vars(config).items() if key not in STEERING}
    if config.answers and Path(config.answers).is_file() and config.lm is None:
        values["answers"] = Path(config.answers).read_text(encoding="utf-8", errors="replace")
    content = json.dumps([values, encoder.name, encoder.fingerprint, task.fingerprint], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _differences(measured: Sequence[Measured]) -> list[ResultRecord]:
    """Every later model against the first, arm by arm."""
    if len(measured) < 2:
        return []
    baseline = measured[0].rankings()
    found = []
    for item in measured[1:]:
        how = {
            (record.protocol, str(record.extra["arm"]), record.direction): {
                key: record.extra[key] for key in (*SETTINGS, *MADE_BY) if key in record.extra
            }
            for record in item.records
        }
        found += compared_records(item.rankings(), baseline, item.context, measured[0].name, how)
    return found


def _draw(
    config: ComposeConfig, task: ComposedTask, measured: Sequence[Measured], sets: dict[str, Any], figures: Path
) -> Path | None:
    """A few queries of the first protocol's first category, for every model under the arms of the figure."""
    protocol, listed = next(iter(sets.items()))
    queries = listed[0]
    arms = [arm for arm in split_names(config.figure_arms) if arm in split_names(config.arms)]
    if not arms or config.figure_queries < 1:
        return None
    traces = {}
    for item in measured:
        for arm in arms:
            label = arm if len(measured) == 1 else item.name if len(arms) == 1 else f"{item.name}, {arm}"
            traces[label] = read_traces(traces_file(item.folder, (protocol, arm, queries.category), task.split))
    file = figures / f"{protocol}_{'_'.join(arms)}.png"
    title = f"Text-guided retrieval, {protocol} on {task.split}: arm {', '.join(arms)}"
    draw_composed(traces, task.pixels, file, config.figure_queries, title, queries.unit.tolist())
    return file
