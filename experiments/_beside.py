"""What a fine-tuned model does beside retrieval: recall by groups, zero-shot labels, and weights in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from e2fashion.config import load_config
from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import Encoder, load_encoder
from e2fashion.models.interpolate import interpolate_weights
from e2fashion.records import RecordContext
from e2fashion.run_folder import RunFolder
from e2fashion.tables import Table
from e2fashion.tasks.classification.classify import measure_zero_shot
from e2fashion.tasks.retrieval.breakdown import frequency_groups, length_groups, recall_by_group
from e2fashion.tasks.retrieval.measure import embed_catalogue
from e2fashion.tasks.retrieval.protocols import FullGallery
from e2fashion.training.config import RunConfig
from e2fashion.types import E2FashionError, ResultRecord
from experiments._beside_tables import beside_tables
from experiments._experiment import Material

SPLIT = "test"
LABELS = ("article_type", "sub_category")
SHARES = (0.25, 0.5, 0.75)
BEFORE = "CLIP, pretrained"


def measure_beside(material: Material) -> tuple[list[ResultRecord], dict[str, Table]]:
    """Records of every run of every row, and of the CLIP that all of them started from; tables by file suffix.

    Runs that started from nothing have no model before and no weights in between.
    """
    data = next(iter(material.catalogues.values()))
    runs = [(title, folder) for title, folders in material.folders.items() for folder in folders]
    checkpoints = {load_config(RunConfig, folder.config).model.checkpoint for _, folder in runs}
    if len(checkpoints) > 1:
        raise E2FashionError(f"the rows start from different models, {sorted(map(str, checkpoints))}: compare one.")
    checkpoint = checkpoints.pop()
    before = load_encoder(checkpoint, name=BEFORE) if checkpoint else None
    records: list[ResultRecord] = []
    if before is not None:
        records += groups_and_labels(before, data, RecordContext(run="", model=BEFORE, split=SPLIT))
    for title, folder in runs:
        records += beside_retrieval(title, folder, before, data)
    return records, beside_tables(records)


def beside_retrieval(title: str, folder: RunFolder, before: Encoder | None, data: Catalogue) -> list[ResultRecord]:
    """Groups of queries and zero-shot classification of a run's model, the latter also with mixed weights."""
    made = folder.read_record()
    after = load_encoder(str(folder.path), name=title)
    context = RecordContext(
        run=made["identity"],
        model=title,
        split=SPLIT,
        seed=made["seed"],
        config_hash=made["identity"],
        commit=made.get("commit") or "",
    )
    found = groups_and_labels(after, data, context)
    if before is None:
        return found
    for share in SHARES:
        name = f"{title}, {share:.0%} of the way"
        mixed = replace(after, model=interpolate_weights(before.model, after.model, share), name=name)
        found += groups_and_labels(mixed, data, replace(context, model=name), divisions=False)
    return found


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
    found: list[ResultRecord] = []
    for column in columns:
        found += measure_zero_shot(encoder, data, embedded, context, column)
    if divisions:
        rankings = [item for item in FullGallery().rank(embedded, context) if item.positives == "text"]
        groups = divisions_of(data, embedded.product_ids, context.split)
        found += recall_by_group(rankings, groups, context, FullGallery.name)
    return found


def divisions_of(data: Catalogue, product_ids: Sequence[str], split: str) -> dict[str, list[str]]:
    """By how many training products share the brand (0: unseen), and by the words of the description, per product."""
    rows = data.split(split).select_columns(["product_id", "brand", "description"])
    of_product = {row["product_id"]: row for row in rows}
    products = [of_product[product_id] for product_id in product_ids]
    brands = frequency_groups(data.split("train")["brand"], [row["brand"] for row in products])
    return {
        "training products of the brand": brands,
        "words of the description": length_groups([row["description"] for row in products]),
    }
