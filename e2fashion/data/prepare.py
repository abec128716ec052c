"""From a source to a catalogue: check every row, split, and write, all or nothing."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from datasets import Features

from e2fashion import __version__
from e2fashion.data.catalogue import (
    FORMAT_VERSION,
    SKIPPED_FILE,
    Catalogue,
    Manifest,
    answers_request,
    check_is_catalogue,
)
from e2fashion.data.config import Preparation, PrepareConfig, build_source
from e2fashion.data.images import PILLOW_MAX_PIXELS
from e2fashion.data.numbers import NumberColumns, with_numbers
from e2fashion.data.rows import CheckedRow, FibreColumns, ProductError, check_row, clean_markup, has_markup
from e2fashion.data.sources.base import Source, SourceProblem, SourceRow, options_of, requested_options, rows_of
from e2fashion.data.split import SplitKeys, check_fractions, decide_splits
from e2fashion.data.storage import BASE_COLUMNS, REGIONS_COLUMN, SplitFolder, Spool, catalogue_features
from e2fashion.data.text import normalize_text
from e2fashion.disk import atomic_folder, clear_leftovers, list_files, real_path, recover
from e2fashion.escape import visible
from e2fashion.terminal import progress_bar
from e2fashion.types import SPLITS, E2FashionError, Split

_TABLE_SUFFIXES = {".csv", ".tsv", ".txt", ".parquet", ".json", ".jsonl", ".ndjson", ".h5", ".hdf5"}
_HASHED_BYTES = 64 << 20
_NUMERIC_SETTINGS = ("val_fraction", "test_fraction", "max_text_characters", "max_pixels")

logger = logging.getLogger(__name__)


@dataclass
class _Gathered:
    """Of rows that passed what stays in memory, a list item each; rows that did not; and where things were first."""

    keys: list[SplitKeys] = field(default_factory=list)
    views: list[int] = field(default_factory=list)
    splits: list[Split | None] = field(default_factory=list)
    skipped: list[SourceProblem] = field(default_factory=list)
    seen: dict[tuple[str, int], str] = field(default_factory=dict)
    split_of: dict[str, tuple[Split | None, str]] = field(default_factory=dict)
    with_regions: bool = False
    with_markup: int = 0


def prepare(config: PrepareConfig, options: Mapping[str, Any], progress: bool = True) -> Catalogue:
    """Turn the source that ``config`` names, with its ``options``, into a catalogue, see :func:`prepare_catalogue`."""
    return prepare_catalogue(build_source(config.source, options), config.output, config, progress)


def prepare_catalogue(
    source: Source, output: str | Path, config: Preparation | None = None, progress: bool = True
) -> Catalogue:
    """Write the products of ``source`` as a catalogue into the folder ``output`` and open it.

    A row with a problem stops everything or is left out, counted in the manifest and listed in ``skipped.csv``. Splits
    of the source are kept; where it gives train but no val, val is taken from train; where it gives none, all are made
    by product group. Nothing is visible in ``output`` before everything is written, and a second call with the same
    source, options and settings returns the existing catalogue (tables are compared by content, images are not); a
    damaged one is written again. The ``notes`` of a source, if it has some, go into the manifest; its tags in
    ``number_columns``, if it has those, become numbers too.

    Raises:
        ProductError: the first row with a problem, when ``on_error`` is "stop".
        E2FashionError: no row is left, a setting makes no sense, or ``output`` holds something else.
    """
    target, config = Path(output), config or Preparation()
    fractions: dict[Split, float] = {"val": config.val_fraction, "test": config.test_fraction}
    check_fractions(fractions)
    fibres = FibreColumns(config.dominant_fibre, source.tag_columns)
    _check_settings(config, fibres.tag_columns)
    plain = tuple(getattr(source, "number_columns", ()))
    number_columns = list(dict.fromkeys([*plain, *config.numbers]))
    numbers = NumberColumns(number_columns, source.tag_columns, config.decimal, plain)
    tags = [column for column in fibres.tag_columns if column not in number_columns]
    settings: dict[str, Any] = {"on_error": config.on_error, "seed": config.split_seed}
    settings |= {name: getattr(config, name) for name in _NUMERIC_SETTINGS}
    if fibres.columns:
        settings["dominant_fibre"] = dict(fibres.columns)
    if config.numbers:
        settings |= {"numbers": list(config.numbers), "decimal": config.decimal}
    if config.clean_html:
        settings["clean_html"] = True
    request = request_hash(source, settings)
    recover(target)
    asked = {"source": source.name, **options_of(source), **settings}
    if answers_request(target, request, asked, config.overwrite):
        clear_leftovers(target)
        return Catalogue.load(target)
    with atomic_folder(target, check_is_catalogue) as folder:
        gathered = _Gathered()
        rows = _checked_rows(source, fibres, numbers, gathered, config)
        spool = Spool(folder / "spool", catalogue_features(fibres.tag_columns, with_regions=True))
        for row in progress_bar(rows, desc=f"Checking {source.name}", total=len(source), unit=" rows", shown=progress):
            spool.add(row)
        if not gathered.keys:
            raise E2FashionError(_nothing_left(source, gathered.skipped))
        assignment = decide_splits(gathered.keys, gathered.splits, config.split_seed, fractions)
        notes = [*getattr(source, "notes", ()), *fibres.notes(), *numbers.notes()]
        if config.clean_html:
            notes.append(f"HTML was taken out of the texts of {gathered.with_markup:,} rows")
        for note in assignment.notes:
            logger.warning(note)
        for note in notes:
            logger.info(note)
        features = catalogue_features(tags, gathered.with_regions, number_columns)
        counts, shards, fingerprint = _write_splits(
            folder, features, spool, numbers.signs(), gathered, assignment.splits, progress
        )
        (folder / "spool").rmdir()
        _write_skipped(folder / SKIPPED_FILE, gathered.skipped)
        manifest = Manifest(
            name=target.name,
            source={"name": source.name, "options": options_of(source)},
            settings=settings,
            request=request,
            splits=counts,
            shards=shards,
            tag_columns=tags,
            number_columns=number_columns,
            columns=list(features),
            fingerprint=fingerprint,
            split_rule=assignment.rule,
            skipped=dict(Counter(problem.reason for problem in gathered.skipped)),
            notes=[*assignment.notes, *notes],
            created_by=f"e2fashion {__version__}",
            files=list_files(folder),
        )
        manifest.save(folder)
    return Catalogue(target, manifest)


def _check_settings(config: Preparation, tag_columns: Sequence[str]) -> None:
    if config.decimal != "auto" and not config.numbers:
        raise E2FashionError(f"decimal={config.decimal} needs columns of numbers: name them, as in numbers=[price].")
    if config.max_text_characters < 1:
        raise E2FashionError(f"max_text_characters={config.max_text_characters}: it must be at least 1.")
    if not 1 <= config.max_pixels <= PILLOW_MAX_PIXELS:
        raise E2FashionError(f"max_pixels={config.max_pixels:,}: it must be between 1 and {PILLOW_MAX_PIXELS:,}.")
    if reserved := [column for column in tag_columns if column in (*BASE_COLUMNS, REGIONS_COLUMN, "split")]:
        raise E2FashionError(
            f"A tag cannot be called '{reserved[0]}': the catalogue has a column of that name. Choose another name."
        )


def request_hash(source: Source, settings: Mapping[str, Any]) -> str:
    """SHA-256 over the source's name, options and tables, and the settings of the preparation.

    Tables up to 64 MB count by content, larger ones by size and time of change, images not at all. What a source's
    ``content_stamp`` says, if it has one, counts too.
    """
    options = requested_options(source)
    files: list[Path] = []
    if options.get("path") and Path(options["path"]).exists():  # or else a hub name
        path = real_path(options["path"])
        options["path"] = str(path)
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        files = [file for file in inside if file.is_file() and file.suffix.lower() in _TABLE_SUFFIXES]
    request = {
        "format": FORMAT_VERSION,
        "source": source.name,
        "options": options,
        "settings": dict(settings),
        "tables": [(file.name, _stamp(file)) for file in files],
    }
    if stamp := getattr(source, "content_stamp", None):
        request["content"] = stamp
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def _stamp(file: Path) -> str:
    status = file.stat()
    if status.st_size > _HASHED_BYTES:
        return f"{status.st_size} bytes, {status.st_mtime_ns}"
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _checked_rows(
    source: Source, fibres: FibreColumns, numbers: NumberColumns, gathered: _Gathered, config: Preparation
) -> Iterator[CheckedRow]:
    for raw in rows_of(source):
        try:
            if isinstance(raw, SourceProblem):
                raise ProductError(raw)
            _refuse_duplicate(raw, gathered)
            had_markup = config.clean_html and any(
                has_markup(text or "") for text in (raw.description, *raw.tags.values())
            )
            if had_markup:
                tags = {column: tag and clean_markup(tag) for column, tag in raw.tags.items()}
                raw = replace(raw, description=clean_markup(raw.description), tags=tags)
            row = check_row(fibres.complete(raw), config.max_text_characters, config.max_pixels)
            _refuse_two_splits(row, gathered)
            numbers.add(row)
        except ProductError as error:
            if config.on_error == "stop":
                raise
            gathered.skipped.append(error.problem)
            continue
        text = hashlib.sha256(normalize_text(row.description).encode()).digest()
        gathered.keys.append(SplitKeys(row.product_id, row.group, text, row.pixels_sha256))
        gathered.views.append(row.view)
        gathered.splits.append(row.split)
        gathered.seen[row.product_id, row.view] = row.row
        gathered.split_of.setdefault(row.product_id, (row.split, row.row))
        gathered.with_regions |= row.regions is not None
        gathered.with_markup += had_markup
        fibres.count(row.tags)
        yield row


def _refuse_duplicate(row: SourceRow, gathered: _Gathered) -> None:
    product_id = row.product_id.strip()
    if (first := gathered.seen.get((product_id, row.view))) is not None:
        value = f"'{product_id}' with view {row.view} was already read from {first}"
        remedy = "keep one of the two rows, or number the images of a product in a view column"
        raise ProductError(SourceProblem(row.row, product_id, "product_id", value, remedy, "duplicate id"))


def _refuse_two_splits(row: CheckedRow, gathered: _Gathered) -> None:
    split, first = gathered.split_of.get(row.product_id, (row.split, ""))
    if split != row.split:
        value = f"'{row.split}', but {first} puts the same product into '{split}'"
        remedy = "put all rows of a product into one split"
        raise ProductError(SourceProblem(row.row, row.product_id, "split", value, remedy, "product in two splits"))


def _write_splits(
    folder: Path,
    features: Features,
    spool: Spool,
    signs: Mapping[str, str],
    gathered: _Gathered,
    splits: Sequence[Split],
    progress: bool,
) -> tuple[dict[str, dict[str, int]], dict[str, list[int]], str]:
    """Write every row into its split: products as they first appear, views in ascending order.

    ``signs`` are the decimal signs of the columns that become numbers. Returns images and products per split, products
    per file of each split, and the fingerprint of the whole.
    """
    position: dict[str, int] = {}
    places = [position.setdefault(keys.product_id, len(position)) for keys in gathered.keys]
    order = sorted(range(len(places)), key=lambda index: (places[index], gathered.views[index]))
    present = [split for split in SPLITS if split in splits]
    folders = {split: SplitFolder(folder / split, features) for split in present}
    digests = {split: hashlib.sha256() for split in present}
    bar = progress_bar(spool.read(order), total=len(order), desc="Writing", unit=" rows", shown=progress)
    for index, batch in zip(order, bar, strict=True):
        split = splits[index]
        batch = with_numbers(batch, signs).select(list(features))
        folders[split].add(batch)
        (row,) = batch.to_pylist()
        image = row.pop("image")
        text = json.dumps(row, sort_keys=True, ensure_ascii=False)
        digests[split].update(text.encode() + len(image).to_bytes(8, "little") + image)
    whole = hashlib.sha256(f"format {FORMAT_VERSION}".encode())
    for split, digest in digests.items():
        whole.update(f"{split} {digest.hexdigest()}".encode())
    shards: dict[str, list[int]] = {split: folders[split].close(split, digests[split].hexdigest()) for split in present}
    counts: dict[str, dict[str, int]] = {
        split: {"images": splits.count(split), "products": sum(shards[split])} for split in present
    }
    return counts, shards, whole.hexdigest()


def _write_skipped(file: Path, skipped: list[SourceProblem]) -> None:
    """List the rows that were left out; no file without any."""
    if not skipped:
        return
    columns = ("row", "product_id", "reason", "field", "value", "remedy")
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows([visible(getattr(problem, column)) for column in columns] for problem in skipped)


def _nothing_left(source: Source, skipped: Sequence[SourceProblem]) -> str:
    if not skipped:
        return f"The source '{source.name}' has no rows ({options_of(source)}). Check its path and its table."
    return (
        f"Nothing is left of the source '{source.name}': all {len(skipped):,} rows have problems. "
        f"The first: {ProductError(skipped[0])}"
    )
