"""Table 1: retrieval on Fashion-Gen among all candidates, CLIP, CLIP-FT, FILIP-FT, E2 and earlier systems.

Claim: with the same backbone, text and recipe, E2 retrieves better than fine-tuning CLIP (paper: +9.1 text-to-image,
+7.6 image-to-text R@1).
Runs: ``configs/run/fashiongen_clip_ft.yaml`` (without training: CLIP), ``fashiongen_filip_ft.yaml``,
``fashiongen_e2.yaml``.
Protocol: ``full``, first views, text with tags; a hit is the same product (second table: any with the same text).

Command::

    python -m experiments.table1_full_candidates --data fashiongen=<catalogue>
    python -m experiments.table1_full_candidates --scale small --data kagl=<catalogue> --seeds 0,1,2

Cost: the paper's scale has not been run here (20 to 25 epochs of about 54,000 products, three times, on one GPU);
small on KAGL about 50 minutes a seed on two cores of a server CPU with bf16 arithmetic (an estimate).
The small E2 on KAGL has the settings that val chose (``configs/run/kagl_small_e2.yaml``), not the paper's.
Deviations: the epoch is chosen on products held out from the training file. FashionViL's published row has another
protocol, which its source line names. ``--scale small`` trains small towers from scratch: its CLIP row is chance.
"""

from __future__ import annotations

import sys

from experiments.common.command import main
from experiments.common.experiment import SYSTEMS, Experiment
from experiments.common.tables import retrieval_view

EXPERIMENT = Experiment(
    name="table1_full_candidates",
    title="Full candidates",
    table="table1",
    rows=SYSTEMS,
    baseline="CLIP-FT",
    view=retrieval_view("full"),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
