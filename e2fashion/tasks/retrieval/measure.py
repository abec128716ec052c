"""An encoder on a catalogue's split: its embeddings, and the records of every retrieval protocol."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.datamodule import CatalogueDataModule
from e2fashion.data.text import TextTemplate
from e2fashion.embedding import EmbeddedSplit, embed_split
from e2fashion.encoder import Encoder
from e2fashion.measuring import encoding_of
from e2fashion.options import Inference
from e2fashion.records import RunIdentity
from e2fashion.tasks.retrieval.config import EvaluateConfig, Sampling
from e2fashion.tasks.retrieval.protocols import FullGallery, protocol_named
from e2fashion.tasks.retrieval.rankings import rankings_file, records_of, save_rankings
from e2fashion.types import ResultRecord

CATEGORY_COLUMN = "sub_category"
"""The column whose values delimit the candidates of ``sample_100``."""
CANDIDATES = "candidates"
"""Folder of candidate lists, in a catalogue and next to results."""


def embed_catalogue(
    encoder: Encoder,
    catalogue: Catalogue,
    split: str,
    template: TextTemplate | None = None,
    views: bool = False,
    config: Inference | None = None,
    with_tags: bool = True,
    progress: bool = True,
) -> EmbeddedSplit:
    """Every product's first view (``views``: every image) and text of one split, embedded.

    ``with_tags`` False hides the tags from models that encode texts with tags.

    Raises:
        E2FashionError: the ``template`` (None: the encoder's) has a field that the catalogue lacks.
    """
    config = config or Inference()
    data = _data(encoder, catalogue, template or encoder.template, config, with_tags)
    return _embed(encoder, data, split, views, config, progress)


def _data(
    encoder: Encoder, catalogue: Catalogue, template: TextTemplate, config: Inference, with_tags: bool
) -> CatalogueDataModule:
    """The catalogue as the encoder reads it."""
    template.validate(catalogue.tag_columns)
    return CatalogueDataModule(
        catalogue=catalogue,
        template=template,
        transform=encoder.transform,
        tokenizer=encoder.tokenizer,
        entity_columns=[entity.column for entity in encoder.text_entities] if with_tags else [],
        context_length=encoder.context_length,
        overflow=encoder.text_overflow,
        evaluation_batch_size=config.batch_size,
        workers=config.workers,
    )


def _embed(
    encoder: Encoder, data: CatalogueDataModule, split: str, views: bool, config: Inference, progress: bool
) -> EmbeddedSplit:
    return embed_split(
        encoder.model,
        data.loader(split, views=views),
        categories=_categories(data.catalogue, split),
        mean=encoder.transform.mean,
        std=encoder.transform.std,
        precision="bf16" if config.precision == "bf16" else "fp32",
        progress=progress,
        label=f"embed {split} with {encoder.name}",
    )


def measure_retrieval(
    encoder: Encoder,
    catalogue: Catalogue,
    split: str,
    config: EvaluateConfig | None = None,
    run: RunIdentity | None = None,
    *,
    candidates: Path | None = None,
    rankings: Path | None = None,
    progress: bool = True,
) -> list[ResultRecord]:
    """Records of every protocol of ``config`` on one split, which is embedded once for all of them.

    ``candidates`` stores the drawn candidate lists (None: they are drawn anew); lists in the catalogue's folder
    ``candidates`` are read and used. ``rankings`` stores the rank of every query under ``full``, so that models can be
    compared query by query later (None: not stored).

    Raises:
        E2FashionError: an unknown protocol or split, or a template that the catalogue cannot fill.
    """
    config, run = config or EvaluateConfig(), run or RunIdentity()
    sampling = {item.name: getattr(config, item.name) for item in fields(Sampling)}
    lists = {"folder": candidates, "stored_in": (catalogue.path / CANDIDATES,)}
    protocols = [protocol_named(name, **sampling, **lists) for name in config.protocol]
    views = any(protocol.name == "full_multiview" for protocol in protocols)
    template = encoder.template if config.with_tags else encoder.template.without_tags()
    data = _data(encoder, catalogue, template, config, config.with_tags)
    embedded = _embed(encoder, data, split, views, config, progress)
    texts = data.text_counts(split, encoder.text_stretched_from)
    context = run.context(encoder.name, split, catalogue.fingerprint, template.template)
    how = encoding_of(encoder, config.precision)
    if texts.long or texts.stretched:
        how["texts"] = texts.record()
    records: list[ResultRecord] = []
    for protocol in protocols:
        ranked = protocol.rank(embedded, context)
        if rankings is not None and protocol.name == FullGallery.name:
            file = rankings_file(rankings, protocol.name, split, catalogue.fingerprint)
            save_rankings(file, ranked, embedded.product_ids)
        records += records_of(ranked, context, protocol.name, how=how)
    return records


def _categories(catalogue: Catalogue, split: str) -> dict[str, str | None]:
    if CATEGORY_COLUMN not in catalogue.tag_columns:
        return {}
    rows = catalogue.split(split)
    return dict(zip(rows["product_id"], rows[CATEGORY_COLUMN], strict=True))
