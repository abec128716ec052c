"""An encoder on a catalogue's split: its embeddings, the records of every retrieval protocol, and Marqo's tasks."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.datamodule import CatalogueDataModule
from e2fashion.data.text import DESCRIPTION, TextTemplate
from e2fashion.embedding import EmbeddedSplit, embed_split
from e2fashion.encoder import Encoder, require_single_vectors
from e2fashion.features import data_of
from e2fashion.measuring import encoding_of
from e2fashion.metrics.retrieval import summarize
from e2fashion.options import Inference
from e2fashion.records import RunIdentity
from e2fashion.tasks.retrieval.config import EvaluateConfig, Sampling
from e2fashion.tasks.retrieval.protocols import COMPARED, FullWithRegions, protocol_named
from e2fashion.tasks.retrieval.rankings import rankings_file, records_of, save_rankings
from e2fashion.types import E2FashionError, ResultRecord

logger = logging.getLogger(__name__)

CATEGORY_COLUMN = "sub_category"
"""The column whose values delimit the candidates of ``sample_100``."""
CANDIDATES = "candidates"
"""Folder of candidate lists, in a catalogue and next to results."""
REGION_SCORE_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
"""The weights of the regional score that are tried on val (ours)."""


def embed_catalogue(
    encoder: Encoder,
    catalogue: Catalogue,
    split: str,
    template: TextTemplate | None = None,
    views: bool = False,
    config: Inference | None = None,
    with_tags: bool = True,
    progress: bool = True,
    regions: bool = False,
) -> EmbeddedSplit:
    """Every product's first view (``views``: every image) and text of one split, embedded.

    ``with_tags`` False hides the tags from models that encode texts with tags. ``regions`` adds the regions, and the
    tags that the template states, of a model whose regions' tags it states.

    Raises:
        E2FashionError: the ``template`` (None: the encoder's) has a field that the catalogue lacks.
    """
    config, template = config or Inference(), template or encoder.template
    stated = stated_regions(encoder, template) if regions else []
    return _embed(encoder, catalogue, split, template, views, config, with_tags, progress, stated)[1]


def stated_regions(encoder: Encoder, template: TextTemplate) -> list[bool]:
    """Whether texts of this template state the tag of each region; empty if they state none, or without regions."""
    stated = [template.states(entity.column) for entity in encoder.entities]
    return stated if any(stated) and not encoder.compares_tokens else []


def choose_region_score_weight(embedded: EmbeddedSplit) -> float:
    """The weight of the regional score with the highest SumR (hits by equal text), the smallest of equal ones.

    ``embedded`` are the products of val, with regions.
    """

    def sum_of_recalls(weight: float) -> float:
        rankings = FullWithRegions(weight).rank(embedded, RunIdentity().context("", "", ""))
        ranks = {item.direction: item.ranks for item in rankings if item.positives == "text"}
        return summarize(ranks)["SumR"].value

    return max(REGION_SCORE_WEIGHTS, key=lambda weight: (sum_of_recalls(weight), -weight))


def region_score_weight(
    encoder: Encoder,
    catalogue: Catalogue,
    config: EvaluateConfig | None = None,
    progress: bool = True,
    embedded: EmbeddedSplit | None = None,
) -> tuple[float, str]:
    """The weight of the regional score, and what it was chosen on: as configured, stored with the model, or from val.

    ``embedded`` is val with regions, if the caller has it.

    Raises:
        E2FashionError: it has to be chosen, and the catalogue has no val.
    """
    config = config or EvaluateConfig()
    if config.region_score_weight is not None:
        return config.region_score_weight, ""
    stored = encoder.region_score_weight
    if stored is not None:
        return float(stored), "val"
    if "val" not in catalogue.split_names:
        raise E2FashionError(
            f"'{encoder.name}' has no stored weight of the regional score, and {catalogue.path} has no val to choose "
            "it on: give region_score_weight=1.0, say"
        )
    if embedded is None:
        template = encoder.template if config.with_tags else encoder.template.without_tags()
        embedded = embed_catalogue(encoder, catalogue, "val", template, False, config, config.with_tags, progress, True)
    weight = choose_region_score_weight(embedded)
    logger.info("%s: weight %.2f of regions in the score, chosen on val", encoder.name, weight)
    return weight, "val"


def _embed(
    encoder: Encoder,
    catalogue: Catalogue,
    split: str,
    template: TextTemplate,
    views: bool,
    config: Inference,
    with_tags: bool,
    progress: bool,
    stated: Sequence[bool],
) -> tuple[CatalogueDataModule, EmbeddedSplit]:
    """The catalogue as the encoder reads it, and a split of it, embedded."""
    template.validate(catalogue.tag_columns)
    entities = [*(encoder.entities if stated else ()), *(encoder.text_entities if with_tags else ())]
    data = data_of(encoder, catalogue, config, template, [entity.column for entity in entities])
    rows, categories = catalogue.split(split), {}
    if CATEGORY_COLUMN in catalogue.tag_columns:
        categories = dict(zip(rows["product_id"], rows[CATEGORY_COLUMN], strict=True))
    return data, embed_split(
        encoder.model,
        data.loader(split, views=views),
        categories=categories,
        mean=encoder.transform.mean,
        std=encoder.transform.std,
        precision="bf16" if config.precision == "bf16" else "fp32",
        progress=progress,
        label=f"embed {split} with {encoder.name}",
        stated=stated,
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
    ``candidates`` are read and used. ``rankings`` stores the rank of every query under the protocols of
    :data:`.COMPARED`, so that models can be compared query by query later (None: not stored).

    Raises:
        E2FashionError: an unknown protocol or split, or a template that the catalogue cannot fill.
    """
    config, run = config or EvaluateConfig(), run or RunIdentity()
    template = encoder.template if config.with_tags else encoder.template.without_tags()
    stated = stated_regions(encoder, template) if FullWithRegions.name in config.protocol else []
    sampling = {item.name: getattr(config, item.name) for item in fields(Sampling)}
    lists = {"folder": candidates, "stored_in": (catalogue.path / CANDIDATES,)}
    protocols = [protocol_named(name, **sampling, **lists) for name in config.protocol]
    views = any(protocol.name == "full_multiview" for protocol in protocols)
    data, embedded = _embed(encoder, catalogue, split, template, views, config, config.with_tags, progress, stated)
    if stated:
        val = embedded if split == "val" and not views else None
        regional = FullWithRegions(*region_score_weight(encoder, catalogue, config, progress, val))
        protocols = [regional if protocol.name == regional.name else protocol for protocol in protocols]
    texts = data.text_counts(split, encoder.text_stretched_from)
    context = run.context(encoder.name, split, catalogue.fingerprint, template.template)
    how = encoding_of(encoder, config.precision)
    if texts.long or texts.stretched:
        how["texts"] = texts.record()
    records: list[ResultRecord] = []
    for protocol in protocols:
        ranked = protocol.rank(embedded, context)
        if rankings is not None and protocol.name in COMPARED:
            file = rankings_file(rankings, protocol.name, split, catalogue.fingerprint)
            save_rankings(file, ranked, embedded.product_ids)
        records += records_of(ranked, context, protocol.name, how=how)
    return records


TEXT_TO_IMAGE = "text-to-image"
CATEGORIES = MappingProxyType({"category-to-product": "category", "sub-category-to-product": "sub_category"})
#: Share of the image in the vector of a product. Source: Marqo's configurations.
IMAGE_SHARE = 0.9
DEPTH = 10


def marqo_tasks(
    encoder: Encoder,
    catalogue: Catalogue,
    split: str = "test",
    categories: Mapping[str, str] = CATEGORIES,
    progress: bool = True,
) -> dict[str, dict[str, float]]:
    """Metrics from 0 to 1 by task: AvgRecall, Recall@1, Recall@10, MRR of texts; AvgP, P@1, P@10, MRR of categories.

    A query is each distinct description, whose images are right, or each value of a tag, whose products are right;
    ``categories`` names the tag of each task. A product is the first view, in the latter tasks with its description:
    ``0.9 * image + 0.1 * text``. Recall is the share of all right items that is among the top k, ``AvgRecall`` and
    ``AvgP`` are means over k = 1 and 10, and MRR ends at rank 10. Marqo draws at most 2,000 queries of its own sets;
    here all are measured.

    Raises:
        E2FashionError: the catalogue lacks a tag, or the encoder compares tokens.
    """
    require_single_vectors(encoder, "Marqo's evaluation")
    for column in categories.values():
        catalogue.check_tag(column)
    template = TextTemplate(f"{{{DESCRIPTION}}}")
    embedded = embed_catalogue(encoder, catalogue, split, template, with_tags=False, progress=progress)
    images = embedded.image_embeds[embedded.first_images]
    texts = embedded.text_embeds[embedded.text_product.argsort(stable=True)]  # one a product
    products = nn.functional.normalize(IMAGE_SHARE * images + (1.0 - IMAGE_SHARE) * texts, dim=-1)
    rows = catalogue.split(split).select_columns(["product_id", DESCRIPTION, *categories.values()])
    first = {row["product_id"]: row for row in reversed(rows.to_list())}
    of_products = [first[product_id] for product_id in embedded.product_ids]
    result = {TEXT_TO_IMAGE: _measure(encoder, [row[DESCRIPTION] for row in of_products], images, "Recall")}
    for task, column in categories.items():
        result[task] = _measure(encoder, [row[column] for row in of_products], products, "P")
    return result


def _measure(encoder: Encoder, values: Sequence[str | None], items: Tensor, metric: str) -> dict[str, float]:
    """Every distinct value as a query for the ``items`` (N, C) that have it."""
    numbers = {value: number for number, value in enumerate(dict.fromkeys(v for v in values if v))}
    group = torch.tensor([numbers.get(value or "", -1) for value in values])
    relevant = torch.arange(len(numbers))[:, None] == group
    order = (encoder.embed_texts(list(numbers)) @ items.T).argsort(dim=1, descending=True, stable=True)
    hits = relevant.gather(1, order[:, :DEPTH]).double()
    of = {k: relevant.sum(1) if metric == "Recall" else k for k in (1, DEPTH)}
    scores = {f"{metric}@{k}": float((hits[:, :k].sum(1) / of[k]).mean()) for k in of}
    positions = torch.arange(1, hits.shape[1] + 1, dtype=torch.float64)
    average = "AvgRecall" if metric == "Recall" else "AvgP"
    return {average: sum(scores.values()) / 2, **scores, "MRR": float((hits / positions).amax(1).mean())}
