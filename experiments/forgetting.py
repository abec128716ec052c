"""What fine-tuning forgets (ours): zero-shot classification of sets that it never saw, before, after and in between.

Claim: the regional terms, adapters (LoRA), lower learning rates in early layers and a frozen text tower each keep more
of what the pretrained CLIP could do than plain fine-tuning does; weights between the two keep most of it (WiSE-FT).
Runs: ``configs/ablation/forgetting.yaml``.
Protocol: SumR under ``full``, first views of test of the set that was fine-tuned on, text with tags, a hit is any
product with the same text; accuracy of zero-shot classification on test of the other sets, the label itself is its
text. "Of the way" lies between the weights before and after. Each row has the same recipe; none is tuned.

Command::

    e2fashion data prepare configs/data/kagl_60x80.yaml path=<images.parquet> output=catalogues/kagl_60x80
    e2fashion data prepare configs/data/kagl.yaml path=<fashion-product-images> output=catalogues/kagl
    e2fashion data prepare labelled path=<fashion-mnist> invert=true output=catalogues/fashion_mnist
    e2fashion train configs/run/kagl_pretrain.yaml data=catalogues/kagl_60x80
    python -m experiments.forgetting --data kagl=catalogues/kagl --data fashion_mnist=catalogues/fashion_mnist \
        --seeds 0,1,2

``--data synthfashion=<catalogue>`` adds another set.

Cost: five runs a seed of 4 (CLIP-FT) to 7 (E2) minutes on two cores of a server CPU with bf16 arithmetic; measuring
takes a minute for each set and row, and each of the three weights between.
Deviations: not in the paper. A small CLIP has little to forget, and 28 x 28 pixels are not what it was trained on.
``--smoke`` starts from nothing, so that there is no model before, and takes its drawn garments for the unseen set.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from e2fashion.data.catalogue import Catalogue
from e2fashion.data.text import DESCRIPTION, TextTemplate
from e2fashion.encoder import Encoder
from e2fashion.records import RecordContext
from e2fashion.tables import Table
from e2fashion.tasks.classification.classify import measure_zero_shot
from e2fashion.tasks.retrieval.measure import embed_catalogue
from e2fashion.tasks.retrieval.protocols import FullGallery
from e2fashion.tasks.retrieval.rankings import records_of
from e2fashion.types import E2FashionError, ResultRecord
from experiments.common.command import main
from experiments.common.experiment import DATA_SETS, FASHIONGEN, Experiment, Material, load_catalogue
from experiments.common.side_evaluations import SPLIT, before_and_after, mean_table
from experiments.common.tables import write_tables

UNSEEN = {"fashion_mnist": ("label",), "synthfashion": ("sub_category", "season")}
"""Data sets that no run is trained on, and the tags that are predicted."""

DESCRIPTIONS = TextTemplate(f"{{{DESCRIPTION}}}")


def view(material: Material) -> list[Path]:
    """The table of every row before, after and between.

    Raises:
        E2FashionError: no unseen set was given.
    """
    unseen = {name: load_catalogue(name, folder) for name, folder in material.raw.items()}
    if material.smoke and not unseen:
        unseen = dict(material.catalogues)
    if not unseen:
        sources = "\n".join(DATA_SETS[name].source for name in UNSEEN)
        raise E2FashionError(
            f"{material.experiment.name} needs a set that no run was trained on: the same command with --view and with "
            f"one of {', '.join(f'--data {name}=<catalogue>' for name in UNSEEN)}.\n{sources}"
        )
    records = [*material.merged, *forgetting_records(material, unseen)]
    return write_tables(replace(material, records=records), {"": forgetting_table(records)})


def forgetting_records(material: Material, unseen: Mapping[str, Catalogue]) -> list[ResultRecord]:
    """Retrieval on the set that was fine-tuned on, and zero-shot classification of the ``unseen`` ones."""
    home = next(iter(material.catalogues.values()))

    def measure(encoder: Encoder, context: RecordContext, mixed: bool) -> list[ResultRecord]:
        context = replace(context, data_fingerprint=home.fingerprint)
        ranked = FullGallery().rank(embed_catalogue(encoder, home, SPLIT, progress=False), context)
        records = records_of([item for item in ranked if item.positives == "text"], context, FullGallery.name)
        for name, catalogue in unseen.items():
            # The model's template may name columns that this set lacks; its texts are not scored.
            embedded = embed_catalogue(encoder, catalogue, SPLIT, DESCRIPTIONS, progress=False)
            context = replace(context, data_fingerprint=catalogue.fingerprint, text="")
            for column in UNSEEN[name]:
                records += [
                    replace(record, extra={**record.extra, "data": DATA_SETS[name].title})
                    for record in measure_zero_shot(encoder, catalogue, embedded, context, column)
                ]
        return records

    return before_and_after(material, measure)


def forgetting_table(records: Sequence[ResultRecord]) -> Table:
    """A row for each model: SumR, and the accuracy on each unseen set."""
    shown = [record for record in records if record.metric in ("SumR", "accuracy")]
    caption = (
        f"SumR of the set that was fine-tuned on, and accuracy of zero-shot classification on sets that fine-tuning "
        f"never saw (classes in brackets), in percent, on {SPLIT}. 'Of the way' lies between the weights before and "
        "after fine-tuning."
    )
    return mean_table(shown, _title, caption)


def _title(record: ResultRecord) -> str:
    if record.metric == "SumR":
        return "SumR"
    return f"{record.extra['data']}: {record.extra['entity']} ({record.candidates:g})"


EXPERIMENT = Experiment(
    name="forgetting",
    title="What fine-tuning forgets",
    ablation="forgetting",
    baseline="clip_ft",
    recipes={"pretrained": FASHIONGEN["pretrained"]},
    raw=tuple(UNSEEN),
    view=view,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
