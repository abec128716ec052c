"""Result records: what each task declares, their constructor, and their JSON lines file."""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from e2fashion.disk import DamagedError, atomic_file, check_value, read_line, sealed_line, stored_as, turn_at
from e2fashion.types import E2FashionError, ResultRecord

Key = TypeVar("Key", bound=Hashable)

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
"""Fields that, with the keys declared by the task, identify a record."""

ENCODING = ("image_size", "resize", "precision")
"""Keys of ``extra`` that identify how images were encoded."""

DECLARED_IN = {
    "retrieval": "e2fashion.tasks.retrieval.rankings",
    "retrieval_by_group": "e2fashion.tasks.retrieval.rankings",
    "retrieval_difference": "e2fashion.tasks.retrieval.rankings",
    "zero_shot": "e2fashion.tasks.classification.classify",
    "tags": "e2fashion.tasks.classification.tags",
    "probe": "e2fashion.tasks.probing.probe",
    "selection": "e2fashion.tasks.localization.measure",
    "agreement": "e2fashion.tasks.localization.agreement",
    "captioning": "e2fashion.tasks.captioning.measure",
    "composed_retrieval": "e2fashion.tasks.composed.measure",
    "composed_retrieval_difference": "e2fashion.tasks.composed.measure",
    "search": "e2fashion.tasks.search.measure",
    "data_statistics": "e2fashion.data.describe",
    "model": "e2fashion.records",
}
"""The module that declares each task, imported when records of the task are read."""

REMEDY = "Remove the line, and measure again."

VALUES: dict[str, Any] = {
    **dict.fromkeys(("arm", "against", "entity", "features", "implementation", "region_of", "regions", "shots"), str),
    **dict.fromkeys(("caption_method", "caption_tokenizer", "clip_score_encoder", "weight_chosen_on"), str),
    **dict.fromkeys(("prompt", "language_model", "captioner", "line"), str | None),
    **dict.fromkeys(("templates",), list[str] | str),
    **dict.fromkeys(("region_templates", "wording"), list[str]),
    **dict.fromkeys(("beams", "left_out", "fallbacks", "units", "unknown", "cropped", "indistinct", "draws"), int),
    **dict.fromkeys(("classes", "rare_classes", "rare_train_products", "rare_products", "unseen_classes"), int),
    **dict.fromkeys(("unseen_products", "untagged_products", "min_examples", "short_classes"), int),
    **dict.fromkeys(("rare_values", "min_products", "fewest_candidates", "flat"), int),
    **dict.fromkeys(("temperature", "length_penalty", "target_accuracy", "region_weight", "weight"), float),
    **dict.fromkeys(("region_score_weight", "text_weight"), float),
    **dict.fromkeys(("area", "chance", "p_value", "ceiling"), float),
    **dict.fromkeys(("noise_variance",), float | None),
    **dict.fromkeys(("converged", "both_orders"), bool),
    "seeds": list[int],
    "majority": float | dict[str, float],
    "deviation": dict[str, float],
    "texts": dict[str, Any],
}
"""Types of the values in ``extra`` that tables and figures show, by key and for every task."""

_kinds: dict[str, RecordKind] = {}


@dataclass(frozen=True)
class RecordContext:
    """The shared fields of the records of one evaluation, see :class:`e2fashion.types.ResultRecord`."""

    run: str
    model: str
    split: str
    text: str = ""
    seed: int = 0
    config_hash: str = ""
    commit: str = ""
    data_fingerprint: str = ""


@dataclass(frozen=True)
class RunIdentity:
    """The run that trained the measured model; empty for other checkpoints."""

    identity: str = ""
    commit: str = ""
    seed: int = 0

    def context(self, model: str, split: str, data_fingerprint: str, text: str = "") -> RecordContext:
        """The shared fields of all records of this model on a split."""
        return RecordContext(
            run=self.identity,
            model=model,
            split=split,
            text=text,
            seed=self.seed,
            config_hash=self.identity,
            commit=self.commit,
            data_fingerprint=data_fingerprint,
        )


@dataclass(frozen=True)
class RecordKind:
    """The declaration of a task's records.

    Of two records that agree in :data:`IDENTITY` and in the keys ``identified_by`` of ``extra``, the later replaces the
    earlier. Keys in ``reports`` are outcomes. Any other key identifies too when a record is read, and is refused when
    one is created, unless the kind is ``extensible`` (protocols of other packages).
    """

    task: str
    identified_by: tuple[str, ...] = ()
    reports: tuple[str, ...] = ()
    extensible: bool = False

    def record(
        self,
        context: RecordContext,
        metric: str,
        value: float,
        low: float | None = None,
        high: float | None = None,
        *,
        protocol: str = "",
        direction: str = "",
        positives: str = "",
        queries: int = 0,
        candidates: float = 0.0,
        extra: Mapping[str, Any] | None = None,
    ) -> ResultRecord:
        """A new record of this task.

        Raises:
            E2FashionError: a key of ``extra`` that the task does not declare.
        """
        extra = dict(extra or {})
        unknown = sorted(set(extra) - {*self.identified_by, *self.reports})
        if unknown and not self.extensible:
            raise E2FashionError(
                f"a record of '{self.task}' has the key '{unknown[0]}' in extra, which the task does not declare: add "
                "it to identified_by (another value is another measurement) or to reports (an outcome)"
            )
        return ResultRecord(
            **asdict(context),
            task=self.task,
            metric=metric,
            value=float(value),
            low=None if low is None else float(low),
            high=None if high is None else float(high),
            protocol=protocol,
            direction=direction,
            positives=positives,
            queries=queries,
            candidates=candidates,
            extra=extra,
        )

    def grouped(
        self, records: Iterable[ResultRecord], key: Callable[[ResultRecord], Key]
    ) -> dict[Key, list[ResultRecord]]:
        """The task's records among ``records`` by ``key``, in their order."""
        groups: dict[Key, list[ResultRecord]] = {}
        for record in records:
            if record.task == self.task:
                groups.setdefault(key(record), []).append(record)
        return groups

    def settings(self, record: ResultRecord) -> dict[str, Any]:
        """The keys of ``extra`` that identify a record, with hashable values, without those that are None."""
        return {
            name: json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value
            for name, value in sorted(record.extra.items())
            if value is not None and name not in self.reports
        }


def declare(
    task: str, identified_by: Iterable[str] = (), reports: Iterable[str] = (), extensible: bool = False
) -> RecordKind:
    """Declare the records of a task.

    Raises:
        E2FashionError: the task has another declaration, or a key is in both lists.
    """
    kind = RecordKind(task, tuple(identified_by), tuple(reports), extensible)
    if both := sorted(set(kind.identified_by) & set(kind.reports)):
        raise E2FashionError(f"records of '{task}': '{both[0]}' is in identified_by and in reports; choose one")
    if _kinds.setdefault(task, kind) != kind:
        raise E2FashionError(f"the task '{task}' is declared already, with other keys: choose another name")
    return kind


def kind_of(task: str) -> RecordKind:
    """The declaration of a task; for an unknown one every key of ``extra`` identifies, so that no record is lost."""
    if task not in _kinds and task in DECLARED_IN:
        importlib.import_module(DECLARED_IN[task])
    return _kinds.get(task, RecordKind(task))


MODEL = declare("model")
"""Facts of a model: its number of parameters."""


def settings_of(record: ResultRecord) -> dict[str, Any]:
    """What identifies a record besides :data:`IDENTITY`, see :meth:`RecordKind.settings`."""
    return kind_of(record.task).settings(record)


FIELDS = {item.name: item for item in fields(ResultRecord)}
REQUIRED = {name for name, item in FIELDS.items() if item.default is MISSING and item.default_factory is MISSING}


def append_records(path: Path, records: Iterable[ResultRecord], *, drop_damaged: bool = False) -> None:
    """Append ``records``, a line with a checksum each, to the file atomically; ``drop_damaged`` removes damaged lines.

    Raises:
        E2FashionError: a value is not a finite number; nothing is written.
    """
    lines = []
    for record in records:
        try:
            lines.append(sealed_line(record.as_dict()))
        except ValueError as error:
            raise E2FashionError(
                f"record {record.metric} of run '{record.run}' holds value {record.value}, low {record.low}, "
                f"high {record.high}, extra {record.extra}: only finite numbers can be stored"
            ) from error
    data = "".join(lines).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with turn_at(path):
        before = path.read_bytes()
        if drop_damaged:
            before = b"".join(line for line in before.splitlines(keepends=True) if _content(line, "") is not None)
        if before and not before.endswith(b"\n"):  # keep a truncated line apart from the first new one
            before += b"\n"
        with atomic_file(path) as partial:
            partial.write_bytes(before + data)


def read_records(path: Path, latest: bool = True) -> list[ResultRecord]:
    """The records of a file in their order, without those that a later one replaces, unless ``latest`` is False.

    A damaged line, which is not JSON or does not match its checksum, is skipped with a warning.

    Raises:
        E2FashionError: the file is missing, or a line is not a record.
    """
    if not path.is_file():
        raise E2FashionError(f"there are no records at {path}: evaluate a model first, or give its results.jsonl")
    records = []
    for number, record in _lines(path):
        if record is not None:
            records.append(record)
            continue
        warnings.warn(f"{path} line {number} is damaged and was skipped: evaluate again to replace it", stacklevel=2)
    return latest_records(records) if latest else records


def interrupted_measurements(path: Path) -> set[tuple[str, str]]:
    """Split and protocol of records next to a damaged line, whose measurement may lack the record of that line."""
    measured = [None if record is None else (record.split, record.protocol) for _, record in _lines(path)]
    damaged = [row for row, item in enumerate(measured) if item is None]
    neighbors = [item for row in damaged for item in (*measured[row - 1 : row], *measured[row + 1 : row + 2])]
    return {item for item in neighbors if item is not None}


def _lines(path: Path) -> Iterator[tuple[int, ResultRecord | None]]:
    """The number of each line that is not blank, and its record; None if it is damaged."""
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if line.strip():
            yield number, _content(line, f"{path} line {number}")


def _content(line: bytes, where: str) -> ResultRecord | None:
    try:
        values = read_line(line, where, REMEDY)
    except DamagedError:
        return None
    return _record(values, where)


def latest_records(records: Iterable[ResultRecord]) -> list[ResultRecord]:
    """The last of the records that measure the same thing, in the order in which they were last written."""
    kept: dict[tuple[Any, ...], ResultRecord] = {}
    for record in records:
        key = (*(getattr(record, name) for name in IDENTITY), *settings_of(record).items())
        kept.pop(key, None)
        kept[key] = record
    return list(kept.values())


def _record(values: Any, where: str) -> ResultRecord:
    if not isinstance(values, dict):
        raise E2FashionError(f"{where} holds {values!r}: a record is a JSON object")
    if unknown := sorted(set(values) - set(FIELDS)):
        raise E2FashionError(
            f"{where} has the unknown field '{unknown[0]}': it was written by another version, or edited"
        )
    if missing := sorted(REQUIRED - set(values)):
        raise E2FashionError(f"{where} lacks the field '{missing[0]}': a record needs {sorted(REQUIRED)}")
    record = stored_as(ResultRecord, values, where, REMEDY)
    for key in record.extra.keys() & VALUES.keys():
        check_value(VALUES[key], record.extra[key], f"extra.{key}", where, REMEDY)
    return replace(record, extra=StoredExtra(record.extra, where))


class StoredExtra(dict[str, Any]):
    """``extra`` of a record from a file: a missing key that a table needs is an error that names the line."""

    def __init__(self, values: Any = (), where: str = "a record") -> None:
        super().__init__(values)
        self.where = where

    def __missing__(self, key: str) -> Any:
        raise E2FashionError(
            f"{self.where} lacks '{key}' in extra, which its table shows: another version wrote it, or it was edited. "
            f"{REMEDY}"
        )
