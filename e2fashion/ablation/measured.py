"""What a run's folder holds of the measurements that its configuration asks for, and what it still lacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from e2fashion.config import split_names
from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder
from e2fashion.evaluation import measure
from e2fashion.records import append_records, interrupted_measurements, read_records
from e2fashion.run_folder import RunFolder
from e2fashion.tasks.localization.records import SELECTION
from e2fashion.tasks.retrieval.config import EvaluateConfig
from e2fashion.tasks.retrieval.measure import CANDIDATES
from e2fashion.tasks.retrieval.protocols import FullGallery
from e2fashion.tasks.retrieval.rankings import rankings_file
from e2fashion.training.config import RunConfig
from e2fashion.types import ResultRecord

TOKENS = "tokens"
"""The way of looking at a selection that every run is measured by, where its catalogue knows regions."""


def stored_records(
    folder: RunFolder, config: RunConfig, data_fingerprint: str, splits: Sequence[str]
) -> list[ResultRecord]:
    """The records of a run's protocols and of its selection on ``splits``, with the model as it was trained.

    What ``evaluate`` measured with other settings stands in the same file.
    """
    if not folder.results.is_file():
        return []
    of_model = (folder.read_record().get("identity", ""), config.name, data_fingerprint)
    usual: dict[str, Any] = {"image_size": config.image.size, "resize": config.image.resize, "precision": "fp32"}
    usual |= {"candidate_seed": 0, "queries_per_draw": None, "draws": 1, "fill": "report"}
    text, protocols = config.text.template, split_names(config.protocols)
    return [
        record
        for record in read_records(folder.results)
        if (record.run, record.model, record.data_fingerprint) == of_model
        and record.split in splits
        and ((record.text == text and record.protocol in protocols) or _is_selection(record))
        and all(record.extra.get(name, value) == value for name, value in usual.items())
    ]


def unmeasured(folder: RunFolder, config: RunConfig, data_fingerprint: str, split: str) -> list[str]:
    """The run's protocols of which ``results.jsonl`` lacks records of ``split``, or holds some that were cut off.

    ``full`` is measured when its rankings are kept too; what is asked of selection tokens is called ``tokens``.
    """
    there = {record.protocol for record in stored_records(folder, config, data_fingerprint, [split])}
    if folder.results.is_file():
        there -= {protocol for other, protocol in interrupted_measurements(folder.results) if other == split}
    if not rankings_file(folder.rankings, FullGallery.name, split, data_fingerprint).is_file():
        there.discard(FullGallery.name)
    return [protocol for protocol in split_names(config.protocols) if protocol not in there] + (
        [] if TOKENS in there else [TOKENS]
    )


def _is_selection(record: ResultRecord) -> bool:
    return (record.task, record.protocol) == (SELECTION.task, TOKENS)


def results_of(
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
            records = measure(encoder, catalogue, settings, made_by, lists, progress, folder.rankings)
            append_records(folder.results, records)
    return stored_records(folder, config, catalogue.fingerprint, splits)
