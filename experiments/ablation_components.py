"""The ablation of components: E2 without its fusion blocks, its regional loss, its warm-up stage; CLIP-FT and FILIP-FT.

Claim: selection tokens, fusion blocks and the regional loss each contribute.
Runs: ``configs/ablation/components.yaml`` on the scale's E2 configuration.
Protocol: ``full``, first views, text with tags; differences are against E2.

Command::

    python -m experiments.ablation_components --data fashiongen=<catalogue>
    python -m experiments.ablation_components --scale small --data kagl=<catalogue> --seeds 0,1,2
    python -m experiments.ablation_components --scale pretrained --data kagl=<catalogue> --seeds 0,1,2

Cost: the paper's scale has not been run here; small on KAGL 6 runs a seed, about 15 minutes each on two cores.
Deviations: ``--scale small`` has no warm-up stage to leave out: it trains from scratch. What the
paper's row "FILIP backbone" is could not be read: FILIP-FT is FILIP's loss on CLIP, ``e2_filip_backbone`` E2's regional
part with FILIP's loss.
"""

from __future__ import annotations

import sys

from experiments.common.command import main
from experiments.common.experiment import Experiment
from experiments.common.tables import retrieval_view

EXPERIMENT = Experiment(
    name="ablation_components",
    title="What each component brings",
    table="ablation_components",
    ablation="components",
    baseline="e2",
    view=retrieval_view("full", parameters=True),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
