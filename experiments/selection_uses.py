"""Where faithful selection pays besides retrieval (ours): captions, text-guided retrieval, and the location of a tag.

Claim: region features that depend on what their tokens select help in tasks that read a tag from the image: their
nearest tags as the prompt of a caption decoder, the regional score in text-guided retrieval, selected patches as the
location of a tag, compared with occlusion, which needs some 70 passes of the image tower.
Runs: rows of ``configs/ablation/faithful_selection.yaml``, those of ``experiments.ablation_selection``.
Protocol: test. Captions: descriptions of drawn garments by the small DeCap and CapDec, without a prompt and with the
tags nearest to the regions, or to the whole image, as one; the epoch of a decoder is chosen by its loss on val's
texts. Text-guided retrieval: another color of the same gender and article type (photos with a drawn logo), another
brand of the same product line (drawn garments), by the global and by the regional score; the weight of ``sum`` is
chosen on val. Location: the lift of docs/selection.md, of tokens, attention and occlusion.

Command::

    python -m experiments.selection_uses --data synthfashion=<catalogue> --only clip_ft,heads
    python -m experiments.selection_uses --data kagl_logos=<catalogue> --only clip_ft,paper,heads
    python -m experiments.selection_uses --scale pretrained --data kagl=<catalogue> --seeds 0,1,2 --only clip_ft,heads

Cost: the runs of ``experiments.ablation_selection``, which it shares. On one core a decoder takes two to five minutes
(CLIP-FT and an E2 have four each), occlusion three minutes a row, the rest half a minute a run.
Deviations: not in the paper. Of photos as they are (``--scale pretrained``) no region is known; there the agreement of
maps with occlusion is measured, on 100 products, and nothing else. Names of photographed products mention no drawn
logo, so there are no captions of these.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from e2fashion.data.catalogue import Catalogue
from e2fashion.encoder import load_encoder
from e2fashion.measuring import identity_of
from e2fashion.tables import Table
from e2fashion.tasks.captioning.measure import CAPTIONING
from e2fashion.tasks.captioning.tables import caption_table
from e2fashion.tasks.composed.config import ComposeConfig
from e2fashion.tasks.composed.tables import composed_tables
from e2fashion.tasks.localization.agreement import AGREEMENT, agreement_table, measure_agreement
from e2fashion.tasks.localization.measure import SELECTION, has_regions, lift_table, measure_selection
from e2fashion.types import ResultRecord
from experiments.common.command import main
from experiments.common.experiment import Experiment, Material
from experiments.common.tables import write_tables
from experiments.composed_retrieval import measure_rows
from experiments.table4_captioning import Variant, measure_captions

SPLIT = "test"
DECODERS = (
    Variant("decap", reading=("nearest", "direct", "project")),
    Variant("decap", reading=("direct", "project"), prompt_from="regions"),
    Variant("decap", reading=("direct", "project"), prompt_from="image"),
    Variant("capdec", reading=("direct",)),
    Variant("capdec", reading=("direct",), prompt_from="regions"),
    Variant("capdec", reading=("direct",), prompt_from="image"),
)
CAPTIONED = ("synthfashion",)
CHANGES: Mapping[str, Mapping[str, Any]] = {
    "synthfashion": {"line_columns": ["group"], "colour_column": "brand", "instruction": "by {}"},
    "kagl_logos": {"line_columns": ["gender", "article_type"]},
}
"""What differs between a query's image and its target, and what agrees."""
SMOKE_CHANGES: Mapping[str, Any] = {"line_columns": ["sub_category"], "colour_column": "season"}
METHODS = ("tokens", "attention")
OCCLUDED = ("clip_ft", "heads")
"""Rows that are also measured by occlusion, with their first seed alone."""
PHOTOS = 100
"""Products whose maps are compared with occlusion where no region is known."""


def view(material: Material) -> list[Path]:
    """Tables of captions, text-guided retrieval and lifts."""
    (name, catalogue), *_ = material.catalogues.items()
    records: list[ResultRecord] = [*material.merged]
    tables: dict[str, Table] = {}
    if name in CAPTIONED:
        records += measure_captions(material, DECODERS[:3] if material.smoke else DECODERS)[0]
        tables["_captions"] = caption_table([record for record in records if record.task == CAPTIONING.task])
    resamples, changes = (50, SMOKE_CHANGES) if material.smoke else (1000, CHANGES.get(name, {}))
    for similarity in ("global", "global+regions") if changes else ():
        task = ComposeConfig(data=str(catalogue.path), line_name=False, resamples=resamples, **changes)
        records += measure_rows(material, replace(task, similarity=similarity), similarity)[0]
    tables |= {f"_composed_{number}": table for number, table in enumerate(composed_tables(records))}
    records += list(_places(material, catalogue))
    for suffix, kind, table in (("_lift", SELECTION, lift_table), ("_agreement", AGREEMENT, agreement_table)):
        if of_task := [record for record in records if record.task == kind.task]:
            tables[suffix] = table(of_task)
    return write_tables(replace(material, records=records), tables)


def _places(material: Material, catalogue: Catalogue) -> Iterator[ResultRecord]:
    """Whether maps are on the true regions; where these are not known, whether they agree with occlusion."""
    regions = has_regions(catalogue, SPLIT)
    first = (load_encoder(str(folders[0].model)).selecting_entities for folders in material.folders.values())
    entities = () if regions else next(filter(None, first), ())
    for title, folders in material.folders.items():
        for number, folder in enumerate(folders):
            encoder, run = load_encoder(str(folder.model), name=title), identity_of(folder.read_record())
            shown = not material.smoke
            if regions:
                methods = [*METHODS, *(["occlusion"] if number == 0 and title in OCCLUDED else [])]
                yield from measure_selection(encoder, catalogue, [SPLIT], methods, run=run, progress=shown)
            else:
                given = (catalogue, SPLIT, METHODS, entities, PHOTOS)
                yield from measure_agreement(encoder, *given, run=run, progress=shown)


EXPERIMENT = Experiment(
    name="selection_uses",
    title="Uses of faithful selection",
    ablation="faithful_selection",
    recipes={
        "small": {"synthfashion": "quickstart", "kagl_logos": "kagl_logos"},
        "pretrained": {"kagl": "kagl_pretrained"},
    },
    baseline="clip_ft",
    view=view,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
