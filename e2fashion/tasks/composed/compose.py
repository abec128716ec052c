"""``compose``: search by an image and what shall differ from it, with one encoder or several, and compare them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from e2fashion.arithmetic import set_threads
from e2fashion.config import save_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.text import normalize_text
from e2fashion.disk import DamagedError, file_name, read_lines, write_text
from e2fashion.embedding import join_stated
from e2fashion.encoder import Encoder, load_encoder
from e2fashion.measuring import identity_of_run, name_of_run, to_device
from e2fashion.options import identity_values
from e2fashion.records import RecordContext, append_records, read_records
from e2fashion.run_folder import RunFolder, git_commit
from e2fashion.tables import to_markdown
from e2fashion.tasks.captioning.captioner import AnyCaptioner, NearestCaption, identity_of_encoder, load_captioner
from e2fashion.tasks.captioning.memory import MemoryEntry, distinct_entries, open_memory, product_texts
from e2fashion.tasks.composed.config import ComposeConfig, Mode
from e2fashion.tasks.composed.measure import (
    COMPOSED,
    DIFFERENCES,
    MADE_BY,
    MEAN,
    SETTINGS,
    TOP_K,
    Key,
    TextSources,
    composed_records,
    measure_composed,
    ranks_file,
    save_results,
    traces_file,
)
from e2fashion.tasks.composed.modes import CAPTION_MODES, LanguageModelComposer, open_composer, rewriters
from e2fashion.tasks.composed.sources import QuerySet, QuerySource, open_source
from e2fashion.tasks.composed.tables import composed_tables, draw_composed
from e2fashion.tasks.retrieval.rankings import Ranking, compare_rankings, has_rankings, load_rankings
from e2fashion.tasks.search.tags import tags_in
from e2fashion.text_files import read_list
from e2fashion.types import E2FashionError, ResultRecord

logger = logging.getLogger(__name__)

#: Keys, by their names in identities, that change no result: they are not part of what identifies a measurement.
NOT_IDENTITY = (
    *("model", "name", "decoder", "arms", "figure_queries", "figure_arms"),
    *("batch_size", "accelerator", "threads", "output"),
)
MEASURED_AGAIN = "It is measured again."


@dataclass(frozen=True)
class ComposedResults:
    """Records of every model and mode, differences to the first model, and the folder with the ``report``."""

    folder: RunFolder
    records: list[ResultRecord]
    differences: list[ResultRecord]
    report: str


@dataclass(frozen=True)
class _Measured:
    """One encoder's records under a configuration; its ranks and traces are in ``folder``."""

    name: str
    folder: Path
    records: list[ResultRecord]
    context: RecordContext

    def rankings(self) -> dict[Key, Ranking]:
        """By protocol, mode and category."""
        rankings: dict[Key, Ranking] = {}
        for record in self.records:
            file = ranks_file(self.folder, _key(record), self.context.split, self.context.data_fingerprint)
            if _key(record) not in rankings and file.is_file():
                rankings[_key(record)] = load_rankings(file)[0][0]
        return rankings


def compose(config: ComposeConfig, progress: bool = True) -> ComposedResults:
    """Measure every model, compare the later ones with the first, and write the report.

    Modes that the folder has results of are not measured again.

    Raises:
        E2FashionError: a mistake in the configuration, the data, or a model that compares tokens.
    """
    set_threads(config.threads)
    for key in ("model", "modes"):
        if not getattr(config, key):
            raise E2FashionError(f"{key} is empty: name at least one")
    names, decoders = (_one_each(key, getattr(config, key), config.model) for key in ("name", "decoder"))
    source = open_source(config)
    folder = RunFolder(Path(config.output or f"runs/compose/{config.task}"))
    sets = source.queries()
    counts = [f"{protocol}, {queries.describe()}" for protocol, listed in sets.items() for queries in listed]
    for line in counts:
        logger.info(line)
    measured = [
        _measure_one(config, model, name, decoder, source, folder, progress)
        for model, name, decoder in zip(config.model, names, decoders, strict=True)
    ]
    name, times = Counter(item.name for item in measured).most_common(1)[0]
    if times > 1:
        raise E2FashionError(f"two models are called '{name}': name them with name=one,other")
    records = [record for item in measured for record in item.records]
    differences = _differences(measured)
    append_records(folder.results, differences)
    save_config(config, folder.config)
    lines = [f"# Text-guided retrieval: {config.task}\n", *(f"- {line}" for line in counts), ""]
    if missing := source.missing():
        write_text(folder.path / "missing_images.txt", "\n".join(missing) + "\n")
        lines.append(f"{len(missing):,} images are missing; `missing_images.txt` lists them.\n")
    report = "\n".join([*lines, *map(to_markdown, composed_tables([*records, *differences]))])
    figure = _draw(config, source, measured, next(iter(sets.items())), folder.figures)
    write_text(folder.report, "\n".join([report, *([f"![queries](figures/{figure.name})\n"] if figure else [])]))
    return ComposedResults(folder, records, differences, report)


def _one_each(key: str, given: list[str] | None, models: Sequence[str]) -> Sequence[str | None]:
    """The parts of a key that has one for every model; as many None where it is null."""
    parts: Sequence[str | None] = given or [None] * len(models)
    if len(parts) != len(models):
        raise E2FashionError(f"{key} has {len(parts)} parts for {len(models)} models: give one each, or none")
    return parts


def _measure_one(
    config: ComposeConfig,
    model: str,
    name: str | None,
    decoder: str | None,
    source: QuerySource,
    folder: RunFolder,
    progress: bool,
) -> _Measured:
    run = RunFolder(Path(model))
    encoder = load_encoder(model, name=name or name_of_run(run), resize=config.resize, size=config.size)
    context = identity_of_run(run).context(encoder.name, source.split, source.fingerprint)
    of_model = folder.path / file_name(encoder.name)
    measurement = _measurement(config, decoder, encoder, source)
    stored = read_records(folder.results) if folder.results.is_file() else []
    records = [item for item in stored if item.task == COMPOSED.task and item.extra.get("measurement") == measurement]
    done = {record.extra["arm"] for record in records} - _damaged_modes(records, of_model, context)
    if missing := [mode for mode in config.modes if mode not in done]:
        to_device(encoder, config.accelerator)
        texts, composer = _texts(config, decoder, encoder, missing, folder.path / "memory", progress)
        results = measure_composed(encoder, source, replace(config, modes=missing), texts, progress)
        save_results(results, of_model, context)
        if composer is not None:
            composer.list_unanswered(folder.path / "unanswered.json")
        made_by = {"measurement": measurement, "measured_commit": git_commit()}
        new = composed_records(results, context, config.resamples, made_by)
        append_records(folder.results, new)
        records = [*(item for item in records if item.extra["arm"] not in missing), *new]
    return _Measured(encoder.name, of_model, [item for item in records if item.extra["arm"] in config.modes], context)


def _damaged_modes(records: Sequence[ResultRecord], folder: Path, context: RecordContext) -> set[str]:
    """The modes whose ranks or traces are missing or damaged."""
    modes = set()
    for key in dict.fromkeys(_key(record) for record in records if record.direction != MEAN):
        if not has_rankings(ranks_file(folder, key, context.split, context.data_fingerprint)):
            modes.add(key[1])
        try:
            read_lines(traces_file(folder, key, context.split), MEASURED_AGAIN)
        except DamagedError as damage:
            logger.warning("%s", damage)
            modes.add(key[1])
    return modes


def _texts(
    config: ComposeConfig, decoder: str | None, encoder: Encoder, modes: Sequence[Mode], memory: Path, progress: bool
) -> tuple[TextSources, LanguageModelComposer | None]:
    """Captioner and rewriters of the modes, how texts are embedded, and the composer of ``llm``."""
    regions = regional_texts(config, encoder)
    captioner: AnyCaptioner | None = None
    origin: dict[str, str] = {}
    if set(modes) & set(CAPTION_MODES) and not encoder.compares_tokens:
        captioner, origin = _captioner(config, decoder, encoder, memory, progress)
        if regions is not None and isinstance(captioner, NearestCaption):
            stored = captioner.memory
            captioner = NearestCaption(replace(stored, embeds=regions.joined(stored.embeds, stored.captions)))
    composer = open_composer(config) if "llm" in modes else None
    by_mode = rewriters(_protected_phrases(config), None if composer is None else composer.rewrite)
    extra: dict[str, dict[str, Any]] = {mode: {"memory": "", **origin} for mode in CAPTION_MODES}
    if composer is not None:
        extra["llm"]["language_model"] = composer.answers.model
    embed_texts, weight = (encoder.embed_texts, 0.0) if regions is None else (regions, regions.weight)
    return TextSources(captioner, by_mode, embed_texts, weight, extra), composer


@dataclass(frozen=True)
class RegionalTexts:
    """Texts as queries of the regional score: their embeddings joined with the tags that they name.

    ``values`` are the tags of train by entity, and by what :func:`~e2fashion.data.text.normalize_text` makes of them.
    """

    encoder: Encoder
    values: Mapping[str, Mapping[str, str]]
    weight: float

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """(N, (1 + E) C), see :func:`~e2fashion.embedding.join_regions`."""
        return self.joined(self.encoder.embed_texts(list(texts)), texts)

    def joined(self, embeds: Tensor, texts: Sequence[str]) -> Tensor:
        """The same of texts whose embeddings (N, C) are known."""
        stated = [tags_in(text, self.values) for text in texts]
        return join_stated(embeds, stated, list(self.values), self.encoder.embed_tags, self.weight)


def regional_texts(config: ComposeConfig, encoder: Encoder) -> RegionalTexts | None:
    """How texts are compared with regions; None: they are not.

    Raises:
        E2FashionError: regions are to be compared in a task without tags.
    """
    if config.similarity == "global":
        return None
    if config.task != "other_colour":
        raise E2FashionError(
            f"similarity is '{config.similarity}', but texts of task={config.task} name no tags of a catalogue: give "
            "similarity=global."
        )
    if not (encoder.entities and encoder.region_score_weight):
        logger.info("%s has no stored weight of the regional score: the global score is used", encoder.name)
        return None
    train = Catalogue.load(config.data).split("train")
    values = {
        entity.name: {normalize_text(tag): tag for tag in sorted(set(filter(None, train[entity.column])))}
        for entity in encoder.entities
    }
    return RegionalTexts(encoder, values, encoder.region_score_weight)


def _captioner(
    config: ComposeConfig, decoder: str | None, encoder: Encoder, folder: Path, progress: bool
) -> tuple[AnyCaptioner | None, dict[str, str]]:
    """What captions the references, and how records name it; nothing without a decoder and a memory."""
    if decoder is not None:
        title = f"{config.reading} by the decoder {Path(decoder).name}"
        return load_captioner(decoder, encoder, config.reading), {"captioner": title}
    path = _memory_path(config)
    if path is None:
        return None, {}
    if path.is_file():
        lines, title = read_list(path, "a catalogue, or a text file with one caption a line"), path.name
        entries = distinct_entries(MemoryEntry(line, line) for line in lines)
    else:
        catalogue, template = Catalogue.load(path), encoder.template
        products, title = product_texts(catalogue, "train", template, template), f"{catalogue.manifest.name} train"
        entries = distinct_entries(entry for product in products for entry in product.entries)
    memory = open_memory(folder, entries, identity_of_encoder(encoder), encoder.embed_texts, progress)
    return NearestCaption(memory), {"memory": f"{len(entries):,} texts of {title}"}


def _memory_path(config: ComposeConfig) -> Path | None:
    """The catalogue or text file of the captions, if any."""
    path = config.memory or (config.data if config.task == "other_colour" else None)
    return None if path is None else Path(path)


def _protected_phrases(config: ComposeConfig) -> list[str]:
    """The values of the protected column in the memory's catalogue, if it has that column."""
    path = _memory_path(config)
    if path is None or path.is_file():
        return []
    catalogue = Catalogue.load(path)
    if config.protect_column not in catalogue.tag_columns:
        return []
    return sorted({value for value in catalogue.split("train")[config.protect_column] if value and value.strip()})


def _measurement(config: ComposeConfig, decoder: str | None, encoder: Encoder, source: QuerySource) -> str:
    """Twelve hexadecimal digits of what is measured: settings, encoder, data, and the answers of a language model."""
    values = {key: value for key, value in identity_values(config).items() if key not in NOT_IDENTITY}
    values["decoder"] = decoder
    if config.answers and Path(config.answers).is_file() and config.lm is None:
        values["answers"] = Path(config.answers).read_text(encoding="utf-8", errors="replace")
    content = json.dumps([values, encoder.name, encoder.fingerprint, source.fingerprint], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _key(record: ResultRecord) -> Key:
    return record.protocol, str(record.extra["arm"]), record.direction


def _differences(measured: Sequence[_Measured]) -> list[ResultRecord]:
    """Every later model against the first on the same queries, mode by mode: differences in R@k, paired bootstrap."""
    first, *others = measured
    baseline = first.rankings() if others else {}
    records = []
    for item in others:
        extra = {
            _key(record): {key: record.extra[key] for key in (*SETTINGS, *MADE_BY) if key in record.extra}
            for record in item.records
        }
        for key, ranking in item.rankings().items():
            if key in baseline:
                listed = compare_rankings(
                    [ranking],
                    [baseline[key]],
                    item.context,
                    key[0],
                    first.name,
                    TOP_K,
                    kind=DIFFERENCES,
                    extra=extra[key],
                )
                records += [replace(record, direction=key[2], positives="target") for record in listed]
    return records


def _draw(
    config: ComposeConfig,
    source: QuerySource,
    measured: Sequence[_Measured],
    first: tuple[str, list[QuerySet]],
    figures: Path,
) -> Path | None:
    """Some queries of the first protocol's first category, for every model in the modes of the figure."""
    protocol, (queries, *_) = first
    modes = [mode for mode in config.figure_modes if mode in config.modes]
    if not modes or config.figure_queries < 1:
        return None
    traces = {}
    for item in measured:
        for mode in modes:
            label = mode if len(measured) == 1 else item.name if len(modes) == 1 else f"{item.name}, {mode}"
            file = traces_file(item.folder, (protocol, mode, queries.category), source.split)
            traces[label] = read_lines(file, MEASURED_AGAIN)
    file = figures / f"{protocol}_{'_'.join(modes)}.png"
    title = f"Text-guided retrieval, {protocol} on {source.split}: query mode {', '.join(modes)}"
    draw_composed(traces, source.pixels, file, config.figure_queries, title, queries.unit.tolist())
    return file
