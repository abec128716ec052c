"""An encoder on a catalogue's split: its embeddings, and the records of every protocol that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.datamodule import CatalogueDataModule
from e2fashion.data.text import TextTemplate
from e2fashion.embedding import EmbeddedSplit, embed_split
from e2fashion.encoder import Encoder
from e2fashion.records import RunIdentity
from e2fashion.tasks.retrieval.protocols import FullGallery, protocol_named
from e2fashion.tasks.retrieval.rankings import rankings_file, records_of, save_rankings
from e2fashion.types import ResultRecord

#: The column whose values delimit the candidates of ``sample_100``.
CATEGORY_COLUMN = "sub_category"
#: Where candidate lists lie, in a catalogue and beside results.
CANDIDATES = "candidates"


@dataclass(frozen=True)
class MeasureSettings:
    """Protocols by name with the options of ``sample_100``, and how embedding is done.

    ``candidate_folder`` keeps the drawn candidate lists (None: they are drawn anew); those that the catalogue's own
    folder ``candidates`` holds are read and used. ``rankings_folder`` keeps the rank of every query under ``full``, so
    that models can be compared query by query later (None: not kept). ``with_tags`` False hides the tags of text
    entities too, from models that have such.
    """

    protocols: Sequence[str] = ("full",)
    queries: int | None = None
    draws: int = 1
    fill: Literal["report", "top_up"] = "report"
    seed: int = 0
    candidate_folder: Path | None = None
    rankings_folder: Path | None = None
    batch_size: int = 128
    workers: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    progress: bool = True
    with_tags: bool = True


def embed_catalogue(
    encoder: Encoder,
    catalogue: Catalogue,
    split: str,
    template: TextTemplate | None = None,
    views: bool = False,
    settings: MeasureSettings | None = None,
) -> EmbeddedSplit:
    """Every product's first view (``views``: every picture) and text of one split, embedded.

    ``template`` (None: the encoder's own) is checked against the catalogue's columns first.
    """
    settings = settings or MeasureSettings()
    return _embed(encoder, _data(encoder, catalogue, template or encoder.template, settings), split, views, settings)


def _data(
    encoder: Encoder, catalogue: Catalogue, template: TextTemplate, settings: MeasureSettings
) -> CatalogueDataModule:
    """The catalogue as the encoder reads it."""
    template.validate(catalogue.tag_columns)
    return CatalogueDataModule(
        catalogue=catalogue,
        template=template,
        transform=encoder.transform,
        tokenizer=encoder.tokenizer,
        entity_columns=[entity.column for entity in encoder.text_entities] if settings.with_tags else [],
        context_length=encoder.context_length,
        overflow=encoder.text_overflow,
        evaluation_batch_size=settings.batch_size,
        workers=settings.workers,
    )


def _embed(
    encoder: Encoder, data: CatalogueDataModule, split: str, views: bool, settings: MeasureSettings
) -> EmbeddedSplit:
    return embed_split(
        encoder.model,
        data.loader(split, views=views),
        categories=_categories(data.catalogue, split),
        mean=encoder.transform.mean,
        std=encoder.transform.std,
        precision=settings.precision,
        progress=settings.progress,
        label=f"embed {split} with {encoder.name}",
    )


def measure_retrieval(
    encoder: Encoder,
    catalogue: Catalogue,
    split: str,
    template: TextTemplate | None = None,
    settings: MeasureSettings | None = None,
    run: RunIdentity | None = None,
) -> list[ResultRecord]:
    """Records of every protocol in ``settings`` on one split; the split is embedded once for all of them."""
    settings, run, template = settings or MeasureSettings(), run or RunIdentity(), template or encoder.template
    protocols = [
        protocol_named(
            name,
            queries=settings.queries,
            draws=settings.draws,
            fill=settings.fill,
            seed=settings.seed,
            folder=settings.candidate_folder,
            stored_in=(catalogue.path / CANDIDATES,),
        )
        for name in settings.protocols
    ]
    views = any(protocol.name == "full_multiview" for protocol in protocols)
    data = _data(encoder, catalogue, template, settings)
    embedded = _embed(encoder, data, split, views, settings)
    texts = data.text_counts(split, encoder.text_stretched_from)
    context = run.context(encoder.name, split, catalogue.fingerprint, template.template)
    how = {
        "image_size": encoder.transform.size,
        "resize": encoder.transform.resize,
        "precision": settings.precision,
    } | ({"texts": texts.record()} if texts.long or texts.stretched else {})
    records: list[ResultRecord] = []
    for protocol in protocols:
        rankings = protocol.rank(embedded, context)
        if settings.rankings_folder is not None and protocol.name == FullGallery.name:
            file = rankings_file(settings.rankings_folder, protocol.name, split, catalogue.fingerprint)
            save_rankings(file, rankings, embedded.product_ids)
        records += records_of(rankings, context, protocol.name, how=how)
    return records


def _categories(catalogue: Catalogue, split: str) -> dict[str, str | None]:
    if CATEGORY_COLUMN not in catalogue.tag_columns:
        return {}
    rows = catalogue.split(split)
    return dict(zip(rows["product_id"], rows[CATEGORY_COLUMN], strict=True))
