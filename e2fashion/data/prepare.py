"""From a source to a catalogue: check every row, split, and write, all or nothing."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from datasets import Features

from e2fashion.data.catalogue import FORMAT_VERSION, SKIPPED_FILE, Catalogue, Manifest
from e2fashion.data.config import Preparation, PrepareConfig, build_source
from e2fashion.data.images import PILLOW_MAX_PIXELS
from e2fashion.data.numbers import NumberColumns, with_numbers
from e2fashion.data.request import answers_request, check_is_catalogue, request_hash, source_options
from e2fashion.data.rows import CheckedRow, FibreColumns, ProductError, check_row, clean_markup, has_markup
from e2fashion.data.sources.base import Source, SourceProblem, SourceRow, rows_of
from e2fashion.data.split import SplitKeys, check_fractions, decide_splits
from e2fashion.data.storage import BASE_COLUMNS, REGIONS_COLUMN, SplitFolder, Spool, catalogue_features
from e2fashion.data.text import normalize_text
from e2fashion.disk import atomic_folder, clear_leftovers, list_files, recover
from e2fashion.escape import visible
from e2fashion.terminal import progress_bar
from e2fashion.types import SPLITS, E2FashionError, Split

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Kept:
    """What stays in memory of a row while the rest is in the spool."""

    row: str
    view: int
    keys: SplitKeys
    split: Split | None


@dataclass
class _Gathered:
    """Rows that passed and rows that did not."""

    kept: list[_Kept] = field(default_factory=list)
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
    _check_settings(config, fractions)
    fibres = FibreColumns(config.dominant_fibre, source.tag_columns)
    plain = tuple(getattr(source, "number_columns", ()))
    number_columns = list(dict.fromkeys([*plain, *config.numbers]))
    numbers = NumberColumns(number_columns, source.tag_columns, config.decimal, plain)
    tags = [column for column in fibres.tag_columns if column not in number_columns]
    _check_columns(fibres.tag_columns)
    settings: dict[str, Any] = {
        "on_error": config.on_error,
        "seed": config.split_seed,
        "val_fraction": config.val_fraction,
        "test_fraction": config.test_fraction,
        "max_text_characters": config.max_text_characters,
        "max_pixels": config.max_pixels,
    }
    if fibres.columns:
        settings["dominant_fibre"] = dict(fibres.columns)
    if config.numbers:
        settings |= {"numbers": list(config.numbers), "decimal": config.decimal}
    if config.clean_html:
        settings["clean_html"] = True
    request = request_hash(source, settings)
    recover(target)
    if answers_request(target, request, config.overwrite):
        clear_leftovers(target)
        return Catalogue.load(target)
    with atomic_folder(target, check_is_catalogue) as folder:
        gathered = _Gathered()
        rows = _checked_rows(source, fibres, numbers, gathered, config)
        spool = Spool(folder / "spool", catalogue_features(fibres.tag_columns, with_regions=True))
        for row in progress_bar(rows, desc=f"Checking {source.name}", total=len(source), unit=" rows", shown=progress):
            spool.add(row)
        if not gathered.kept:
            raise E2FashionError(_nothing_left(source, gathered))
        keys = [row.keys for row in gathered.kept]
        assignment = decide_splits(keys, [row.split for row in gathered.kept], config.split_seed, fractions)
        notes = [*getattr(source, "notes", ()), *fibres.notes(), *numbers.notes()]
        if config.clean_html:
            notes.append(f"HTML was taken out of the texts of {gathered.with_markup:,} rows")
        for note in assignment.notes:
            logger.warning(note)
        for note in notes:
            logger.info(note)
        features = catalogue_features(tags, gathered.with_regions, number_columns)
        counts, shards, fingerprint = _write_splits(
            folder, features, spool, numbers.signs(), gathered.kept, assignment.splits, progress
        )
        (folder / "spool").rmdir()
        _write_skipped(folder / SKIPPED_FILE, gathered.skipped)
        manifest = Manifest(
            name=target.name,
            source={"name": source.name, "options": source_options(source)},
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
            created_by=_own_version(),
            files=list_files(folder),
        )
        manifest.save(folder)
    return Catalogue(target, manifest)


def _check_settings(config: Preparation, fractions: dict[Split, float]) -> None:
    check_fractions(fractions)
    if config.decimal != "auto" and not config.numbers:
        raise E2FashionError(f"decimal={config.decimal} needs columns of numbers: name them, as in numbers=[price].")
    if config.max_text_characters < 1:
        raise E2FashionError(f"max_text_characters={config.max_text_characters}: it must be at least 1.")
    if not 1 <= config.max_pixels <= PILLOW_MAX_PIXELS:
        raise E2FashionError(f"max_pixels={config.max_pixels:,}: it must be between 1 and {PILLOW_MAX_PIXELS:,}.")


def _check_columns(tag_columns: Sequence[str]) -> None:
    reserved = (*BASE_COLUMNS, REGIONS_COLUMN, "split")
    for column in tag_columns:
        if column in reserved:
            raise E2FashionError(
                f"A tag cannot be called '{column}': the catalogue has a column of that name. Choose another name."
            )


def _checked_rows(
    source: Source,
    fibres: FibreColumns,
    numbers: NumberColumns,
    gathered: _Gathered,
    config: Preparation,
) -> Iterator[CheckedRow]:
    for raw in rows_of(source):
        try:
            if isinstance(raw, SourceProblem):
                raise ProductError(raw)
            _refuse_duplicate(raw, gathered)
            had_markup = config.clean_html and _has_markup(raw)
            raw = _without_markup(raw) if had_markup else raw
            row = check_row(fibres.complete(raw), config.max_text_characters, config.max_pixels)
            _refuse_two_splits(row, gathered)
            numbers.add(row)
        except ProductError as error:
            if config.on_error == "stop":
                raise
            gathered.skipped.append(error.problem)
            continue
        text = hashlib.sha256(normalize_text(row.description).encode()).digest()
        keys = SplitKeys(row.product_id, row.group, text, row.pixels_sha256)
        gathered.kept.append(_Kept(row.row, row.view, keys, row.split))
        gathered.seen[row.product_id, row.view] = row.row
        gathered.split_of.setdefault(row.product_id, (row.split, row.row))
        gathered.with_regions |= row.regions is not None
        gathered.with_markup += had_markup
        fibres.count(row.tags)
        yield row


def _has_markup(row: SourceRow) -> bool:
    return has_markup(row.description) or any(has_markup(tag) for tag in row.tags.values() if tag)


def _without_markup(row: SourceRow) -> SourceRow:
    tags = {column: tag and clean_markup(tag) for column, tag in row.tags.items()}
    return replace(row, description=clean_markup(row.description), tags=tags)


def _refuse_duplicate(row: SourceRow, gathered: _Gathered) -> None:
    product_id = row.product_id.strip()
    first = gathered.seen.get((product_id, row.view))
    if first is not None:
        raise ProductError(
            SourceProblem(
                row.row,
                product_id,
                "product_id",
                f"'{product_id}' with view {row.view} was already read from {first}",
                "keep one of the two rows, or number the images of a product in a view column",
                "duplicate id",
            )
        )


def _refuse_two_splits(row: CheckedRow, gathered: _Gathered) -> None:
    split, first = gathered.split_of.get(row.product_id, (row.split, ""))
    if split != row.split:
        raise ProductError(
            SourceProblem(
                row.row,
                row.product_id,
                "split",
                f"'{row.split}', but {first} puts the same product into '{split}'",
                "put all rows of a product into one split",
                "product in two splits",
            )
        )


def _write_splits(
    folder: Path,
    features: Features,
    spool: Spool,
    signs: Mapping[str, str],
    kept: list[_Kept],
    splits: list[Split],
    progress: bool,
) -> tuple[dict[str, dict[str, int]], dict[str, list[int]], str]:
    """Write every row into its split: products as they first appear, views in ascending order.

    ``signs`` are the decimal signs of the columns that become numbers. Returns images and products per split, products
    per file of each split, and the fingerprint of the whole.
    """
    position: dict[str, int] = {}
    for row in kept:
        position.setdefault(row.keys.product_id, len(position))
    order = sorted(range(len(kept)), key=lambda index: (position[kept[index].keys.product_id], kept[index].view))
    present = [split for split in SPLITS if split in splits]
    folders = {split: SplitFolder(folder / split, features) for split in present}
    digests = {split: hashlib.sha256() for split in present}
    bar = progress_bar(spool.read(order), total=len(order), desc="Writing", unit=" rows", shown=progress)
    for index, batch in zip(order, bar, strict=True):
        split = splits[index]
        batch = with_numbers(batch, signs).select(list(features))
        folders[split].add(batch)
        _digest_row(digests[split].update, batch.to_pylist()[0])
    counts: dict[str, dict[str, int]] = {}
    shards: dict[str, list[int]] = {}
    whole = hashlib.sha256(f"format {FORMAT_VERSION}".encode())
    for split in present:
        products = {row.keys.product_id for row, given in zip(kept, splits, strict=True) if given == split}
        counts[split] = {"images": splits.count(split), "products": len(products)}
        shards[split] = folders[split].close(split, digests[split].hexdigest())
        whole.update(f"{split} {digests[split].hexdigest()}".encode())
    return counts, shards, whole.hexdigest()


def _digest_row(update: Callable[[bytes], object], row: dict[str, Any]) -> None:
    image = row.pop("image")
    update(json.dumps(row, sort_keys=True, ensure_ascii=False).encode())
    update(len(image).to_bytes(8, "little"))
    update(image)


def _write_skipped(file: Path, skipped: list[SourceProblem]) -> None:
    """List the rows that were left out; no file without any."""
    if not skipped:
        return
    columns = ("row", "product_id", "reason", "field", "value", "remedy")
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows([visible(getattr(problem, column)) for column in columns] for problem in skipped)


def _nothing_left(source: Source, gathered: _Gathered) -> str:
    if not gathered.skipped:
        return f"The source '{source.name}' has no rows ({source_options(source)}). Check its path and its table."
    first = gathered.skipped[0]
    return (
        f"Nothing is left of the source '{source.name}': all {len(gathered.skipped):,} rows have problems. "
        f"The first: {ProductError(first)}"
    )


def _own_version() -> str:
    try:
        return f"e2fashion {version('e2fashion')}"
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "e2fashion (not installed)"
