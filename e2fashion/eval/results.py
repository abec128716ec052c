"""Records on disk: one JSON object per line, appended whole, read past a line that a crash cut off."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from e2fashion.types import E2FashionError, ResultRecord

IDENTITY = (
    "run",
    "model",
    "task",
    "metric",
    "split",
    "protocol",
    "direction",
    "positives",
    "text",
    "seed",
    "config_hash",
    "data_fingerprint",
)
"""Two records that agree in these, and in :data:`SETTINGS`, measure the same thing: the later replaces the earlier."""

SETTINGS = (
    "image_size",
    "resize",
    "precision",
    "candidate_seed",
    "queries_per_draw",
    "draws",
    "fill",
    "division",
    "group",
    "entity",
    "layer",
    "regions",
    "features",
    "shots",
    "min_examples",
    "strengths",
    "tolerance",
    "probe_seed",
    "templates",
    "region_templates",
    "wording",
    "region_of",
    "region_weight",
    "weight_chosen_on",
    "target_accuracy",
    "caption_method",
    "caption_tokenizer",
    "caption_length",
    "memory_size",
    "temperature",
    "beams",
    "length_penalty",
    "clip_score_encoder",
    "arm",
    "both_orders",
    "memory",
    "captioner",
    "language_model",
    "line",
    "instruction",
    "pad_aspect",
    "min_products",
)
"""What ``extra`` holds of what was measured and how, where the kind of measurement has such a setting."""

FIELDS = {item.name: item for item in fields(ResultRecord)}
REQUIRED = {name for name, item in FIELDS.items() if item.default is MISSING and item.default_factory is MISSING}


def append_records(path: Path, records: Iterable[ResultRecord]) -> None:
    """Add ``records`` to the file in one write that has reached the disk when this returns.

    Raises E2FashionError for a value that is not a finite number; nothing is written then.
    """
    lines = []
    for record in records:
        try:
            lines.append(json.dumps(record.as_dict(), allow_nan=False, ensure_ascii=False) + "\n")
        except ValueError as error:
            raise E2FashionError(
                f"record {record.metric} of run '{record.run}' holds value {record.value}, low {record.low}, "
                f"high {record.high}, extra {record.extra}: only finite numbers can be stored"
            ) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(lines).encode()
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    with os.fdopen(handle, "rb+", buffering=0) as file:
        # A line that a crash cut off must not swallow the first new one.
        if file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            data = b"\n" + data
        written = os.write(file.fileno(), data)
        while written < len(data):
            written += os.write(file.fileno(), data[written:])
        os.fsync(file.fileno())


def read_records(path: Path, latest: bool = True) -> list[ResultRecord]:
    """The records of a file in its order; of those that measure the same thing the last, unless ``latest`` is False.

    A line that is no JSON was cut off by a crash: it is left out with a warning that names it.

    Raises E2FashionError when the file is missing or a line holds something else than a record.
    """
    if not path.is_file():
        raise E2FashionError(f"there are no records at {path}: evaluate a model first, or name its results.jsonl")
    records = []
    for number, record in _lines(path):
        if record is not None:
            records.append(record)
            continue
        warnings.warn(
            f"{path} line {number} is cut off and was left out: evaluate again to replace what it held",
            stacklevel=2,
        )
    return latest_records(records) if latest else records


def interrupted_measurements(path: Path) -> set[tuple[str, str]]:
    """Split and protocol of records that stand before a cut-off line and were not measured again behind it.

    Whoever wrote them may have had more to write.
    """
    found: set[tuple[str, str]] = set()
    last: tuple[str, str] | None = None
    for _, record in _lines(path):
        if record is None:
            found |= {last} if last else set()
        else:
            last = (record.split, record.protocol)
            found.discard(last)
    return found


def _lines(path: Path) -> Iterator[tuple[int, ResultRecord | None]]:
    """The number of each line that is not blank, and its record; None where it is cut off."""
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError:
            yield number, None
            continue
        yield number, _record(values, f"{path} line {number}")


def latest_records(records: Iterable[ResultRecord]) -> list[ResultRecord]:
    """Of the records that measure the same thing the last one, in the order in which they were last written."""
    kept: dict[tuple[Any, ...], ResultRecord] = {}
    for record in records:
        settings = (record.extra.get(name) for name in SETTINGS)
        listed = (tuple(value) if isinstance(value, list) else value for value in settings)
        key = (*(getattr(record, name) for name in IDENTITY), *listed)
        kept.pop(key, None)
        kept[key] = record
    return list(kept.values())


def _record(values: Any, place: str) -> ResultRecord:
    if not isinstance(values, dict):
        raise E2FashionError(f"{place} holds {values!r}: a record is a JSON object")
    if unknown := sorted(set(values) - set(FIELDS)):
        raise E2FashionError(
            f"{place} has the unknown field '{unknown[0]}': it was written by another version, or edited"
        )
    if missing := sorted(REQUIRED - set(values)):
        raise E2FashionError(f"{place} lacks the field '{missing[0]}': a record needs {sorted(REQUIRED)}")
    return ResultRecord(**values)
