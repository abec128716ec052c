"""The ablation of selection (ours): from the paper's form to faithful selection, controls, and further forms.

Claim: tokens that see the image only through the patches that they read, early in the network, select the region of the
tag, and their region features then improve retrieval (docs/method.md).
Runs: ``configs/ablation/faithful_selection.yaml`` on the scale's E2 in the paper's form.
Protocol: ``full`` and ``full_regions``, first views of test, text with tags, a hit is any product with the same text;
lambda of the regional score is chosen on val. Differences are against CLIP-FT. Lift as in docs/selection.md.

Command::

    python -m experiments.ablation_selection --data synthfashion=<catalogue> --seeds 0,1,2
    e2fashion data prepare configs/data/synthfashion.yaml detail_scale=0.5 output=<catalogue of small details>
    python -m experiments.ablation_selection --data synthfashion=<catalogue of small details> --only clip_ft,heads \
        --seeds 0,1,2
    python -m experiments.ablation_selection --data kagl_logos=<catalogue> --seeds 0,1,2
    python -m experiments.ablation_selection --data kagl=<catalogue> --only clip_ft,heads
    python -m experiments.ablation_selection --scale pretrained --data kagl=<catalogue> \
        --only clip_ft,heads,heads_gate,pooled_late

Cost: 28 runs a seed, about four minutes each on two AVX2 cores; from the pretrained CLIP seven to nine on two cores
with bf16 arithmetic.
Deviations: not in the paper. Garments are drawn, or real photos carry drawn logos: what holds there need not hold for
photos as they are.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from e2fashion.tasks.localization.measure import SELECTION, lift_table
from e2fashion.tasks.retrieval.protocols import COMPARED
from e2fashion.tasks.retrieval.tables import difference_table, retrieval_table
from experiments.common.command import main
from experiments.common.experiment import Experiment, Material
from experiments.common.tables import difference_records, write_tables

SPLIT, POSITIVES = "test", "text"


def view(material: Material) -> list[Path]:
    """The recalls and the differences under the global and the regional score, and the lifts."""
    tables = {
        f"_{name}": retrieval_table(material.records, split=SPLIT, protocol=name, positives=POSITIVES)
        for name in COMPARED
    }
    differences = [record for name in COMPARED for record in difference_records(material, SPLIT, name)]
    for name in COMPARED:
        if alike := [record for record in differences if record.protocol == name]:
            tables[f"_{name}_differences"] = difference_table(alike, POSITIVES)
    if lifts := [record for record in material.records if record.task == SELECTION.task]:
        tables["_lift"] = lift_table(lifts)
    return write_tables(replace(material, records=[*material.records, *differences]), tables)


EXPERIMENT = Experiment(
    name="ablation_selection",
    title="Faithful selection",
    ablation="faithful_selection",
    recipes={
        "small": {"synthfashion": "quickstart", "kagl_logos": "kagl_logos", "kagl": "quickstart"},
        "pretrained": {"kagl": "kagl_pretrained"},
    },
    baseline="clip_ft",
    protocols=COMPARED,
    view=view,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
