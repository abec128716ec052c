"""The paper's situation in small: one pretrained CLIP, and every system fine-tuned from it with three seeds.

Claim: started from the same CLIP, with the same text, recipe and data, E2 retrieves better than CLIP-FT and FILIP-FT.
The paper makes it for OpenAI's ViT-B/32 on Fashion-Gen (R@1 +7.6 and +9.1 over CLIP-FT).

Commands::

    e2fashion data prepare configs/data/kagl_60x80.yaml path=<images.parquet> output=catalogues/kagl_60x80
    e2fashion data prepare configs/data/kagl.yaml path=<fashion-product-images> output=catalogues/kagl
    e2fashion train configs/run/kagl_pretrain.yaml data=catalogues/kagl_60x80
    python -m experiments.kagl_pretrained catalogues/kagl

Cost on two cores of a server CPU with bf16 arithmetic: 30 minutes to pretrain; 4 (CLIP-FT) to 7 (E2) minutes a run,
fifteen runs in all; two minutes of measuring.
Protocol: ``full``, first views, text with tags; a hit is any product with the same text. Epochs are chosen on val; test
is read once, when every run is finished. Each system has the same recipe and no tuning of its own.
Measured beside it: R@1 by how often training saw the brand and by the length of the text; zero-shot classification
before and after fine-tuning, and with weights between the two.
Deviations from the paper: small towers pretrained on names alone, 112 px, the entities that this catalogue has, AdamW,
flips, bf16, 1 + 8 epochs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from e2fashion.ablation import RowResult, run_ablation
from e2fashion.data.catalogue import Catalogue
from e2fashion.eval.breakdown import frequency_groups, length_groups, recall_by_group
from e2fashion.eval.classify import measure_zero_shot
from e2fashion.eval.encoder import Encoder, load_encoder
from e2fashion.eval.measure import MeasureSettings, embed_catalogue
from e2fashion.eval.protocols import FullGallery
from e2fashion.eval.rankings import RecordContext
from e2fashion.eval.results import append_records
from e2fashion.models.interpolate import interpolate_weights
from e2fashion.types import ResultRecord

ABLATION = Path("configs") / "ablation" / "kagl_pretrained.yaml"
PRETRAINED = "runs/kagl_pretrain/model"
RECORDS = Path("docs") / "results" / "kagl_pretrained.jsonl"
SPLIT = "test"
LABELS = ("article_type", "sub_category")
SHARES = (0.25, 0.5, 0.75)
QUIET = MeasureSettings(progress=False)


def main(catalogue: str, *overrides: str, records: str | Path = RECORDS, jobs: int = 2) -> None:
    """Train what is not trained yet, read test once, and keep the records; ``overrides`` go to the ablation."""
    words = [f"data={catalogue}", *overrides]
    run_ablation(ABLATION, [*words, "split=val"], jobs=jobs)
    rows = run_ablation(ABLATION, [*words, f"split=val,{SPLIT}"], jobs=1)
    data = Catalogue.load(catalogue)
    before = load_encoder(PRETRAINED, name="CLIP, pretrained")
    kept = [record for row in rows for record in row.records]
    kept += groups_and_labels(before, data, RecordContext(run="", model=before.name, split=SPLIT))
    for row in rows:
        kept += beside_retrieval(row, before, data)
    target = Path(records)
    target.unlink(missing_ok=True)
    append_records(target, kept)
    print(f"records: {target}. Write the page anew: python -m scripts.results_page")


def beside_retrieval(row: RowResult, before: Encoder, data: Catalogue) -> list[ResultRecord]:
    """Groups of queries and zero-shot classification of every seed's model, the latter also with mixed weights."""
    found: list[ResultRecord] = []
    for seed, folder in row.folders.items():
        after = load_encoder(str(folder), name=row.name)
        context = RecordContext(run="", model=row.name, split=SPLIT, seed=seed)
        found += groups_and_labels(after, data, context)
        for share in SHARES:
            name = f"{row.name}, {share:.0%} of the way"
            mixed = replace(after, model=interpolate_weights(before.model, after.model, share), name=name)
            found += groups_and_labels(mixed, data, replace(context, model=name), divisions=False)
    return found


def groups_and_labels(
    encoder: Encoder, data: Catalogue, context: RecordContext, divisions: bool = True
) -> list[ResultRecord]:
    """R@1 by brand and length of text (``divisions``), and zero-shot accuracy and F1 by each of :data:`LABELS`."""
    context = replace(context, data_fingerprint=data.fingerprint)
    embedded = embed_catalogue(encoder, data, context.split, settings=QUIET)
    found: list[ResultRecord] = []
    for column in LABELS:
        found += measure_zero_shot(encoder, data, embedded, context, column)
    if divisions:
        rankings = [item for item in FullGallery().rank(embedded, context) if item.positives == "text"]
        found += recall_by_group(rankings, divisions_of(data, embedded.product_ids, context.split), context, "full")
    return found


def divisions_of(data: Catalogue, product_ids: Sequence[str], split: str) -> dict[str, list[str]]:
    """By how many training products share the brand (0: unseen), and by the words of the name, per product."""
    rows = data.split(split).select_columns(["product_id", "brand", "description"])
    of_product = {row["product_id"]: row for row in rows}
    products = [of_product[product_id] for product_id in product_ids]
    brands = frequency_groups(data.split("train")["brand"], [row["brand"] for row in products])
    return {
        "training products of the brand": brands,
        "words of the name": length_groups([row["description"] for row in products]),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
