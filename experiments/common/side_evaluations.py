"""Side evaluations of fine-tuned models: recall by groups of queries, zero-shot labels, interpolated weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.text import TextTemplate
from e2fashion.encoder import Encoder, load_encoder
from e2fashion.measuring import identity_of
from e2fashion.models.interpolate import interpolate_weights
from e2fashion.records import RecordContext
from e2fashion.tables import Column, Table, pivot
from e2fashion.tasks.classification.classify import measure_zero_shot
from e2fashion.tasks.retrieval.measure import embed_catalogue
from e2fashion.tasks.retrieval.protocols import FullGallery
from e2fashion.tasks.retrieval.rankings import frequency_groups, length_groups, recall_by_group
from e2fashion.tasks.retrieval.tables import TITLES
from e2fashion.training.config import RunConfig
from e2fashion.types import E2FashionError, ResultRecord
from experiments.common.experiment import Material

SPLIT = "test"
LABELS = ("article_type", "sub_category")
SHARES = (0.25, 0.5, 0.75)
BEFORE = "CLIP, pretrained"


def side_evaluations(material: Material) -> tuple[list[ResultRecord], dict[str, Table]]:
    """Records of every run of every row, and of the CLIP that all of them started from; tables by file suffix."""
    data = next(iter(material.catalogues.values()))

    def measure(encoder: Encoder, context: RecordContext, mixed: bool) -> list[ResultRecord]:
        return groups_and_labels(encoder, data, context, divisions=not mixed)

    records = before_and_after(material, measure)
    return records, side_tables([*material.merged, *records])


def before_and_after(
    material: Material, measure: Callable[[Encoder, RecordContext, bool], list[ResultRecord]]
) -> list[ResultRecord]:
    """What ``measure`` returns for the CLIP that all runs started from, for each run, and for weights between the two.

    Its last argument says whether the weights are between. Runs from scratch have no model before. The model before
    reads the texts of the runs, whatever it was trained with: recalls of other texts could not be compared.

    Raises:
        E2FashionError: the rows start from different models, or have different texts.
    """
    runs = [(title, folder) for title, folders in material.folders.items() for folder in folders]
    configs = [load_config(RunConfig, folder.config) for _, folder in runs]
    checkpoints = {config.model.checkpoint for config in configs}
    if len(checkpoints) > 1:
        raise E2FashionError(f"the rows start from different models, {sorted(map(str, checkpoints))}: compare one.")
    templates = {config.text.template for config in configs}
    if len(templates) > 1:
        raise E2FashionError(f"the rows have different texts, {sorted(templates)}: compare rows of one text.template.")
    checkpoint, text = checkpoints.pop(), templates.pop()
    before = replace(load_encoder(checkpoint, name=BEFORE), template=TextTemplate(text)) if checkpoint else None
    records: list[ResultRecord] = []
    if before is not None:
        records += measure(before, RecordContext(run="", model=BEFORE, split=SPLIT, text=text), False)
    for title, folder in runs:
        after = load_encoder(str(folder.path), name=title)
        context = identity_of(folder.read_record()).context(title, SPLIT, text)
        records += measure(after, context, False)
        if before is None:
            continue
        for share in SHARES:
            name = f"{title}, {share:.0%} of the way"
            mixed = replace(after, model=interpolate_weights(before.model, after.model, share), name=name)
            records += measure(mixed, replace(context, model=name), True)
    return records


def groups_and_labels(
    encoder: Encoder, data: Catalogue, context: RecordContext, divisions: bool = True
) -> list[ResultRecord]:
    """R@1 by brand and length of text (``divisions``); zero-shot accuracy and F1 by those of :data:`LABELS` there are.

    Raises:
        E2FashionError: the catalogue has none of the labels.
    """
    context = replace(context, data_fingerprint=data.fingerprint)
    columns = [column for column in LABELS if column in data.tag_columns]
    if not columns:
        raise E2FashionError(f"{data.path} has none of the tag columns {', '.join(LABELS)}: no label to predict.")
    embedded = embed_catalogue(encoder, data, context.split, progress=False)
    records: list[ResultRecord] = []
    for column in columns:
        records += measure_zero_shot(encoder, data, embedded, context, column)
    if divisions:
        rankings = [item for item in FullGallery().rank(embedded, context) if item.positives == "text"]
        groups = divisions_of(data, embedded.product_ids, context.split)
        records += recall_by_group(rankings, groups, context, FullGallery.name)
    return records


def divisions_of(data: Catalogue, product_ids: Sequence[str], split: str) -> dict[str, list[str]]:
    """Groups of products: how many training products share the brand (0: unseen), and the length of the description."""
    rows = data.split(split).select_columns(["product_id", "brand", "description"])
    of_product = {row["product_id"]: row for row in rows}
    products = [of_product[product_id] for product_id in product_ids]
    brands = frequency_groups(data.split("train")["brand"], [row["brand"] for row in products])
    return {
        "training products of the brand": brands,
        "words of the description": length_groups([row["description"] for row in products]),
    }


def side_tables(records: Sequence[ResultRecord]) -> dict[str, Table]:
    """By file suffix: R@1 by group, a table per division and direction; zero-shot metrics by label column."""
    tables: dict[str, Table] = {}
    grouped = [record for record in records if record.task == "retrieval_by_group"]
    for number, division in enumerate(dict.fromkeys(record.extra["division"] for record in grouped)):
        for direction in dict.fromkeys(record.direction for record in grouped):
            chosen = [r for r in grouped if (r.extra["division"], r.direction) == (division, direction)]
            caption = (
                f"{TITLES[direction]} {chosen[0].metric} by {division} (queries in brackets), protocol "
                f"`{chosen[0].protocol}` on {chosen[0].split}, a hit is any product with the "
                f"same {chosen[0].positives}."
            )
            tables[f"_groups_{number}_{direction}"] = mean_table(
                chosen, lambda record: f"{record.extra['group']} ({record.queries})", caption
            )
    if zero_shot := [record for record in records if record.task == "zero_shot"]:
        caption = (
            f"Zero-shot classification on {zero_shot[0].split} in percent: the label itself is its text, among all "
            "labels of the split (their number in brackets). 'Of the way' lies between the weights before and after "
            "fine-tuning."
        )
        tables["_zero_shot"] = mean_table(
            zero_shot, lambda record: f"{record.extra['entity']} ({record.candidates:g}) {record.metric}", caption
        )
    return tables


def mean_table(records: Sequence[ResultRecord], column: Callable[[ResultRecord], str], caption: str) -> Table:
    """A row per model, a column per value of ``column``."""
    columns = [Column(title, title) for title in dict.fromkeys(map(column, records))]
    return pivot(records, ("model",), columns, row=lambda record: record.model, column=column, caption=caption)
